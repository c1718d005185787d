"""The one reader: what comes out for every accepted picture and mask."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from picture_files import LOSSLESS, NOISE, encode, noise_pixels, oriented
from PIL import Image

from embeddings.errors import ImageError, MaskError
from embeddings.images import fit_longest_side, printable, read_image, read_mask, scale_points


def smooth_pixels(height: int = 24, width: int = 40) -> np.ndarray:
    """A gentle gradient with one bright corner: survives JPEG, and no two flips of it agree."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([4 * x, 6 * y, 2 * x + 2 * y], axis=2).clip(0, 255)
    pixels[: height // 2, : width // 2] += 60
    return pixels.clip(0, 255).astype(np.uint8)


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


# Masks, sizes, coordinates


def test_mask_is_true_above_half_of_its_own_maximum() -> None:
    grey = np.array([[0, 1, 50, 51, 100]], np.uint8)
    assert read_mask(grey, size=(1, 5)).tolist() == [[False, False, False, True, True]]
    ones = np.array([[0, 1]], np.uint8)
    assert read_mask(ones, size=(1, 2)).tolist() == [[False, True]]


def test_mask_may_be_an_array_of_bools() -> None:
    marks = np.array([[False, True, True], [False, False, True]])
    for array in (marks, marks[:, :, None]):
        np.testing.assert_array_equal(read_mask(array, size=(2, 3)), marks)
    with pytest.raises(MaskError, match=r"array bool\[2, 3\]: the mask is 3x2, its image 2x3"):
        read_mask(marks, size=(3, 2))
    with pytest.raises(MaskError, match="marks no product"):
        read_mask(np.zeros((2, 3), bool), size=(2, 3))


def test_a_mask_in_16_bits_is_one_however_dark() -> None:
    marked = np.array([[0, 1000, 0], [0, 1, 1000]], np.uint16)
    found = read_mask(marked, size=(2, 3))
    np.testing.assert_array_equal(found, marked == 1000)


@pytest.mark.parametrize(
    "mask", [np.ones(5, bool), np.ones((2, 3, 2), bool), np.ones((2, 3)), b"no picture", "gone.png"]
)
def test_what_can_be_no_mask_is_said_of_the_mask(mask: Any) -> None:
    with pytest.raises(ImageError, match=r"^mask (array (bool|float64)\[|10 bytes: |gone\.png: )"):
        read_mask(mask, size=(2, 3))


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


def test_a_path_is_printed_as_one_line_whatever_its_name_is_made_of() -> None:
    assert printable("räksmörgås 1\u00a0l.png") == "räksmörgås 1\u00a0l.png"
    assert printable("new\nline\x1b[2J\x7f.png") == "new\\nline\\x1b[2J\\x7f.png"
    assert printable(os.fsdecode(b"n\xff\n.png")) == "n\\xff\\n.png"
    with pytest.raises(ImageError, match=r"^new\\nline\.png: can't be read"):
        read_image("new\nline.png")
