"""Local features on the product: by a mask of another size, where the foreground is trusted."""

from __future__ import annotations

import numpy as np
import pytest

from embeddings.foreground import Foreground
from embeddings.keypoints import Keypoints
from embeddings.on_product import TRUSTED, on_product, trusted_points


def grid_of_points() -> Keypoints:
    """One feature every 20 px of a 640 x 480 picture."""
    y, x = np.mgrid[10:480:20, 10:640:20]
    count = x.size
    return Keypoints(
        np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32),
        np.ones(count, np.float32),
        np.zeros(count, np.float32),
        np.zeros((count, 128), np.uint8),
        (480, 640),
    )


@pytest.mark.parametrize("shape", [(480, 640), (240, 320), (960, 1280)])
def test_points_in_the_left_half_are_kept_whatever_the_masks_size(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, np.bool_)
    mask[:, : shape[1] // 2] = True
    points = grid_of_points()
    kept = on_product(points, Foreground(mask, 1.0, "given"))
    # Features sit on outlines, too: 8 px beyond it count.
    expected = points.points_xy[points.points_xy[:, 0] < 320]
    assert kept.points_xy.tolist() == expected.tolist()


@pytest.mark.parametrize("confidence", [0.0, TRUSTED - 0.01, TRUSTED, 1.0])
def test_a_foreground_that_is_not_trusted_leaves_out_nothing(confidence: float) -> None:
    points = grid_of_points()
    ground = Foreground(np.zeros((480, 640), np.bool_), confidence, "test")
    kept = trusted_points(points, ground)
    assert len(kept) == (len(points) if confidence < TRUSTED else 0)
