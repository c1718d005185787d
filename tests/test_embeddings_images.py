"""The one reader: what comes out for every accepted picture, and which error for every other."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

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
from embeddings.images import fit_longest_side, read_image, read_mask, scale_points

FUZZ = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def encode(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def smooth_pixels(height: int = 24, width: int = 40) -> np.ndarray:
    """A gentle gradient with one bright corner: survives JPEG, and no two flips of it agree."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([4 * x, 6 * y, 2 * x + 2 * y], axis=2).clip(0, 255)
    pixels[: height // 2, : width // 2] += 60
    return pixels.clip(0, 255).astype(np.uint8)


def noise_pixels(height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose body holds no pixel."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


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


# What is read


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_are_read_pixel_exact(kind: str) -> None:
    np.testing.assert_array_equal(read_image(LOSSLESS[kind]), noise_pixels())


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_formats_are_read_close_to_the_original(kind: str) -> None:
    pixels = smooth_pixels()
    read = read_image(encode(Image.fromarray(pixels), kind, quality=95))
    assert read.shape == pixels.shape
    assert read.dtype == np.uint8
    assert np.abs(read.astype(int) - pixels).mean() < 4


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff"])
def test_each_format_can_be_the_first_picture_that_a_process_reads(tmp_path, suffix: str) -> None:
    """Pillow loads plugins as it meets them: what earlier reads left behind must not matter."""
    path = tmp_path / f"first{suffix}"
    assert cv2.imwrite(str(path), noise_pixels())
    program = "import sys; from embeddings import read_image; print(read_image(sys.argv[1]).shape)"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "(24, 32, 3)", done.stderr


def test_path_string_bytes_and_pil_image_give_the_same_pixels(tmp_path) -> None:
    path = tmp_path / "tréfle 品.png"
    path.write_bytes(LOSSLESS["png"])
    with Image.open(path) as image:
        sources = [path, str(path), path.read_bytes(), image]
        for read in map(read_image, sources):
            np.testing.assert_array_equal(read, noise_pixels())


def test_format_is_told_by_content_not_by_suffix(tmp_path) -> None:
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(LOSSLESS["png"])
    np.testing.assert_array_equal(read_image(path), noise_pixels())


# What each EXIF orientation asks for, as numpy turns it (EXIF 2.3, tag 0x0112).
UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(NOISE, kind, exif=oriented(orientation), **options)
    np.testing.assert_array_equal(read_image(data), UPRIGHT[orientation](noise_pixels()))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied_to_jpeg(orientation: int) -> None:
    pixels = smooth_pixels()
    read = read_image(
        encode(Image.fromarray(pixels), "JPEG", quality=95, exif=oriented(orientation))
    )
    wanted = UPRIGHT[orientation](pixels)
    assert read.shape == wanted.shape
    assert np.abs(read.astype(int) - wanted).mean() < 4


def test_exif_orientation_is_applied_to_a_pil_image() -> None:
    with Image.open(io.BytesIO(encode(NOISE, "PNG", exif=oriented(6)))) as image:
        np.testing.assert_array_equal(read_image(image), np.rot90(noise_pixels(), -1))


def test_rgba_is_laid_over_white() -> None:
    pixels = noise_pixels()
    alpha = np.random.default_rng(1).integers(0, 256, pixels.shape[:2], dtype=np.uint8)
    rgba = np.dstack([pixels, alpha])
    share = alpha[:, :, None] / 255.0
    wanted = pixels * share + 255.0 * (1 - share)
    for source in (rgba, encode(Image.fromarray(rgba), "PNG"), Image.fromarray(rgba)):
        assert np.abs(read_image(source) - wanted).max() <= 1.0


def test_grey_with_alpha_is_laid_over_white() -> None:
    image = Image.fromarray(np.array([[[10, 0], [10, 255], [200, 51]]], np.uint8), "LA")
    read = read_image(encode(image, "PNG"))
    # 200 at a fifth over white: 200 * 0.2 + 255 * 0.8
    np.testing.assert_array_equal(read[0, :, 0], [255, 10, 244])
    np.testing.assert_array_equal(read, np.repeat(read[:, :, :1], 3, axis=2))


def test_transparent_palette_entry_becomes_white() -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    read = read_image(encode(image, "PNG", transparency=1))
    np.testing.assert_array_equal(read, [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]])


def test_transparent_colour_of_an_rgb_png_becomes_white() -> None:
    pixels = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    read = read_image(encode(Image.fromarray(pixels), "PNG", transparency=(1, 2, 3)))
    np.testing.assert_array_equal(read, [[[255, 255, 255], [4, 5, 6]]])


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_grey_is_repeated_on_three_channels(kind: str) -> None:
    grey = noise_pixels()[:, :, 0]
    read = read_image(encode(Image.fromarray(grey), kind))
    np.testing.assert_array_equal(read, np.dstack([grey] * 3))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_one_bit_becomes_black_and_white(kind: str) -> None:
    bits = noise_pixels()[:, :, 0] > 127
    read = read_image(encode(Image.fromarray(bits), kind))
    np.testing.assert_array_equal(read, np.dstack([bits * np.uint8(255)] * 3))


def sixteen_bit_ramp() -> np.ndarray:
    """All values that lie next to a rounding step, and the ends."""
    steps = np.arange(0, 65536, 257) + 128
    values = np.unique(np.r_[0, steps - 1, steps, steps + 1, 65534, 65535].clip(0, 65535))
    return np.resize(values, (32, 30)).astype(np.uint16)


def eight_bits(samples: np.ndarray) -> np.ndarray:
    return np.floor(samples.astype(np.float64) / 256).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_grey_files_keep_the_high_byte(suffix: str) -> None:
    ramp = sixteen_bit_ramp()
    data = cv2.imencode(suffix, ramp)[1].tobytes()
    np.testing.assert_array_equal(read_image(data), np.dstack([eight_bits(ramp)] * 3))


def test_big_endian_sixteen_bit_tiff_is_scaled_alike() -> None:
    ramp = sixteen_bit_ramp()
    data = encode(Image.fromarray(ramp.astype(">u2")), "TIFF")
    np.testing.assert_array_equal(read_image(data)[:, :, 0], eight_bits(ramp))


@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_sixteen_bit_arrays_keep_the_high_byte(channels: int) -> None:
    ramp = sixteen_bit_ramp()
    array = np.repeat(ramp[:, :, None], channels, axis=2) if channels else ramp
    if channels == 4:
        array[:, :, 3] = 65535
    np.testing.assert_array_equal(read_image(array), np.dstack([eight_bits(ramp)] * 3))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_sixteen_bit_colour_files_equal_the_same_array(suffix: str) -> None:
    """A file and the array in it must not differ by the reader's rounding."""
    colour = np.dstack([sixteen_bit_ramp()] * 3)
    read = read_image(cv2.imencode(suffix, colour)[1].tobytes())
    np.testing.assert_array_equal(read, read_image(colour))


def test_cmyk_jpeg_is_converted_to_rgb() -> None:
    red = Image.new("RGB", (16, 16), (250, 10, 10)).convert("CMYK")
    read = read_image(encode(red, "JPEG", quality=95))
    assert np.abs(read.astype(int) - [250, 10, 10]).max() < 12


def test_mpo_is_read_as_its_first_picture() -> None:
    first, second = smooth_pixels(), 255 - smooth_pixels()
    options = {"save_all": True, "append_images": [Image.fromarray(second)], "quality": 95}
    data = encode(Image.fromarray(first), "MPO", **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 2
    assert np.abs(read_image(data).astype(int) - first).mean() < 4


@pytest.mark.parametrize("channels", [0, 1, 3])
def test_uint8_arrays_are_taken_as_they_are(channels: int) -> None:
    pixels = noise_pixels()[:, ::-1]  # a view with negative strides
    array = pixels[:, :, :channels] if channels else pixels[:, :, 0]
    wanted = pixels if channels == 3 else np.dstack([pixels[:, :, 0]] * 3)
    read = read_image(array)
    np.testing.assert_array_equal(read, wanted)
    assert read.flags.c_contiguous


# What is refused


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


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "TIFF"])
def test_animations_and_several_pages_are_refused(kind: str) -> None:
    others = [Image.fromarray(255 - noise_pixels()), Image.fromarray(noise_pixels() // 2)]
    with pytest.raises(AnimatedImage, match="3 frames or pages"):
        read_image(encode(NOISE, kind, save_all=True, append_images=others))


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


# Masks, sizes, coordinates


def test_mask_is_true_above_half_of_its_own_maximum() -> None:
    grey = np.array([[0, 1, 50, 51, 100]], np.uint8)
    assert read_mask(grey, size=(1, 5)).tolist() == [[False, False, False, True, True]]
    ones = np.array([[0, 1]], np.uint8)
    assert read_mask(ones, size=(1, 2)).tolist() == [[False, True]]


def test_coloured_mask_counts_its_brightest_channel() -> None:
    red = np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8)
    assert read_mask(red, size=(1, 2)).tolist() == [[True, False]]


def test_mask_is_turned_like_its_picture() -> None:
    marks = np.zeros((24, 32), np.uint8)
    marks[:8] = 255
    data = encode(Image.fromarray(marks), "PNG", exif=oriented(6))
    mask = read_mask(data, size=(32, 24))
    np.testing.assert_array_equal(mask, np.rot90(marks, -1) > 0)


def test_mask_of_another_size_and_empty_mask_name_their_file(tmp_path) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(encode(Image.new("L", (32, 24)), "PNG"))
    with pytest.raises(MaskError, match=r"mask\.png: the mask is 32x24, its image 24x32"):
        read_mask(path, size=(32, 24))
    with pytest.raises(MaskError, match=r"mask\.png: .*marks no product"):
        read_mask(path, size=(24, 32))


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((100, 200), (32, 64)), ((200, 100), (64, 32)), ((1, 300), (1, 64)), ((7, 7), (64, 64))],
)
def test_longest_side_becomes_the_size_and_no_side_vanishes(size, wanted) -> None:
    assert fit_longest_side(np.zeros((*size, 3), np.uint8), 64).shape[:2] == wanted


def test_pixel_centres_scale_by_the_half_pixel_rule() -> None:
    # Doubling splits pixel 0 into pixels 0 and 1, whose common centre is 0.5; halving undoes it.
    points = np.array([[0, 0], [3, 5]], np.float32)
    doubled = scale_points(points, (2, 3))
    np.testing.assert_allclose(doubled, [[0.5, 1.0], [6.5, 16.0]])
    assert doubled.dtype == np.float32
    np.testing.assert_allclose(scale_points(doubled, (1 / 2, 1 / 3)), points, atol=1e-6)


def test_scaled_points_follow_what_an_area_resize_does_to_pixels() -> None:
    big = np.zeros((64, 64), np.float32)
    big[16:24, 40:48] = 1
    y, x = np.nonzero(big)
    small = cv2.resize(big, (16, 16), interpolation=cv2.INTER_AREA)
    v, u = np.nonzero(small)
    centre = np.array([[x.mean(), y.mean()]], np.float32)
    np.testing.assert_allclose(scale_points(centre, (0.25, 0.25)), [[u.mean(), v.mean()]])


def test_a_masks_transparent_background_is_no_product() -> None:
    mask = np.zeros((20, 30, 4), np.uint8)
    mask[5:15, 8:20] = 255
    read = read_mask(encode(Image.fromarray(mask), "PNG"), size=(20, 30))
    np.testing.assert_array_equal(read, mask[:, :, 3] > 0)


def test_a_pipe_or_device_is_refused_and_never_read(tmp_path) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    endless = tmp_path / "endless.png"
    endless.symlink_to("/dev/zero")
    for path in (pipe, endless):
        with pytest.raises(ImageError, match="no regular file"):
            read_image(path)
