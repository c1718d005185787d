"""What every dataset is turned into: products, each with references and queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from embeddings.images import Mask, Pixels


@dataclass(frozen=True)
class Sample:
    """A photograph and what is known of it. The callables read files when called; they pickle.

    sample_id       unique within its set; a path relative to the set's folder where it is a file
    read            (H, W, 3) uint8 RGB
    damaged         None: not labelled
    defect_types    as the set names them; where there are boxes and types of each, in their order
    major           damage that counts for AP_major; False: minor damage, which AP_major leaves out;
                    None: not damaged, or the set makes no difference
    read_mask       (H, W) bool, True = defect; None: pristine, or no defect mask in the set
    read_item_mask  (H, W) bool, True = product: never a defect mask
    boxes           x0 y0 x1 y1, pixels, half-open, around defects
    slice           a part of the set that is reported by itself: "pose 90", an item's material
    """

    sample_id: str
    product_id: str
    read: Callable[[], Pixels]
    damaged: bool | None = None
    defect_types: tuple[str, ...] = ()
    major: bool | None = None
    read_mask: Callable[[], Mask] | None = None
    read_item_mask: Callable[[], Mask] | None = None
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    slice: str = ""


@dataclass(frozen=True)
class Split:
    """One product's references and queries; no picture is both.

    shots is what was asked for, at most what the set can give (`Layout.max_shots`).
    """

    dataset: str
    product_id: str
    shots: int
    seed: int
    references: tuple[Sample, ...]
    queries: tuple[Sample, ...]
