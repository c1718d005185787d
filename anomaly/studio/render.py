"""From a product, a shot and a seed to a photograph with its truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.errors import ConfigError
from anomaly.studio.breaks import dent, open_flap, padded
from anomaly.studio.damage import OUTLINE_DAMAGES, Damage, damage_face
from anomaly.studio.face import Colour, Face, Mask, Product, Real
from anomaly.studio.fields import fractal_noise, from_point, smooth_noise
from anomaly.studio.liquids import spill
from anomaly.studio.nuisance import (
    Nuisance,
    cast_shadow,
    coded,
    folded,
    kinds_of,
    mirrored_lamp,
)
from anomaly.studio.scene import Shot, face_to_frame, ground, illumination, project

_OVERSAMPLING = 2
_SKIN, _DAMAGE, _SENSOR = 1, 2, 3  # one stream each: a damage leaves noise and creases alone


@dataclass(frozen=True, eq=False)
class Photograph:
    """`image` (H, W, 3) uint8 RGB, `product_mask` and `damage_mask` (H, W) bool, damage `kind`.

    `damage_mask` lies on the product; beside it for a spill; on both, where the product was or
    is, for damage of the outline. `nuisances` are the kinds of what is no damage.
    """

    image: Colour
    product_mask: Mask
    damage_mask: Mask
    kind: str | None
    nuisances: tuple[str, ...] = ()


def render(
    product: Product,
    *,
    shot: Shot,
    seed: int,
    face: str = "front",
    damage: Damage | None = None,
    size: tuple[int, int] = (480, 640),
    nuisances: Sequence[Nuisance] = (),
) -> Photograph:
    """Photograph one face of the product in a (height, width) frame; same seed, same bytes."""
    if face not in product.faces:
        known = ", ".join(sorted(product.faces))
        raise ConfigError(f"face {face!r} of {product.product_id}; expected one of {known}")
    harmless = kinds_of(nuisances)
    side, wound, matrix = _prepared(
        product, product.faces[face], shot, seed, damage, size, harmless
    )
    lamp = _glare(product.faces[face], shot, size)
    colour, alpha, hurt = _projected(side, wound, matrix, size)
    product_mask = alpha > 0.5
    damage_mask = hurt > 0.5
    if damage is None or damage.kind not in OUTLINE_DAMAGES:
        damage_mask &= product_mask
    scene = ground(shot, size)
    if damage is not None and damage.kind == "spill":
        stream = _damage_stream(damage, seed)
        scene, damage_mask = spill(stream, scene, product=product_mask, share=damage.share)
    scene *= _shadow(alpha, shot)[..., None]
    scene = scene * (1 - alpha[..., None]) + colour
    scene *= illumination(shot.light, size)
    if "shadow" in harmless:
        own = harmless["shadow"]
        scene *= cast_shadow(own.stream(seed), alpha, strength=own.strength)[..., None]
    scene += (255 * product.gloss * alpha * lamp)[..., None]
    if "glare" in harmless:
        own = harmless["glare"]
        scene += 255 * mirrored_lamp(own.stream(seed), alpha, strength=own.strength)[..., None]
    image = _exposed(np.random.default_rng([seed, _SENSOR]), scene, shot)
    kind = None if damage is None else damage.kind
    return Photograph(image, product_mask, damage_mask, kind, tuple(harmless))


def _prepared(
    product: Product,
    side: Face,
    shot: Shot,
    seed: int,
    damage: Damage | None,
    size: tuple[int, int],
    harmless: dict[str, Nuisance],
) -> tuple[Face, Mask, NDArray[np.float64]]:
    """The face as it lies there, its (h, w) truth, and the homography from it to the frame."""
    wound = np.zeros(side.alpha.shape, np.bool_)
    if "lot_code" in harmless:
        side = coded(harmless["lot_code"].stream(seed), side, product_id=product.product_id)
    if damage is not None and damage.kind not in (*OUTLINE_DAMAGES, "spill"):
        side, wound = damage_face(_damage_stream(damage, seed), side, damage=damage)
    matrix = face_to_frame(side, shot, size)
    if product.softness > 0:
        side, wound = _crinkled(np.random.default_rng([seed, _SKIN]), side, wound, product.softness)
    if "film_folds" in harmless:
        own = harmless["film_folds"]
        side, wound = folded(own.stream(seed), side, wound, strength=own.strength)
    if damage is None or damage.kind not in OUTLINE_DAMAGES:
        return side, wound, matrix
    if damage.kind == "open_flap" and product.kind != "carton":
        raise ConfigError(f"damage 'open_flap' of a {product.kind}; expected a carton")
    share = damage.share
    side, pad = padded(side)
    shift = np.array([[1, 0, -pad], [0, 1, -pad], [0, 0, 1]], np.float64)
    breaks = dent if damage.kind == "dent" else open_flap
    stream = _damage_stream(damage, seed)
    side, wound = breaks(stream, side, share=share, strength=damage.strength)
    return side, wound, matrix @ shift


def _damage_stream(damage: Damage, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed if damage.seed is None else damage.seed, _DAMAGE])


def _crinkled(
    rng: np.random.Generator, face: Face, wound: Mask, softness: float
) -> tuple[Face, Mask]:
    """A soft skin as it lies this time: the print wanders, and its creases catch the light."""
    shape = (face.alpha.shape[0], face.alpha.shape[1])
    # Crinkles are wide: a quarter of the resolution is enough for them, and faster.
    small = (shape[0] // 4, shape[1] // 4)
    height = 1 - np.abs(fractal_noise(rng, small, grain_px=30, octaves=3))
    fields = [smooth_noise(rng, small, grain_px=45) for _ in range(2)]
    light = cv2.Sobel(height, cv2.CV_32F, 1, 1, ksize=3)
    light = light + 0.5 * cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3)
    x, y, light = (
        cv2.resize(f, shape[::-1], interpolation=cv2.INTER_LINEAR) for f in (*fields, light)
    )
    columns, rows = np.meshgrid(
        np.arange(shape[1], dtype=np.float32), np.arange(shape[0], dtype=np.float32)
    )
    # The seams at the rim are stiff; the print moves most in the middle.
    stiff = np.sin(np.pi * (rows + 0.5) / shape[0]) * np.sin(np.pi * (columns + 0.5) / shape[1])
    push = softness * stiff.astype(np.float32)
    map_x, map_y = columns + push * x, rows + push * y
    colour, alpha, hurt = (
        cv2.remap(field, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for field in (face.colour, face.alpha, wound.astype(np.uint8))
    )
    shaded = colour * (1 + np.clip(0.28 * light, -0.2, 0.25))[..., None]
    face = replace(face, colour=shaded.clip(0, 255).astype(np.uint8), alpha=alpha)
    return face, np.asarray(hurt > 0, dtype=np.bool_)


def _projected(
    face: Face, wound: Mask, matrix: NDArray[np.float64], size: tuple[int, int]
) -> tuple[Real, Real, Real]:
    """Premultiplied (H, W, 3) colour, (H, W) alpha and (H, W) damage, all float32, in the frame."""
    height, width = face.alpha.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
    placed = project(matrix, corners)
    left, top = np.maximum(np.floor(placed.min(axis=0)).astype(int) - 2, 0).tolist()
    right, bottom = np.minimum(np.ceil(placed.max(axis=0)).astype(int) + 3, size[::-1]).tolist()
    k = _OVERSAMPLING
    # Pixel centres: x in the frame is k * (x - left) + (k - 1) / 2 in the finer window.
    finer = np.array(
        [[k, 0, (k - 1) / 2 - k * left], [0, k, (k - 1) / 2 - k * top], [0, 0, 1]], np.float64
    )
    layers = np.dstack([face.colour, (255 * face.alpha).round().astype(np.uint8)])
    window = (k * (right - left), k * (bottom - top))
    warp = finer @ matrix
    layers = cv2.warpPerspective(_bled(layers), warp, window, flags=cv2.INTER_LINEAR)
    hurt = cv2.warpPerspective(255 * wound.astype(np.uint8), warp, window, flags=cv2.INTER_LINEAR)
    small = (right - left, bottom - top)
    pixels = cv2.resize(layers, small, interpolation=cv2.INTER_AREA).astype(np.float32)
    part = (slice(top, bottom), slice(left, right))
    colour, alpha = np.zeros((*size, 3), np.float32), np.zeros(size, np.float32)
    truth = np.zeros(size, np.float32)
    alpha[part] = pixels[..., 3] / 255
    colour[part] = pixels[..., :3]
    truth[part] = cv2.resize(hurt, small, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return colour, alpha, truth


def _bled(layers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(h, w, 4) with colour multiplied by alpha, so that edges blend without a fringe."""
    alpha = layers[..., 3:]
    if alpha.min() < 255:
        layers = layers.copy()
        layers[..., :3] = cv2.multiply(layers[..., :3], cv2.merge([alpha] * 3), scale=1 / 255)
    return layers


def _shadow(alpha: Real, shot: Shot) -> Real:
    """(H, W) float32 factor: a wide soft shadow away from the light, and a tight contact one."""
    turn = np.deg2rad(shot.light.direction_deg)
    reach = 0.016 * min(alpha.shape)
    shift = np.array(
        [[0.25, 0, -0.25 * reach * np.cos(turn)], [0, 0.25, -0.25 * reach * np.sin(turn)]]
    )
    quarter = (alpha.shape[1] // 4, alpha.shape[0] // 4)
    coarse = cv2.warpAffine(cv2.blur(alpha, (4, 4)), shift, quarter)
    wide = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 2.2), alpha.shape[::-1])
    tight = cv2.blur(cv2.blur(alpha, (5, 5)), (5, 5))
    factor: Real = 1 - 0.34 * np.clip(wide, 0, 1) - 0.22 * tight
    return factor


def _glare(face: Face, shot: Shot, size: tuple[int, int]) -> Real:
    """(H, W) float32: a weak broad reflection of the lamp on the product."""
    turn = np.deg2rad(shot.light.direction_deg)
    height, width = face.alpha.shape
    point = np.array([[width * (0.5 + 0.3 * np.cos(turn)), height * (0.5 + 0.3 * np.sin(turn))]])
    at = project(face_to_frame(face, shot, size), point)[0]
    small = (size[0] // 4, size[1] // 4)
    along, across = from_point(small, (at[0] / 4, at[1] / 4), angle=float(turn))
    spread = 0.045 * min(size)
    bump = np.exp(-0.5 * ((along / spread) ** 2 + (across / (2 * spread)) ** 2)) * 0.22
    glare: Real = cv2.resize(bump.astype(np.float32), size[::-1])
    return glare


def _exposed(rng: np.random.Generator, scene: Real, shot: Shot) -> Colour:
    """Lens blur, sensor noise, and the JPEG file: (H, W, 3) uint8 RGB."""
    if shot.blur_sigma > 0:
        scene = cv2.GaussianBlur(scene, (0, 0), shot.blur_sigma)
    if shot.noise_sigma > 0:
        scene = scene + shot.noise_sigma * rng.standard_normal(scene.shape, dtype=np.float32)
    pixels = np.rint(scene).clip(0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, shot.jpeg_quality]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
    image: Colour = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return image
