"""Photographs of made-up packaged products, pristine and damaged, with pixel truth.

The names below are the public ones.
"""

from anomaly.studio.boxes import labelled_box
from anomaly.studio.damage import (
    DAMAGES,
    FACE_DAMAGES,
    LABEL_DAMAGES,
    OUTLINE_DAMAGES,
    Damage,
)
from anomaly.studio.difficulty import LEVELS, Difficulty, level, tilt_for
from anomaly.studio.face import Face, Product
from anomaly.studio.goods import Goods, lying, make_goods
from anomaly.studio.nuisance import NUISANCES, Nuisance
from anomaly.studio.printed_art import ART, art_carton, design_variant
from anomaly.studio.products import DOZEN, make_product, make_products
from anomaly.studio.render import Photograph, render
from anomaly.studio.scene import BACKGROUNDS, Light, Shot, draw_shot, face_to_frame

__all__ = [
    "ART",
    "BACKGROUNDS",
    "DAMAGES",
    "DOZEN",
    "FACE_DAMAGES",
    "LABEL_DAMAGES",
    "LEVELS",
    "NUISANCES",
    "OUTLINE_DAMAGES",
    "Damage",
    "Difficulty",
    "Face",
    "Goods",
    "Light",
    "Nuisance",
    "Photograph",
    "Product",
    "Shot",
    "art_carton",
    "design_variant",
    "draw_shot",
    "face_to_frame",
    "labelled_box",
    "level",
    "lying",
    "make_goods",
    "make_product",
    "make_products",
    "render",
    "tilt_for",
]
