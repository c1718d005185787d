"""Pictures of a scorer's best and worst queries for the report, damage outlined in red."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from benchmarks.datasets import Sample
from benchmarks.plan import Plan
from benchmarks.records import Records
from benchmarks.report import Exhibit, notable

_THUMBNAIL_PX = 320
_SHOTS = 4
_RED = (235, 30, 30)


def exhibits(records: Records, plan: Plan, *, scorer: str) -> Sequence[Exhibit]:
    """For the first seed and four references, or the only number of references there is."""
    samples = {
        (split.dataset, split.shots, split.seed, split.product_id, sample.sample_id): sample
        for split in plan.splits()
        if split.seed == plan.seeds[0]
        for sample in split.queries
    }
    found = []
    for dataset, shots in sorted({(key[0], key[1]) for key in samples}):
        if shots != _SHOTS and len({key[1] for key in samples if key[0] == dataset}) > 1:
            continue
        for one in notable(
            records, scorer=scorer, dataset=dataset, shots=shots, seed=plan.seeds[0]
        ):
            row = one.record
            found.append(Exhibit(one, _thumbnail(samples[row.query])))
    return found


def _thumbnail(sample: Sample) -> bytes:
    """JPEG data."""
    pixels = sample.read().copy()
    width = max(1, round(max(pixels.shape[:2]) / _THUMBNAIL_PX))
    if sample.read_mask is not None:
        mask = sample.read_mask().astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(pixels, outlines, -1, _RED, width)
    for x0, y0, x1, y1 in sample.boxes:
        cv2.rectangle(pixels, (round(x0), round(y0)), (round(x1), round(y1)), _RED, width)
    image = Image.fromarray(pixels)
    image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=80)
    return file.getvalue()
