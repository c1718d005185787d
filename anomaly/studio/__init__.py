"""Photographs of made-up packaged products, pristine and damaged, with pixel truth.

The names below are the public ones.
"""

from anomaly.studio.damage import DAMAGES, FACE_DAMAGES, Damage
from anomaly.studio.face import Face, Product
from anomaly.studio.products import make_products
from anomaly.studio.render import Photograph, render
from anomaly.studio.scene import BACKGROUNDS, Light, Shot, draw_shot, face_to_frame

__all__ = [
    "BACKGROUNDS",
    "DAMAGES",
    "FACE_DAMAGES",
    "Damage",
    "Face",
    "Light",
    "Photograph",
    "Product",
    "Shot",
    "draw_shot",
    "face_to_frame",
    "make_products",
    "render",
]
