"""The one image reader: path, bytes, ndarray or PIL image -> RGB uint8, upright.

Every picture in Amiss comes through `read_image`, so a reference and a query can't differ in
orientation, alpha or bit depth because two readers disagreed.

Pixel-centre rule of the whole project: pixel (0, 0) covers [0, 1) x [0, 1) and its *centre* has
coordinate 0. Scaling by `s` therefore maps x to (x + 0.5) * s - 0.5; `scale_points` is that rule.
"""

from __future__ import annotations

import io
import os
import struct
import unicodedata
import zlib
from pathlib import Path
from typing import TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from embeddings.errors import (
    AnimatedImage,
    EmptyImage,
    ImageError,
    ImageTooLarge,
    MaskError,
    NotAnImage,
    TruncatedImage,
    UnsupportedImage,
)

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
ImageSource: TypeAlias = str | os.PathLike[str] | bytes | NDArray[np.generic] | Image.Image

MAX_PIXELS = 80_000_000
"""Above any product camera; 240 MB as RGB. Pillow refuses 179 million by itself."""
MIN_SIXTEEN_BITS = 4096
"""The brightest sample of 16 bits is no less: a camera's 12 bits in 16 would be read as black, and
nothing in the pixels tells them from a picture that is so dark."""
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # MPO files open as JPEG
# What the EXIF orientation tag asks for. (Pillow's own exif_transpose also rewrites the other tags,
# and fails on pictures whose tags are odd but whose pixels are fine.)
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ACCEPTED = "JPEG, PNG, WebP, BMP or TIFF"
_OTHERS = {
    b"GIF8": "a GIF", b"ftypheic": "a HEIC picture", b"ftypavif": "an AVIF picture",
}  # fmt: skip
# What Pillow's decoders are known to raise on damaged files, beside OSError.
_DECODER_FAULTS = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError,
                   OverflowError, EOFError, struct.error, zlib.error)  # fmt: skip


def read_image(
    source: ImageSource,
    *,
    max_pixels: int = MAX_PIXELS,
    backdrop: str = "white",
    name: str | None = None,
) -> Pixels:
    """Read a picture as an upright (H, W, 3) uint8 RGB array.

    EXIF orientation is applied; alpha is laid over `backdrop`; grey is repeated; of 16 bits the
    high byte counts, and 12 bits or fewer in 16 are refused; CMYK is converted. Arrays are RGB,
    uint8 or uint16: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
    The first picture of an MPO file (phones store a JPEG and its gain map so) is the image.
    `name`: what errors call the source, where it doesn't say so itself.

    Raises an `ImageError` that names the source; the pixel limit is checked before decoding.
    """
    name = describe_source(source) if name is None else name
    if isinstance(source, np.ndarray):
        return _from_array(source, name, max_pixels, backdrop)
    if not is_picture(source):
        raise UnsupportedImage(name, "no picture; give a path, bytes, an ndarray or a PIL image")
    if isinstance(source, Image.Image):
        return _from_pil(source, name, max_pixels, backdrop)
    data = (
        source if isinstance(source, bytes) else read_bytes(cast("str | Path", source), name=name)
    )
    if not data:
        raise EmptyImage(name, "the file is empty (0 bytes)")
    try:
        opened = Image.open(io.BytesIO(data), formats=_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(name, f"{error}; at most {max_pixels:,} pixels are read") from error
    except UnidentifiedImageError as error:
        kind = next((kind for start, kind in _OTHERS.items() if start in data[:12]), None)
        found = "not a readable image" if kind is None else f"{kind}, which is not read"
        raise NotAnImage(name, f"{found}; {_ACCEPTED} is accepted") from error
    except _DECODER_FAULTS as error:
        raise TruncatedImage(name, f"the header is damaged ({error})") from error
    with opened:
        return _from_pil(opened, name, max_pixels, backdrop)


def read_bytes(path: str | os.PathLike[str], *, name: str | None = None) -> bytes:
    """A file's bytes, or an `ImageError` with its path, or `name`, and the system's reason."""
    name = printable(path) if name is None else name
    try:
        # A pipe would wait for ever and a device never end: a picture is a file.
        place = Path(path)
        if place.exists() and not place.is_file() and not place.is_dir():
            raise ImageError(name, "is no regular file; give a picture's own path")
        return place.read_bytes()
    except OSError as error:
        raise ImageError(name, f"can't be read ({error.strerror})") from error
    except ValueError as error:  # a null character in the path
        raise ImageError(repr(os.fspath(path)), f"is no path ({error})") from error


def read_mask(source: ImageSource, *, size: tuple[int, int], name: str | None = None) -> Mask:
    """Read a product mask as (H, W) bool: True where the picture is brighter than black's half.

    `size` is the (height, width) of the picture that the mask belongs to, upright; `name` as for
    `read_image`. An array may be of bools, too. Kaputt's masks are not guaranteed to be 0/255, so
    the threshold is half of the mask's own maximum. Raises `MaskError`, or an `ImageError` that
    says that it is of the mask.
    """
    name = describe_source(source) if name is None else name
    if isinstance(source, np.ndarray) and source.dtype == np.bool_:
        source = source.astype(np.uint8) * 255
    elif isinstance(source, np.ndarray) and source.dtype == np.uint16 and source.size:
        source = (source > source.max() // 2).astype(np.uint8) * 255
    grey = read_image(source, backdrop="black", name=f"mask {name}").max(axis=2)
    if grey.shape != size:
        raise MaskError(
            f"{name}: the mask is {grey.shape[1]}x{grey.shape[0]}, its image "
            f"{size[1]}x{size[0]}; give a mask of the image's own size"
        )
    if not grey.any():
        raise MaskError(f"{name}: the mask is all black: it marks no product")
    return np.asarray(grey > grey.max() // 2, dtype=np.bool_)


def is_picture(source: object) -> bool:
    """Whether `source` is one picture by itself, rather than several or something else."""
    if isinstance(source, np.ndarray):
        return source.ndim == 2 or (source.ndim == 3 and source.shape[2] in (1, 3, 4))
    return isinstance(source, str | os.PathLike | bytes | Image.Image)


def describe_source(source: ImageSource) -> str:
    """What error messages call `source`."""
    if isinstance(source, np.ndarray):
        return f"array {source.dtype}{list(source.shape)}"
    if isinstance(source, Image.Image):
        return f"PIL image {source.mode} {source.width}x{source.height}"
    if isinstance(source, bytes):
        return f"{len(source)} bytes"
    return printable(source) if is_picture(source) else type(source).__name__


def printable(path: str | os.PathLike[str]) -> str:
    """A path as one line of text that can be printed and stored, whatever its name is made of:
    bytes that are no text, and control characters (line ends as well), are escapes."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) == "Cc" else c for c in text
    )


def fit_longest_side(image: Pixels, size_px: int) -> Pixels:
    """Resize (H, W, C) so that the longer side is `size_px`; the aspect is kept."""
    height, width = image.shape[:2]
    scale = size_px / max(height, width)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    if target == (width, height):
        return image
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return cast(Pixels, cv2.resize(image, target, interpolation=how))


def scale_points(
    points_xy: NDArray[np.float32], scale_xy: tuple[float, float]
) -> NDArray[np.float32]:
    """Move (N, 2) pixel-centre coordinates to a picture `scale_xy` times as large."""
    moved: NDArray[np.float32] = ((points_xy + 0.5) * np.asarray(scale_xy) - 0.5).astype(np.float32)
    return moved


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height == 0:
        raise EmptyImage(name, f"the image is {width}x{height}: it has no pixels")
    if width * height > max_pixels:
        raise ImageTooLarge(
            name,
            f"{width}x{height} is {width * height:,} pixels, at most {max_pixels:,} are read; "
            "scale the picture down or raise max_pixels",
        )


def _from_array(array: NDArray[np.generic], name: str, max_pixels: int, backdrop: str) -> Pixels:
    if not is_picture(array):
        raise UnsupportedImage(name, "expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    _check_size(array.shape[1], array.shape[0], name, max_pixels)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        colours = array[..., :3] if array.ndim == 3 else array
        _require_sixteen_bits(int(colours.max()), name)
        array = _to_eight_bits(array)
    if array.dtype != np.uint8:
        raise UnsupportedImage(name, "expected uint8 or uint16 samples; scale floats to 0..255")
    pixels = cast(Pixels, array if array.ndim == 3 else array[:, :, None])
    if pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] == 4:
        return np.asarray(_over(Image.fromarray(pixels), backdrop))
    return np.ascontiguousarray(pixels)


def _from_pil(image: Image.Image, name: str, max_pixels: int, backdrop: str) -> Pixels:
    _check_size(image.width, image.height, name, max_pixels)
    # Of colours in 16 bits Pillow gives the high bytes alone, as 8 bits.
    high_bytes = any(";16" in str(tile[-1]) for tile in getattr(image, "tile", ()))
    try:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            raise AnimatedImage(name, f"{frames} frames or pages; give a picture of one frame")
        image.load()
        turn = _ORIENTATIONS.get(image.getexif().get(0x0112, 1))
        upright = image if turn is None else image.transpose(turn)
    except _DECODER_FAULTS as error:
        raise TruncatedImage(name, f"the picture is truncated or corrupt ({error})") from error
    if upright.mode.startswith("I"):
        samples = np.asarray(upright)
        if samples.min() < 0 or samples.max() > 65535:
            raise UnsupportedImage(name, "32-bit samples outside 0..65535; save as 8 or 16 bit")
        return _from_array(samples.astype(np.uint16), name, max_pixels, backdrop)
    if high_bytes:
        bands = zip(upright.getbands(), upright.split(), strict=True)
        brightest = max(band.getextrema()[1] for kind, band in bands if kind != "A")
        _require_sixteen_bits(256 * brightest + 255, name)
    if upright.mode in ("F", "LAB", "HSV"):
        raise UnsupportedImage(name, f"mode {upright.mode} has no agreed RGB; save as 8-bit RGB")
    if upright.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in upright.info:
        upright = _over(upright, backdrop)
    return np.array(upright.convert("RGB"), dtype=np.uint8)


def _over(image: Image.Image, backdrop: str) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, backdrop), rgba).convert("RGB")


def _require_sixteen_bits(brightest: int, name: str) -> None:
    if brightest < MIN_SIXTEEN_BITS:
        raise UnsupportedImage(
            name,
            f"no 16-bit sample reaches {MIN_SIXTEEN_BITS:,} of 65,535: 12 bits or fewer in 16 "
            "would be read as black; scale them to the full range (12 bits: times 16), or save "
            "as 8 bit",
        )


def _to_eight_bits(samples: NDArray[np.generic]) -> Pixels:
    """The high byte, which is what Pillow makes of 16-bit colour files."""
    return (samples.astype(np.uint16) >> 8).astype(np.uint8)
