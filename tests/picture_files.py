"""One small picture of noise as a file of every kind that is read."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def noise_pixels(height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


NOISE = Image.fromarray(noise_pixels())
LOSSLESS = {
    "png": encode(NOISE, "PNG"),
    "webp": encode(NOISE, "WEBP", lossless=True),
    "bmp": encode(NOISE, "BMP"),
    "tiff": encode(NOISE, "TIFF"),
    "tiff-lzw": encode(NOISE, "TIFF", compression="tiff_lzw"),
    "tiff-deflate": encode(NOISE, "TIFF", compression="tiff_adobe_deflate"),
}
LOSSY = {
    "jpeg": encode(NOISE, "JPEG", exif=oriented(6)),
    "jpeg-progressive": encode(NOISE, "JPEG", progressive=True),
    "webp-lossy": encode(NOISE, "WEBP"),
    "cmyk": encode(NOISE.convert("CMYK"), "JPEG"),
}
EVERY_FILE = LOSSLESS | LOSSY
