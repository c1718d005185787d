"""Pictures laid upon each other, where their points must fall is known."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from test_anomaly_detail import EMBEDDER, SIZE, moved, picture, reference_of, view_of

from anomaly.looks import part_of
from anomaly.matched import Matched, lay_upon
from anomaly.results import View
from anomaly.view import as_it_is
from gallery import CatalogRow, Reference
from gallery.describe import describe, from_record, to_record

FAR = (576, 768)  # embedded at a quarter of this


def far_scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A printed product that fills a ninth of a large picture, and its mask."""
    scene = np.full((*FAR, 3), 60, np.uint8)
    mask = np.zeros(FAR, np.bool_)
    mask[200:392, 250:506] = True
    scene[200:392, 250:506] = picture(seed, (192, 256))
    return scene, mask


def stored(image: np.ndarray, mask: np.ndarray) -> Reference:
    described = describe(image, EMBEDDER, mask=mask)
    row = CatalogRow("p", 1, 0, "r0", None, None, None, None, None, "r0")
    return from_record(to_record(row, described), described.vector)


def view_of_far(image: np.ndarray) -> View:
    return as_it_is(EMBEDDER.embed([image])[0])


def laid(query: np.ndarray, reference: Reference, matrix: np.ndarray | None = None) -> Matched:
    found = lay_upon(query, view_of_far(query), [(reference, moved(matrix))])
    assert found is not None
    return found


def test_a_small_product_is_looked_at_in_the_pixels_that_it_has() -> None:
    scene, mask = far_scene()
    found = laid(scene, stored(scene, mask))
    assert found.cell_px > 3 * 8  # the picture holds four times the embedded resolution
    assert max(found.query.shape) <= 384
    (one,) = found.laid
    on = one.known > 0
    gaps = np.abs(found.query.astype(int) - one.picture.astype(int))[on]
    assert np.quantile(gaps, 0.95) < 12  # JPEGs apart, the same pixels


def test_a_product_that_fills_the_picture_is_looked_at_as_it_was_embedded() -> None:
    view = view_of(picture())
    found = lay_upon(picture(), view, [(reference_of(picture()), moved())])
    assert found is not None
    assert found.cell_px == 8
    assert found.query.shape == (*SIZE, 3)


def test_without_a_close_up_the_thumbnail_serves() -> None:
    scene, mask = far_scene()
    reference = stored(scene, mask)
    assert reference.close_up is not None
    coarse = laid(scene, replace(reference, close_up=None))
    assert coarse.cell_px == 8
    gaps = np.abs(coarse.query.astype(int) - coarse.laid[0].picture.astype(int))
    assert np.quantile(gaps[coarse.laid[0].known > 0], 0.9) < 25


@pytest.mark.parametrize("offset", [(0.0, 0.0), (2.0, -1.5)])
def test_a_guess_is_moved_by_what_registration_left_over(offset: tuple[float, float]) -> None:
    scene, mask = far_scene()
    off = np.array([[1.0, 0, offset[0]], [0, 1, offset[1]], [0, 0, 1]])
    reference = stored(scene, mask)
    guess = replace(reference, foreground=replace(reference.foreground, confidence=0.2))

    def gap(one: Reference) -> float:
        found = laid(scene, one, off)
        inner = cv2.erode(found.laid[0].product, np.ones((9, 9), np.uint8)) > 0
        gaps = np.abs(found.query.astype(int) - found.laid[0].picture.astype(int))[inner]
        return float(np.quantile(gaps, 0.95))

    assert gap(guess) < 20
    assert (gap(reference) < 20) == (offset == (0.0, 0.0))  # taken at its word


def test_what_sticks_to_one_mask_of_three_is_no_product() -> None:
    scene, mask = far_scene()
    bulged = mask.copy()
    bulged[160:200, 300:400] = True  # a link of the belt
    references = [stored(scene, one) for one in (mask, bulged, mask)]
    view = view_of_far(scene)

    def cells(*chosen: Reference) -> list[float]:
        """That are known of each."""
        found = lay_upon(scene, view, [(reference, moved()) for reference in chosen])
        assert found is not None
        return [float(one.known.sum()) / found.cell_px**2 for one in found.laid]

    product, (alone,) = cells(references[0])[0], cells(references[1])
    assert alone > 1.05 * product
    assert cells(*references) == pytest.approx([product] * 3, rel=0.01)
    assert cells(*references[:2]) == pytest.approx([product] * 2, rel=0.01)
    guessed = replace(references[1].foreground, confidence=0.2)
    _, everything = cells(references[0], replace(references[1], foreground=guessed))
    assert everything > alone


def test_values_come_back_on_the_grid() -> None:
    scene, mask = far_scene()
    found = laid(scene, stored(scene, mask))
    values = np.zeros(found.query.shape[:2], np.float32)
    row, column = found.rows.start + 2, found.columns.start + 3
    values[2 * found.cell_px + 1, 3 * found.cell_px + 1] = 5.0
    cells = found.by_cell(values, np.ones(values.shape, np.bool_))
    assert cells.shape == found.view.patches.shape
    assert cells[row, column] == 5.0
    assert np.nansum(cells) == 5.0
    assert np.isnan(cells[: found.rows.start]).all()


def test_nothing_to_lay_is_none() -> None:
    scene, mask = far_scene()
    away = moved(np.array([[1.0, 0, 5000], [0, 1, 0], [0, 0, 1]]))
    assert lay_upon(scene, view_of_far(scene), [(stored(scene, mask), away)]) is None
    assert lay_upon(scene, view_of_far(scene), []) is None


def test_a_part_is_cut_as_the_whole_would_be() -> None:
    scene, _ = far_scene(3)
    motion = np.array([[0.9, 0.1, -180.0], [-0.1, 0.9, -120.0], [0, 0, 1]])
    whole = cv2.warpPerspective(scene, motion, (200, 150), flags=cv2.INTER_LINEAR)
    np.testing.assert_allclose(part_of(scene, motion, (150, 200)), whole, atol=2)


@pytest.mark.parametrize("x", [-4000.0, 4000.0])
def test_a_part_beyond_the_picture_is_its_edge(x: float) -> None:
    scene, _ = far_scene()
    found = part_of(scene, np.array([[1.0, 0, x], [0, 1, 0], [0, 0, 1]]), (30, 40))
    assert found.shape == (30, 40, 3)
    assert (found == 60).all()
