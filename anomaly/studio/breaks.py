"""Damage that moves the outline: dents that bite into it or bulge it, and flaps that burst open.

These work on a face padded on all sides (`padded`), so that what breaks out has room. Where the
product was and no longer is belongs to the truth, as does what lies outside its old outline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.studio.cuts import cardboard, crush
from anomaly.studio.face import Face, Mask, Real
from anomaly.studio.fields import fractal_noise, from_point, mix, smooth_noise
from anomaly.studio.wound import Wound, shape_of

_Vector = NDArray[np.float64]
PAD = 0.3  # of the longest side


def padded(face: Face) -> tuple[Face, int]:
    """The face in a larger sheet, and by how many pixels on each side."""
    pad = int(PAD * max(face.alpha.shape))
    colour = cv2.copyMakeBorder(face.colour, pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    return Face(colour, np.pad(face.alpha, pad)), pad


def dent(
    rng: np.random.Generator, face: Face, *, share: float, strength: float
) -> tuple[Face, Mask]:
    """A padded face crumpled at its rim, its outline pushed in or out; (h, w) bool truth.

    `share` of the face is crumpled, half a disc around a point of the outline, mostly a corner.
    """
    solid = face.alpha > 0.5
    at, inward = _rim_point(rng, solid)
    radius = float(np.sqrt(2 * share * solid.sum() / np.pi))
    push = (0.30 + 0.30 * strength) * radius * (1.0 if rng.random() < 0.65 else -0.8)
    middle = at + 0.35 * radius * inward
    half = 2.4 * radius + 24
    left, top = (max(0, int(place - half)) for place in middle)
    window = (slice(top, int(middle[1] + half)), slice(left, int(middle[0] + half)))
    part = Face(face.colour[window], face.alpha[window])
    wound = Wound((middle[0] - left, middle[1] - top), 0.8 * radius**2, strength)
    painted, hurt = crush(rng, part, wound)
    crumpled = painted.clip(0, 255).astype(np.uint8)
    x, y = from_point(shape_of(part), (at[0] - left, at[1] - top))
    bump = np.clip(1 - (x**2 + y**2) / (1.5 * radius) ** 2, 0, 1) ** 2
    rough = smooth_noise(rng, shape_of(part), grain_px=max(6.0, 0.45 * radius))
    move = (push * bump * (1 + 0.25 * np.tanh(rough))).astype(np.float32)
    columns, rows = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in x.shape[::-1]))
    maps = (columns - move * np.float32(inward[0]), rows - move * np.float32(inward[1]))
    moved, alpha = (
        cv2.remap(layer, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for layer in (crumpled, part.alpha)
    )
    # Board that is folded away from the camera at the rim gets less light.
    shade = 1 - 0.45 * np.clip(move / max(abs(push), 1), 0, 1) ** 2
    colour, outline = face.colour.copy(), face.alpha.copy()
    colour[window] = (moved * shade[..., None]).clip(0, 255).astype(np.uint8)
    outline[window] = alpha
    truth = np.zeros_like(solid)
    truth[window] = hurt | (np.abs(move) > 2)
    return replace(face, colour=colour, alpha=outline), truth & (solid | (outline > 0.5))


def _rim_point(rng: np.random.Generator, solid: Mask) -> tuple[_Vector, _Vector]:
    """(x, y) of a point of the outline, and the unit vector that leads inside from it."""
    outlines, _ = cv2.findContours(solid.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    rim = max(outlines, key=len)[:, 0].astype(np.float64)
    middle = rim.mean(axis=0)
    if rng.random() < 0.6:
        away = rim - middle
        quarter = (away[:, 0] * rng.choice([-1, 1]) > 0) & (away[:, 1] * rng.choice([-1, 1]) > 0)
        far = np.hypot(*away.T) * quarter
        at = rim[int(far.argmax())]
        inward = middle - at
    else:
        at = rim[int(rng.integers(len(rim)))]
        soft = cv2.GaussianBlur(solid.astype(np.float32), (0, 0), 9)
        column, row = at.astype(int)
        gaps = soft[row - 1 : row + 2, column - 1 : column + 2]
        inward = np.array([gaps[1, 2] - gaps[1, 0], gaps[2, 1] - gaps[0, 1]], np.float64)
    return at, inward / max(float(np.hypot(*inward)), 1e-6)


def open_flap(
    rng: np.random.Generator, face: Face, *, share: float, strength: float
) -> tuple[Face, Mask]:
    """A padded carton burst open at one end: a flap stands out, contents push over the edge.

    The opening, the flap and what came out cover about `share` of the face; (h, w) bool truth.
    """
    turns = int(rng.choice([0, 2, 0, 2, 1, 3]))  # ends open more often than sides
    colour, alpha = np.rot90(face.colour, turns).copy(), np.rot90(face.alpha, turns).copy()
    before = alpha > 0.5
    rows, columns = np.nonzero(before)
    edge, left, right = int(rows.min()), int(columns.min()), int(columns.max())
    wide = float(min(0.92 * (right - left), 1.9 * np.sqrt(share * before.sum())))
    tall = float(min(0.8 * edge, 0.75 * share * before.sum() / wide))
    start = rng.uniform(left + 0.03 * wide, right - 1.03 * wide)
    # Work in a window that nothing leaves: most of the face is not touched.
    top, side = max(0, int(edge - 1.2 * tall - 0.6 * wide)), max(0, int(start - 0.6 * wide))
    window = (slice(top, int(edge + tall + 1.3 * wide)), slice(side, int(start + 1.6 * wide)))
    part = colour[window].astype(np.float32)
    sheet = _Sheet(part, alpha[window], np.zeros(part.shape[:2], np.float32))
    mouth = _Mouth(start - side, float(edge - top), wide, tall)
    _flap(rng, sheet, mouth)
    lip = _opening(rng, sheet, mouth, depth=(0.25 + 0.35 * strength) * tall)
    _contents(rng, sheet, mouth, lip=lip)
    truth = np.zeros_like(before)
    colour[window], alpha[window] = sheet.colour.clip(0, 255).astype(np.uint8), sheet.alpha
    truth[window] = sheet.touched > 0.5
    opened = Face(np.rot90(colour, -turns).copy(), np.rot90(alpha, -turns).copy())
    return opened, np.rot90(truth, -turns).copy()


@dataclass(frozen=True)
class _Mouth:
    """Where a carton is open: from `start` over `wide` pixels along its upper `edge`.

    `tall` is how far the flap stands out.
    """

    start: float
    edge: float
    wide: float
    tall: float


class _Sheet:
    """A face while things are laid on it; `touched` (h, w) is how far they cover it."""

    def __init__(self, colour: Real, alpha: Real, touched: Real) -> None:
        self.colour, self.alpha, self.touched = colour, alpha, touched

    def lay(self, paint: Real, cover: Real, *, shadow_px: float = 0.0) -> None:
        """(h, w, 3) paint where (h, w) cover is above 0, with a shadow on what lies below."""
        if shadow_px > 0:
            shift = np.array([[1, 0, 0.5 * shadow_px], [0, 1, shadow_px]], np.float32)
            fallen = cv2.warpAffine(cover, shift, cover.shape[::-1])
            shade = 1 - 0.45 * cv2.GaussianBlur(fallen, (0, 0), 0.7 * shadow_px)
            self.colour *= shade[..., None]
        bare = (self.alpha <= 0)[..., None]
        self.colour = np.where(bare, paint, mix(self.colour, paint, cover)).astype(np.float32)
        self.alpha = np.maximum(self.alpha, cover)
        self.touched = np.maximum(self.touched, cover)


def _flap(rng: np.random.Generator, sheet: _Sheet, mouth: _Mouth) -> None:
    """The unprinted side of a flap, hinged behind the edge, narrower and askew at its end."""
    start, edge, wide, tall = mouth.start, mouth.edge, mouth.wide, mouth.tall
    lean, narrow = rng.uniform(-0.12, 0.12) * wide, rng.uniform(0.03, 0.10) * wide
    rise = tall * rng.uniform(0.85, 1.1, 2)
    corners = np.array([
        (start, edge + 6), (start + wide, edge + 6),
        (start + wide - narrow + lean, edge - rise[0]), (start + narrow + lean, edge - rise[1]),
    ])  # fmt: skip
    shape = (sheet.alpha.shape[0], sheet.alpha.shape[1])
    board = cardboard(rng, shape, angle=0.0)
    if rng.random() < 0.5:  # grey-backed board as often as brown
        board = 0.45 * board + 0.55 * board.mean(axis=2, keepdims=True) + 22
    height = np.clip((edge - np.arange(shape[0], dtype=np.float32)) / max(tall, 1), 0, 1)
    board = board * (0.62 + 0.42 * height)[:, None, None]
    cover = _polygon(shape, corners)
    worn = 0.75 * np.clip(cover - cv2.erode(cover, np.ones((5, 5), np.uint8)), 0, 1)
    pale = np.full((*shape, 3), 232, np.float32)
    sheet.lay(mix(board.astype(np.float32), pale, worn), cover, shadow_px=4)


def _opening(rng: np.random.Generator, sheet: _Sheet, mouth: _Mouth, *, depth: float) -> Real:
    """A dark mouth at the edge, its lower lip sagging and torn white; (h, w) what lies above it."""
    start, edge, wide = mouth.start, mouth.edge, mouth.wide
    shape = (sheet.alpha.shape[0], sheet.alpha.shape[1])
    x = (np.arange(shape[1], dtype=np.float32) - start) / wide
    sag = np.clip(np.sin(np.pi * np.clip(x, 0, 1)), 0, 1) ** rng.uniform(0.35, 0.8)
    ragged = 1 + 0.18 * fractal_noise(rng, (1, shape[1]), grain_px=0.15 * wide + 4)[0]
    lip = edge + depth * sag * ragged
    y = np.arange(shape[0], dtype=np.float32)[:, None]
    above = np.clip(lip[None] - y + 0.5, 0, 1) * ((x > 0) & (x < 1))[None]
    gap = np.asarray(above * (y >= edge - 3), dtype=np.float32)
    paper = np.clip(1 - np.abs(y - lip[None] - 2) / 3.5, 0, 1) * ((x > 0) & (x < 1))[None]
    dark = 24 + 46 * np.clip((lip[None] - y) / max(depth, 1), 0, 1)[..., None] ** 2
    sheet.lay(np.broadcast_to(dark, (*shape, 3)).astype(np.float32), gap)
    sheet.lay(np.full((*shape, 3), (232, 227, 218), np.float32), paper.astype(np.float32))
    return np.asarray(np.clip(lip[None] - y + 0.5, 0, 1), dtype=np.float32)


def _contents(rng: np.random.Generator, sheet: _Sheet, mouth: _Mouth, *, lip: Real) -> None:
    """Things of one kind that stick out of the mouth, behind its lip; some lie on the front."""
    start, edge, wide, tall = mouth.start, mouth.edge, mouth.wide, mouth.tall
    draw = (_pouch, _bar, _biscuit)[int(rng.integers(3))]
    tint = rng.uniform(70, 235, 3).astype(np.float32)
    count = 1 + int(rng.integers(2)) if draw is _pouch else int(rng.integers(3, 6))
    size = float(np.clip(0.85 * tall, 0.16 * wide, 0.5 * wide))
    if draw is _pouch:
        size = max(size, 0.42 * wide)
    for number in range(count):
        x = start + wide * (number + rng.uniform(0.05, 0.95)) / count
        y = edge - size * rng.uniform(0.0, 0.7)
        paint, cover = draw(rng, sheet.alpha.shape, (x, y), size * rng.uniform(0.85, 1.1), tint)
        sheet.lay(paint, cover * lip, shadow_px=3)
    if draw is not _pouch and rng.random() < 0.6:
        at = (start + wide * rng.uniform(0.1, 0.9), edge + size * rng.uniform(0.6, 1.3))
        paint, cover = draw(rng, sheet.alpha.shape, at, 0.8 * size, tint)
        sheet.lay(paint, cover, shadow_px=5)


def _pouch(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    at: tuple[float, float],
    size: float,
    tint: Real,
) -> tuple[Real, Real]:
    """A crumpled inner bag of pale or silver film."""
    size_px = (shape[0], shape[1])
    along, across = from_point(size_px, at, angle=rng.uniform(-0.5, 0.5))
    rough = fractal_noise(rng, size_px, grain_px=0.5 * size, octaves=4)
    body = 1 - np.hypot(along / (0.62 * size), across / (0.55 * size)) + 0.13 * rough
    cover = np.clip(body * 0.4 * size, 0, 1).astype(np.float32)
    height = 1 - np.abs(fractal_noise(rng, size_px, grain_px=0.35 * size, octaves=3))
    light = cv2.Sobel(height, cv2.CV_32F, 1, 1, ksize=5) + cv2.Sobel(
        height, cv2.CV_32F, 0, 1, ksize=5
    )
    light = light / (float(np.abs(light[cover > 0.5]).mean()) + 1e-6 if (cover > 0.5).any() else 1)
    film = 190 + 0.12 * (tint - 150) + 24 * np.clip(light, -3, 2.4)[..., None]
    return film.astype(np.float32), cover


def _bar(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    at: tuple[float, float],
    size: float,
    tint: Real,
) -> tuple[Real, Real]:
    """A wrapped bar or sachet, standing askew, with a crimped end and a pale band."""
    size_px = (shape[0], shape[1])
    along, across = from_point(size_px, at, angle=rng.uniform(-0.6, 0.6) + np.pi / 2)
    far, near = np.abs(along) / (0.75 * size), np.abs(across) / (0.30 * size)
    cover = np.clip((1 - np.maximum(far, near)) * 0.3 * size, 0, 1)
    shade = 0.75 + 0.4 * np.sqrt(np.clip(1 - near**2, 0, 1))
    shade = np.where(far > 0.86, 0.85 + 0.15 * np.sin(along * 1.6), shade)
    band = (np.abs(far - 0.4) < 0.12)[..., None]
    paint = np.where(band, 238.0, tint) * shade[..., None]
    return paint.astype(np.float32), cover.astype(np.float32)


def _biscuit(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    at: tuple[float, float],
    size: float,
    tint: Real,
) -> tuple[Real, Real]:
    """A round baked thing with a rim and holes."""
    size_px = (shape[0], shape[1])
    along, across = from_point(size_px, at, angle=rng.uniform(0, np.pi))
    away = np.hypot(along, across * rng.uniform(1.0, 1.25)) / (0.42 * size)
    cover = np.clip((1 - away) * 0.42 * size, 0, 1)
    crumb = fractal_noise(rng, size_px, grain_px=0.12 * size + 3)
    holes = (np.cos(along * 14 / size) * np.cos(across * 14 / size) > 0.86) & (away < 0.8)
    tone = np.array([196, 150, 92]) * (0.7 + 0.3 * tint / 255)
    level = 1.08 - 0.35 * np.clip(away - 0.75, 0, 1) + 0.05 * crumb - 0.4 * holes
    return (tone * level[..., None]).astype(np.float32), cover.astype(np.float32)


def _polygon(shape: tuple[int, int], corners: _Vector) -> Real:
    """(h, w) float32 coverage of a convex polygon of (n, 2) corners (x, y)."""
    cover = np.zeros(shape, np.uint8)
    fine = (corners * 16).round().astype(np.int32)  # four bits after the point
    cv2.fillConvexPoly(cover, fine, 255, cv2.LINE_AA, 4)
    return np.asarray(cover / 255, dtype=np.float32)
