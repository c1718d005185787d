"""Loose goods: pieces without print, no two alike, that lie otherwise in every photograph, as
biscuits, nuts or screws do. Nothing of them has a place."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.studio.face import FACE_PX, Colour, Face, Product, Real
from anomaly.studio.fields import fractal_noise, largest_share, mix, smooth_noise, step

_MOST_PIECES = 12
_TRIES = 40  # places drawn for a piece, of which it takes the one with most room
_LARGEST = 1.08  # of the pieces, in their usual size
_WAVIEST = 1.1  # an outline's reach, in radii
_SHADOW = 0.45  # of a piece on those that it lies on
_HARMONICS = np.arange(2, 7)


@dataclass(frozen=True)
class Goods:
    """What all pieces share.

    count     pieces in a photograph
    slender   width over length
    wavy      how far an outline strays from an ellipse, as a share of its radius
    flat      2 for a dome, more for a disc with rounded edges
    relief    how strongly the surface catches the light, and its grain in face pixels
    tones     RGB of most of it, of its mottling and of its specks
    mottled, specked  shares of the surface
    """

    goods_id: str
    count: int
    slender: float
    wavy: float
    flat: float
    relief: tuple[float, float]
    tones: tuple[Colour, Colour, Colour]
    mottled: float
    specked: float
    gloss: float


def make_goods(*, seed: int) -> Goods:
    """The goods of a seed: from a single piece to a dozen, of one to three tones."""
    rng = np.random.default_rng([seed, 0])
    ground = np.array([rng.uniform(5, 30), rng.uniform(60, 170), rng.uniform(110, 220)])
    if rng.random() < 0.4:  # most loose goods are brown, yellow or red, but not all
        ground[:2] = rng.uniform(0, 180), rng.uniform(10, 200)
    second = ground + rng.uniform([-12, -30, -60], [12, 30, 40])
    third = ground + rng.uniform([-20, -40, 0], [20, 40, 0])
    third[2] += rng.choice([-95, -70, 60])
    return Goods(
        goods_id=f"g{seed}",
        count=round(_MOST_PIECES ** rng.random()),
        slender=float(rng.uniform(0.35, 1.0)),
        wavy=float(rng.uniform(0.0, 0.12)),
        flat=float(rng.uniform(2.0, 8.0)),
        relief=(float(rng.uniform(0.0, 0.5)), float(rng.uniform(12, 60))),
        tones=(_rgb(ground), _rgb(second), _rgb(third)),
        mottled=float(rng.uniform(0.1, 0.5)),
        specked=float(rng.choice([0.0, rng.uniform(0.02, 0.2)])),
        gloss=float(rng.uniform(0.0, 0.5)),
    )


def lying(goods: Goods, rng: np.random.Generator) -> Product:
    """The goods as they lie in one photograph: other pieces, elsewhere."""
    colour = np.zeros((FACE_PX, FACE_PX, 3), np.float32)
    alpha = np.zeros((FACE_PX, FACE_PX), np.float32)
    # Many small pieces or a few large ones cover the face alike.
    radius = FACE_PX * min(0.4, 0.37 / np.sqrt(goods.count * goods.slender))
    for x, y in _places(rng, goods.count, _WAVIEST * _LARGEST * radius):
        piece, cover = _piece(rng, goods, radius * rng.uniform(2 - _LARGEST, _LARGEST))
        _lay(colour, alpha, piece, cover, at=(x, y))
    face = Face(colour.clip(0, 255).astype(np.uint8), alpha)
    return Product(goods.goods_id, "goods", {"front": face}, gloss=goods.gloss)


def _rgb(hsv: NDArray[np.float64]) -> Colour:
    """One colour of OpenCV's HSV; what lies beyond its range is drawn in."""
    drawn = np.array([[[hsv[0] % 180, *np.clip(hsv[1:], 0, 255)]]]).astype(np.uint8)
    rgb: Colour = cv2.cvtColor(drawn, cv2.COLOR_HSV2RGB)[0, 0]
    return rgb


def _places(rng: np.random.Generator, count: int, reach: float) -> NDArray[np.float64]:
    """(count, 2) centres x, y, each where there is most room of some that were drawn, and at least
    `reach` from the face's border."""
    low, high = reach, FACE_PX - reach
    found = [rng.uniform(low, high, 2) if count > 1 else np.full(2, FACE_PX / 2)]
    while len(found) < count:
        drawn = rng.uniform(low, high, (_TRIES, 2))
        room = np.linalg.norm(drawn[:, None] - np.array(found)[None], axis=2).min(axis=1)
        found.append(drawn[room.argmax()])
    return np.array(found)


def _piece(rng: np.random.Generator, goods: Goods, radius: float) -> tuple[Real, Real]:
    """A piece's (n, n, 3) colour and (n, n) coverage; it lies at any angle."""
    side = 2 * int(np.ceil(_WAVIEST * radius)) + 5
    axis = np.arange(side, dtype=np.float32) - side // 2
    turn = rng.uniform(-np.pi, np.pi)
    along = axis[None, :] * np.cos(turn) + axis[:, None] * np.sin(turn)
    across = axis[:, None] * np.cos(turn) - axis[None, :] * np.sin(turn)
    angle, away = np.arctan2(across, along), np.hypot(along, across)
    outline = radius / np.hypot(np.cos(angle), np.sin(angle) / goods.slender)
    strengths = goods.wavy * rng.standard_normal(len(_HARMONICS)) / _HARMONICS
    phases = rng.uniform(-np.pi, np.pi, len(_HARMONICS))
    waves = np.cos(_HARMONICS[:, None, None] * angle + phases[:, None, None])
    outline = np.minimum(outline * (1 + np.tensordot(strengths, waves, 1)), _WAVIEST * radius)
    cover = np.clip(outline - away + 0.5, 0, 1).astype(np.float32)
    height = np.sqrt(np.clip(1 - (away / outline) ** goods.flat, 0, 1)).astype(np.float32)
    strength, grain = goods.relief
    relief = strength * fractal_noise(rng, (side, side), grain_px=grain)
    surface = np.float32(0.5 * radius * height + 0.1 * grain * relief)
    surface = cv2.GaussianBlur(surface, (0, 0), 2)
    # From the upper left, as the lamp's fall-off has it on the mean.
    lit = 1 - 0.12 * (cv2.Sobel(surface, cv2.CV_32F, 1, 0) + cv2.Sobel(surface, cv2.CV_32F, 0, 1))
    pixels = _skin(rng, goods, (side, side), cover > 0)
    return pixels * np.clip(lit, 0.45, 1.4)[..., None], cover


def _skin(
    rng: np.random.Generator, goods: Goods, shape: tuple[int, int], on: NDArray[np.bool_]
) -> Real:
    """(h, w, 3) colour of a surface, evenly lit."""
    ground, second, third = (np.asarray(tone, np.float32) for tone in goods.tones)
    mottling = fractal_noise(rng, shape, grain_px=4 * goods.relief[1])
    share = largest_share(mottling, on, share=goods.mottled)
    skin = mix(np.broadcast_to(ground, (*shape, 3)), second, step(mottling - share, width=0.5))
    if goods.specked:
        specks = smooth_noise(rng, shape, grain_px=goods.relief[1])
        share = largest_share(specks, on, share=goods.specked)
        skin = mix(skin, third, step(specks - share, width=0.15))
    return skin + 4 * fractal_noise(rng, shape, grain_px=4, octaves=2)[..., None]


def _lay(colour: Real, alpha: Real, piece: Real, cover: Real, *, at: tuple[float, float]) -> None:
    """A piece onto those that lie there; what would reach beyond the face is cut off."""
    half = cover.shape[0] // 2
    left, top = int(at[0]) - half, int(at[1]) - half
    rows = slice(max(0, top), min(FACE_PX, top + cover.shape[0]))
    columns = slice(max(0, left), min(FACE_PX, left + cover.shape[1]))
    part = (rows, columns)
    own = (
        slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    )  # fmt: skip
    shade = cv2.GaussianBlur(cover, (0, 0), 5)[own]
    under = colour[part] * (1 - _SHADOW * shade)[..., None]
    colour[part] = mix(under, piece[own], cover[own])
    alpha[part] = np.maximum(alpha[part], cover[own])
