"""The one reader: which error for every picture that isn't accepted, and never another."""

from __future__ import annotations

import os
import struct
import time
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from picture_files import EVERY_FILE, LOSSLESS, NOISE, encode, noise_pixels, oriented
from PIL import Image

from embeddings.errors import (
    AnimatedImage,
    EmptyImage,
    ImageError,
    ImageTooLarge,
    NotAnImage,
    TruncatedImage,
    UnsupportedImage,
)
from embeddings.images import read_image

FUZZ = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose body holds no pixel."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the metadata it misses
@pytest.mark.parametrize("kind", EVERY_FILE)
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_files_are_truncated_images(kind: str, kept: float) -> None:
    data = EVERY_FILE[kind][: int(len(EVERY_FILE[kind]) * kept)]
    # A compressed TIFF has its directory behind the pixels: cut off, no header is left to read.
    wanted = NotAnImage if kind in ("tiff-lzw", "tiff-deflate") else TruncatedImage
    with pytest.raises(wanted, match=f"{len(data)} bytes: "):
        read_image(data)


def gif() -> bytes:
    return encode(NOISE.quantize(16), "GIF")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(np.random.default_rng(0).bytes(3000), id="random"),
        pytest.param(b"product_id,image\nrazor-3,a.png\n", id="text"),
        pytest.param(b"\x00", id="one-byte"),
        pytest.param(gif(), id="gif"),
        pytest.param(b"%PDF-1.7\n", id="pdf"),
    ],
)
def test_what_is_no_accepted_format_is_not_an_image(tmp_path, data: bytes) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(data)
    with pytest.raises(NotAnImage, match=r"odd\.png: .*JPEG, PNG, WebP, BMP or TIFF"):
        read_image(path)


@pytest.mark.parametrize(
    ("data", "what"),
    [(gif(), "a GIF"), (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC picture")],
)
def test_pictures_of_other_formats_are_called_what_they_are(data: bytes, what: str) -> None:
    with pytest.raises(NotAnImage, match=f"{what}, which is not read; JPEG, PNG"):
        read_image(data)


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF"])
def test_animations_and_several_pages_are_refused(kind: str) -> None:
    others = [Image.fromarray(255 - noise_pixels()), Image.fromarray(noise_pixels() // 2)]
    with pytest.raises(AnimatedImage, match="3 frames or pages"):
        read_image(encode(NOISE, kind, save_all=True, append_images=others))


@pytest.mark.parametrize("suffix", [".png", ".tiff", None])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_twelve_bits_in_sixteen_are_refused_not_read_as_black(
    suffix: str | None, channels: int
) -> None:
    samples = np.linspace(0, 4095, 30 * 32 * channels).reshape(30, 32, channels).astype(np.uint16)
    samples[:, :, 3:] = 65535

    def read(samples: np.ndarray) -> np.ndarray:
        if suffix is None:
            return read_image(samples)
        return read_image(cv2.imencode(suffix, samples)[1].tobytes())

    for few in (samples, samples // 16):  # 8 bits, too
        with pytest.raises(UnsupportedImage, match=r"12 bits: times 16"):
            read(few)
    samples[:, :, :3] *= 16
    assert read(samples).max() == 255
    samples[:, :, :3] = 4096  # dark, but a picture of 16 bits
    assert read(samples).max() == 16


def test_empty_file_and_empty_bytes_are_empty_images(tmp_path) -> None:
    path = tmp_path / "nothing.jpg"
    path.touch()
    with pytest.raises(EmptyImage, match=r"nothing\.jpg"):
        read_image(path)
    with pytest.raises(EmptyImage, match="0 bytes"):
        read_image(b"")


def test_missing_path_and_directory_name_the_path_and_the_reason(tmp_path) -> None:
    with pytest.raises(ImageError, match=r"absent\.png: can't be read \(No such file") as caught:
        read_image(tmp_path / "absent.png")
    assert caught.value.source == str(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="Is a directory"):
        read_image(str(tmp_path))


@pytest.mark.parametrize("side", [9000, 30_000, 100_000])
def test_pixel_limit_holds_before_decoding(side: int) -> None:
    start = time.perf_counter()
    with pytest.raises(ImageTooLarge, match="80,000,000"):
        read_image(png_claiming(side, side))
    assert time.perf_counter() - start < 1.0


def test_pixel_limit_is_inclusive_and_the_callers_choice() -> None:
    assert read_image(LOSSLESS["png"], max_pixels=24 * 32).shape == (24, 32, 3)
    for source in (LOSSLESS["png"], NOISE, noise_pixels()):
        with pytest.raises(ImageTooLarge, match="32x24 is 768 pixels, at most 767"):
            read_image(source, max_pixels=24 * 32 - 1)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5, 3), (5, 0, 3), (5, 0, 4)])
def test_arrays_without_pixels_are_empty_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(EmptyImage, match=r"array uint8\["):
        read_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5, 3), np.float64),
        np.zeros((4, 5, 3), np.int64),
        np.zeros((4, 5), np.bool_),
        np.zeros(5, np.uint8),
        np.zeros((), np.uint8),
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((2, 4, 5, 3), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}-{a.ndim}d",
)
def test_arrays_of_other_types_and_shapes_are_unsupported(array: np.ndarray) -> None:
    with pytest.raises(UnsupportedImage, match=f"array {array.dtype}"):
        read_image(array)


@pytest.mark.parametrize("mode", ["F", "LAB", "HSV"])
def test_modes_without_an_agreed_rgb_are_unsupported(mode: str) -> None:
    with pytest.raises(UnsupportedImage, match=f"mode {mode}"):
        read_image(Image.new(mode, (4, 3)))


def test_thirty_two_bit_samples_out_of_range_are_unsupported() -> None:
    tall = Image.fromarray(np.array([[0, 70_000]], np.int32))
    with pytest.raises(UnsupportedImage, match=r"32-bit samples outside 0\.\.65535"):
        read_image(tall)


def test_a_pipe_or_device_is_refused_and_never_read(tmp_path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    endless = tmp_path / "endless.png"
    endless.symlink_to("/dev/zero")
    for path in (pipe, endless):
        with pytest.raises(ImageError, match="no regular file"):
            read_image(path)


# Whatever comes: pixels or an ImageError


def assert_pixels_or_image_error(data: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about damaged metadata, then reads on
        try:
            pixels = read_image(data)
        except ImageError:
            return
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.size
    assert pixels.dtype == np.uint8


@FUZZ
@given(st.binary(max_size=400))
def test_arbitrary_bytes_give_pixels_or_an_image_error(data: bytes) -> None:
    assert_pixels_or_image_error(data)


@FUZZ
@given(
    kind=st.sampled_from(sorted(EVERY_FILE)),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    header_only=st.booleans(),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_files_give_pixels_or_an_image_error(kind, edits, header_only, kept) -> None:
    data = bytearray(EVERY_FILE[kind])
    reach = min(len(data), 200) if header_only else len(data)
    for place, value in edits:
        data[int(place * reach)] = value
    assert_pixels_or_image_error(bytes(data[: int(kept * len(data))]))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
@example(seed=0)
def test_damaged_tiff_directories_give_pixels_or_an_image_error(seed: int) -> None:
    """Tags lie anywhere in a TIFF and Pillow trusts them: these are the nastiest files."""
    rng = np.random.default_rng(seed)
    data = bytearray(LOSSLESS["tiff"])
    directory = struct.unpack("<I", data[4:8])[0]
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(directory, min(directory + 140, len(data)))] = rng.integers(0, 256)
    assert_pixels_or_image_error(bytes(data))


def test_tiff_whose_second_directory_is_empty_is_an_image_error() -> None:
    data = bytearray(LOSSLESS["tiff"])
    directory = struct.unpack("<I", data[4:8])[0]
    entries = struct.unpack("<H", data[directory : directory + 2])[0]
    following = directory + 2 + 12 * entries
    data[following : following + 4] = struct.pack("<I", len(data))
    data += bytes(6)  # no entries, no further directory
    with pytest.raises(ImageError):
        read_image(bytes(data))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("tag", [0x010E, 0x010F, 0x0131, 0x0132])
def test_exif_text_that_holds_a_number_does_not_end_the_reading(tag: int) -> None:
    """Turning a picture rewrites its EXIF, and Pillow stumbles over entries of a wrong type."""
    exif = oriented(6)
    exif[0x011A] = 72.0  # XResolution, a rational, is relabelled as a text
    for order, kind in ((">HH", b"MM"), ("<HH", b"II")):
        data = encode(NOISE, "JPEG", exif=exif)
        if kind in data[:40]:
            damaged = data.replace(struct.pack(order, 0x011A, 5), struct.pack(order, tag, 5))
            assert damaged != data
            np.testing.assert_array_equal(read_image(damaged), read_image(data))
