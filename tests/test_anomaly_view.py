"""The query brought to a reference's frame, against frames that are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from anomaly.results import Pairing, View
from anomaly.view import as_it_is, comparable, out_of_picture, turned, wants_turning
from embeddings import Embedder, Embedding, FakeBackbone, fake_embedder, given_foreground
from embeddings.foreground import Foreground
from embeddings.registration import Registration, inverse, transform
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record

SIZE = (144, 192)  # 18 x 24 cells of 8 px
CENTRE = (95.5, 71.5)
EMBEDDER = fake_embedder(size_px=192)


class Recording:
    """An embedder that keeps what it was given. Final."""

    def __init__(self) -> None:
        self._inner = Embedder(FakeBackbone(), size_px=192)
        self.images: list[np.ndarray] = []
        self.foregrounds: list[Foreground] = []

    def embed(self, images: Sequence[np.ndarray], *, foregrounds) -> list[Embedding]:
        self.images += images
        self.foregrounds += foregrounds
        return self._inner.embed(images, foregrounds=foregrounds)


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Smooth coloured noise: neighbouring pixels are alike, distant ones are not."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(size[0] // 12 + 2, size[1] // 12 + 2, 3)).astype(np.float32)
    smooth = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 60 * smooth, 0, 255).astype(np.uint8)


def reference_of(image: np.ndarray, mask: np.ndarray | None = None) -> Reference:
    whole = np.ones(image.shape[:2], np.bool_)
    described = describe(image, EMBEDDER, mask=whole if mask is None else mask)
    row = CatalogRow("p", 1, 0, "r0", None, None, None, None, None, "r0")
    return from_record(to_record(row, described), described.vector)


def about(centre, turn_deg: float, scale: float, shift=(0.0, 0.0)) -> np.ndarray:
    """Turn clockwise (y down) and scale about `centre`, then shift."""
    cosine, sine = (scale * f(math.radians(turn_deg)) for f in (math.cos, math.sin))
    matrix = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1.0]])
    matrix[:2, 2] = np.asarray(centre) + shift - matrix[:2, :2] @ np.asarray(centre)
    return matrix


def pairing_of(matrix, turn: float = 0.0, scale: float = 1.0, zoom: float | None = None) -> Pairing:
    none = np.zeros((0, 2), np.intp)
    reason = "too_few_matches" if matrix is None else None
    found = Registration(matrix, "similarity", 50, 40, 0.3, 1.0, none, reason)
    return Pairing("r0", found, turn, scale, scale if zoom is None else zoom, CENTRE)


def everywhere(image: np.ndarray) -> Foreground:
    return Foreground(np.ones(image.shape[:2], np.bool_), 0.0, "estimated")


def view_of(image, pairing, reference, *, embedder=None, foreground=None) -> View:
    return turned(
        image, pairing, reference, embedder=embedder or EMBEDDER,
        foreground=foreground or everywhere(image),
    )  # fmt: skip


def interior(mask: np.ndarray, margin: int) -> np.ndarray:
    size = 2 * margin + 1
    padded = np.pad(mask.astype(np.uint8), margin)
    return cv2.erode(padded, np.ones((size, size)))[margin:-margin, margin:-margin] > 0


# Turned


@pytest.mark.parametrize(
    ("turn", "scale", "size"),
    [(70, 1.0, (260, 260)), (-120, 1.6, (400, 400)), (180, 0.8, (144, 192)), (0, 2.0, (288, 384))],
)
def test_the_picture_comes_to_the_reference_s_frame(turn, scale, size) -> None:
    reference = picture()
    truth = about(CENTRE, turn, scale, (size[1] / 2 - 96, size[0] / 2 - 72))
    query = cv2.warpPerspective(
        reference, truth, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    embedder, stored = Recording(), reference_of(reference)
    view = view_of(query, pairing_of(truth, turn, scale), stored, embedder=embedder)
    (shown,) = embedder.images
    assert shown.shape == reference.shape
    inside = interior(cv2.resize(view.measured.astype(np.uint8), SIZE[::-1]) > 0, 8)
    assert inside.mean() > 0.5
    gaps = np.abs(shown.astype(float) - reference)[inside]
    assert gaps.mean() < 2.5
    strange = np.abs(picture(1).astype(float) - reference)[inside]
    assert gaps.mean() < strange.mean() / 15
    # What counts are the features: nearly those of the reference, cell by cell.
    cells = interior(view.measured, 2)
    distances = np.linalg.norm(view.patches.dense() - stored.patches.dense(), axis=2)[cells]
    others = np.linalg.norm(view.patches.dense()[::-1] - stored.patches.dense(), axis=2)[cells]
    assert np.median(distances) < 0.1
    assert np.median(others) > 5 * np.median(distances)
    assert view.patches.shape == stored.patches.shape
    assert (view.turn_deg, view.zoom) == (-turn, pytest.approx(1 / scale))
    assert view.picture_size == size
    np.testing.assert_allclose(view.matrix @ truth, np.eye(3), atol=1e-9)


def test_cells_beside_the_picture_are_not_measured() -> None:
    """The query is the right half: it begins 96 px, that is 12 cells, into the frame."""
    reference = picture()
    shift = np.array([[1, 0, -96], [0, 1, 0], [0, 0, 1.0]])
    view = view_of(reference[:, 96:].copy(), pairing_of(shift), reference_of(reference))
    wanted = np.zeros((18, 24), np.bool_)
    wanted[:, 12:] = True
    np.testing.assert_array_equal(view.measured, wanted)


def test_measured_is_where_a_blank_picture_of_the_same_size_would_show() -> None:
    """Against warping the picture's area itself."""
    reference, query = picture(), picture(3, (150, 130))
    matrix = about(CENTRE, 35, 0.9, (-30, 10))
    view = view_of(query, pairing_of(matrix, 35, 0.9), reference_of(reference))
    area = np.full((150, 130), 255, np.uint8)
    shown = cv2.warpPerspective(area, inverse(matrix), SIZE[::-1], flags=cv2.INTER_LINEAR)
    shares = shown.reshape(18, 8, 24, 8).mean((1, 3)) / 255
    np.testing.assert_array_equal(view.measured[shares > 0.8], True)
    np.testing.assert_array_equal(view.measured[shares < 0.2], False)
    assert 0.2 < view.measured.mean() < 0.8


def test_beside_the_picture_its_edge_goes_on() -> None:
    query, embedder = np.full((144, 96, 3), 77, np.uint8), Recording()
    unsure = replace(reference_of(picture()), foreground=everywhere(picture()))
    view = view_of(query, pairing_of(shifted(-96, 0)), unsure, embedder=embedder)
    np.testing.assert_array_equal(embedder.images[0], 77)
    assert not view.partial


def shifted(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def product(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize("brightness", [1.0, 0.7])
def test_beyond_the_picture_the_reference_goes_on_in_the_picture_s_light(brightness) -> None:
    """The query is the left 128 px; 32 px of the product lie beyond."""
    whole, embedder = picture(), Recording()
    query = np.clip(brightness * whole[:, :128].astype(np.float32), 0, 255).astype(np.uint8)
    reference = reference_of(whole, product(slice(32, 112), slice(32, 160)))
    view = view_of(query, pairing_of(shifted(0, 0)), reference, embedder=embedder)
    (seen,) = embedder.images
    assert view.partial
    np.testing.assert_array_equal(seen[:, :128], query)
    off = np.abs(seen[:, 128:].astype(float) - brightness * whole[:, 128:])
    assert off.mean() < 3  # grey levels: a JPEG, in another light
    np.testing.assert_array_equal(view.measured, np.arange(24)[None].repeat(18, 0) < 16)


@pytest.mark.parametrize(
    ("shift", "wanted"),
    [((0, 0), False), ((-24, 0), False), ((-48, 0), True), ((0, 40), True), ((-46, 0), True)],
)
def test_a_product_whose_cells_lie_beyond_is_out_of_the_picture(shift, wanted: bool) -> None:
    """Its mask leaves 40 px at the left and 32 at the bottom; a cell is 8 px."""
    reference = reference_of(picture(), product(slice(40, 112), slice(40, 120)))
    assert out_of_picture(pairing_of(shifted(*shift)), reference, SIZE) is wanted


def test_a_product_that_fills_its_pictures_is_not_out_of_them() -> None:
    reference = reference_of(picture())
    assert not out_of_picture(pairing_of(shifted(-7, 5)), reference, SIZE)
    assert out_of_picture(pairing_of(shifted(-40, 0)), reference, SIZE)


def test_a_guess_at_the_product_or_a_missing_picture_says_nothing_of_what_is_beyond() -> None:
    reference, far = reference_of(picture()), pairing_of(shifted(-96, 0))
    assert out_of_picture(far, reference, SIZE)
    unsure = replace(reference, foreground=replace(reference.foreground, confidence=0.3))
    assert not out_of_picture(far, unsure, SIZE)
    assert not out_of_picture(far, replace(reference, coded_thumbnail=None), SIZE)


def test_a_slanted_motion_is_followed_at_the_centre_and_never_sheared() -> None:
    reference = picture()
    corners = np.float32([[0, 0], [191, 0], [191, 143], [0, 143]])
    ends = np.float32([[10, 20], [180, 0], [191, 143], [0, 120]])
    slant = cv2.getPerspectiveTransform(corners, ends)
    view = view_of(picture(2), pairing_of(slant, 5.0, 0.9), reference_of(reference))
    landed = transform(slant, np.array([CENTRE]))
    np.testing.assert_allclose(transform(view.matrix, landed), [CENTRE], atol=1e-6)
    linear = view.matrix[:2, :2]
    np.testing.assert_allclose(linear @ linear.T, np.eye(2) / 0.9**2, atol=1e-9)
    np.testing.assert_allclose(view.matrix[2], [0, 0, 1], atol=1e-12)
    assert linear[1, 0] < 0  # turned back, so anticlockwise


def test_fine_noise_does_not_come_back_as_coarse_noise_when_shrinking() -> None:
    rng = np.random.default_rng(0)
    query = rng.integers(0, 256, (144 * 4, 192 * 4, 3)).astype(np.uint8)
    embedder, matrix = Recording(), about((0, 0), 0, 4.0, (1.5, 1.5))
    view_of(query, pairing_of(matrix, 0, 4.0), reference_of(picture()), embedder=embedder)
    assert embedder.images[0][8:-8, 8:-8].std() < 20  # 74 in the query, 37 by interpolation alone


def test_the_query_s_foreground_comes_along() -> None:
    reference, query = picture(), picture(2)
    mask = np.zeros(SIZE, np.bool_)
    mask[40:80, 100:160] = True
    shift = np.array([[1, 0, 20], [0, 1, -10], [0, 0, 1.0]])
    embedder = Recording()
    for ground in (Foreground(mask, 0.7, "estimated"), Foreground(mask, 1.0, "given")):
        view_of(query, pairing_of(shift), reference_of(reference), embedder=embedder,
                foreground=ground)  # fmt: skip
    for found, confidence in zip(embedder.foregrounds, (0.7, 1.0), strict=True):
        assert found.confidence == confidence
        wanted = np.zeros(SIZE, np.bool_)
        wanted[50:90, 80:140] = True
        np.testing.assert_array_equal(found.mask, wanted)


def test_a_foreground_that_leaves_the_frame_is_nothing_to_rely_on() -> None:
    mask = np.zeros(SIZE, np.bool_)
    mask[:, :30] = True
    shift = np.array([[1, 0, 60], [0, 1, 0], [0, 0, 1.0]])
    embedder = Recording()
    view_of(picture(), pairing_of(shift), reference_of(picture()), embedder=embedder,
            foreground=Foreground(mask, 1.0, "given"))  # fmt: skip
    assert embedder.foregrounds[0].confidence == 0.0


# As it is


@pytest.mark.parametrize("size", [SIZE, (250, 333)])
def test_the_view_as_it_is_lies_where_the_picture_lies(size) -> None:
    (embedding,) = EMBEDDER.embed([picture(0, size)])
    view = as_it_is(embedding)
    centres = embedding.patches.centres_px().reshape(-1, 2)
    np.testing.assert_allclose(view.centres_in_picture(), centres, atol=1e-4)
    np.testing.assert_array_equal(view.matrix, np.eye(3))
    assert view.measured.all()
    assert view.measured.shape == view.patches.shape
    assert (view.turn_deg, view.zoom, view.picture_size) == (0.0, 1.0, size)
    assert view.vector is embedding.vector


def test_cells_of_a_turned_view_lie_in_the_picture_as_given() -> None:
    """A quarter turn clockwise from reference to query: (x, y) -> (143 - y, x)."""
    quarter = np.array([[0, -1, 143], [1, 0, 0], [0, 0, 1.0]])
    reference, stored = picture(), reference_of(picture())
    query = cv2.rotate(reference, cv2.ROTATE_90_CLOCKWISE)
    embedder, ground = Recording(), given_foreground(np.ones(query.shape[:2], np.bool_))
    pairing = replace(pairing_of(quarter, 90), centre_xy=(30.0, 100.0))
    view = view_of(query, pairing, stored, embedder=embedder, foreground=ground)
    np.testing.assert_array_equal(embedder.images[0], reference)
    np.testing.assert_allclose(view.vector, stored.vector, atol=1e-6)
    assert view.measured.all()
    centres = view.centres_in_picture().reshape(18, 24, 2)
    np.testing.assert_allclose(centres[0, 0], [143 - 3.5, 3.5], atol=1e-3)
    np.testing.assert_allclose(centres[2, 5], [143 - 19.5, 43.5], atol=1e-3)


# When


@pytest.mark.parametrize(
    ("turn", "zoom", "wanted"),
    [
        (0, 1, False), (5.9, 1, False), (-5.9, 1, False), (6.1, 1, True), (-6.1, 1, True),
        (180, 1, True), (0, 1.19, False), (0, 1.21, True), (0, 1 / 1.19, False),
        (0, 1 / 1.36, True), (5, 1.1, False),
    ],
)  # fmt: skip
def test_far_turned_or_scaled_pictures_are_turned(turn, zoom, wanted: bool) -> None:
    # A picture of twice the pixels is no reason: its zoom counts, not its scale.
    assert wants_turning(pairing_of(np.eye(3), turn, 2.0, zoom)) is wanted


@pytest.mark.parametrize(
    ("turn", "zoom", "view_turn", "view_zoom", "wanted"),
    [
        (0, 1, 0, 1, True), (24, 1, 0, 1, True), (26, 1, 0, 1, False), (-26, 1, 0, 1, False),
        (90, 1, -90, 1, True), (90, 1, -60, 1, False), (175, 1, 170, 1, True),
        (-175, 1, -170, 1, True), (180, 1, 0, 1, False), (0, 1.45, 0, 1, True),
        (0, 1.55, 0, 1, False), (0, 1 / 1.55, 0, 1, False), (0, 2, 0, 0.5, True),
        (0, 2, 0, 0.8, False),
    ],
)  # fmt: skip
def test_references_compare_with_a_view_that_shows_them_nearly_upright(
    turn, zoom, view_turn, view_zoom, wanted: bool
) -> None:
    (embedding,) = EMBEDDER.embed([picture()])
    view = replace(as_it_is(embedding), turn_deg=float(view_turn), zoom=float(view_zoom))
    assert comparable(pairing_of(np.eye(3), turn, 1.0, zoom), view) is wanted


def test_what_did_not_register_is_not_comparable() -> None:
    (embedding,) = EMBEDDER.embed([picture()])
    assert not comparable(pairing_of(None), as_it_is(embedding))
