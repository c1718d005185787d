"""Pictures of a fixture, of products with too little print to register."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from anomaly.in_place import in_place
from anomaly.inspection import _summary
from anomaly.pipeline import Query, examine
from anomaly.profile import Profile
from anomaly.results import Alignment, Pairing
from embeddings import detect_keypoints, fake_embedder
from embeddings.foreground import Foreground
from embeddings.registration import Registration, transform
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record

SIZE = (180, 240)


def board(seed: int = 0, x: float = 0.0, y: float = 0.0, shade: float = 1.0) -> np.ndarray:
    """A few tracks on a plain board, moved by x, y pixels."""
    rng = np.random.default_rng(seed)
    image = np.full((*SIZE, 3), 60, np.uint8)
    for _ in range(9):
        a, b = rng.integers(20, 160, 2), rng.integers(20, 160, 2)
        start, end = (int(a[0]) + 30, int(a[1])), (int(b[0]) + 30, int(b[1]))
        cv2.line(image, start, end, (190, 180, 90), 5, cv2.LINE_AA)
    moved = cv2.warpAffine(
        image, np.array([[1.0, 0, x], [0, 1, y]]), SIZE[::-1], borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved * shade, np.uint8)


def reference_of(image: np.ndarray, mask: np.ndarray | None = None, name: str = "r0") -> Reference:
    whole = np.ones(SIZE, np.bool_) if mask is None else mask
    described = describe(image, fake_embedder(size_px=120), mask=whole)
    row = CatalogRow("p", 1, 0, name, None, None, None, None, None, name)
    return from_record(to_record(row, described), described.vector)


def nothing(*names: str) -> Alignment:
    none = np.zeros((0, 2), np.intp)
    failed = Registration(None, None, 3, 0, np.nan, np.nan, none, "too_few_matches")
    return Alignment(tuple(Pairing(n, failed, 0.0, 1.0, 1.0, (119.5, 89.5)) for n in names), None)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (4.0, -2.0)])
def test_the_shift_of_a_fixture_is_found_in_any_light(shift: tuple[float, float]) -> None:
    found = in_place(nothing("r0"), board(0, *shift, shade=0.6), [reference_of(board())]).fitting
    assert found is not None
    assert found.ok
    matrix = found.registration.matrix
    assert matrix is not None
    corners = np.array([[0.0, 0.0], [239, 0], [0, 179], [239, 179]])
    np.testing.assert_allclose(
        transform(matrix, corners) - corners, [shift] * 4, atol=2.5
    )  # asked at a quarter
    assert found.registration.inliers == 0


def test_pictures_of_another_size_are_brought_to_their_pixels() -> None:
    large = cv2.resize(board(0, 4, -2), None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    found = in_place(nothing("r0"), large, [reference_of(board())]).fitting
    assert found is not None
    assert found.registration.matrix is not None
    ((x, y),) = transform(found.registration.matrix, np.array([[100.0, 80.0]]))
    assert (x, y) == pytest.approx((2 * 104 + 0.5, 2 * 78 + 0.5), abs=5)  # asked at an eighth
    assert (found.scale, found.zoom) == (2.0, 1.0)


def test_another_board_is_not_in_place() -> None:
    failed = nothing("r0")
    assert in_place(failed, board(5), [reference_of(board())]) is failed


def test_a_tray_that_agrees_says_nothing_of_the_product() -> None:
    """The same tray, and another board upon it: only the product is asked."""
    tray = np.random.default_rng(9).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    mask = np.zeros(SIZE, np.bool_)
    mask[60:120, 80:160] = True
    ours, theirs = tray.copy(), tray.copy()
    ours[mask], theirs[mask] = board()[mask], board(5)[mask]
    failed = nothing("r0")
    reference = reference_of(ours, mask)
    assert in_place(failed, theirs, [reference]) is failed
    assert in_place(failed, ours, [reference]).best == 0


def test_the_reference_that_agrees_best_leads_and_the_others_are_kept() -> None:
    references = [reference_of(board(5), name="a"), reference_of(board(), name="b")]
    found = in_place(nothing("a", "b"), board(), references)
    assert found.best == 1
    assert [p.ok for p in found.pairings] == [False, True]


def test_without_a_thumbnail_or_in_another_format_nothing_is_claimed() -> None:
    failed, reference = nothing("r0"), reference_of(board())
    assert in_place(failed, board(), [replace(reference, coded_thumbnail=None)]) is failed
    assert in_place(failed, board()[:, :180], [reference]) is failed
    blank = np.full((*SIZE, 3), 90, np.uint8)
    assert in_place(failed, blank, [reference]) is failed


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 2), (6, 2000), (900, 5), (4, 4)])
def test_thin_and_tiny_pictures_are_compared_like_others(size: tuple[int, int]) -> None:
    """OpenCV's errors ended batches and builds."""
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    embedder, whole = fake_embedder(size_px=120), np.ones(size, np.bool_)
    row = CatalogRow("p", 1, 0, "r0", None, None, None, None, None, "r0")
    described = describe(image, embedder, mask=whole)
    strip = from_record(to_record(row, described), described.vector)
    failed = nothing("r0")
    assert in_place(failed, image, [reference_of(board())]) is failed
    assert in_place(failed, board(), [strip]) is failed
    query = Query(lambda: image, Foreground(whole, 1.0, "given"), lambda: detect_keypoints(image))
    for reference in (strip, reference_of(board())):
        assert examine(query, [reference], embedder=embedder).comparison.channels


def test_an_inspection_says_that_it_is_aligned_without_inliers() -> None:
    """A residual of NaN was no JSON."""
    blank = np.zeros(SIZE, np.bool_)
    ground = Foreground(~blank, 0.0, "estimated")
    few = detect_keypoints(np.full((*SIZE, 3), 90, np.uint8))
    query = Query(lambda: board(0, 4, -2), ground, lambda: few)
    evidence = examine(query, [reference_of(board())], embedder=fake_embedder(size_px=120))
    assert evidence.comparison.placed
    summary = _summary(evidence, Profile(()))
    assert (summary.status, summary.inliers, summary.residual_px) == ("aligned", 0, None)
    assert summary.overlap_fraction == pytest.approx(0.95, abs=0.05)
