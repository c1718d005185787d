"""The figures that scorers are compared by: of pictures, of pixels, of boxes."""

from benchmarks.metrics_box import BoxCounts, box_recall, count_boxes, false_regions
from benchmarks.metrics_image import (
    Difference,
    Run,
    Sweep,
    area_under_pr,
    area_under_roc,
    auroc,
    average_precision,
    average_precision_major,
    false_alarm_rate,
    paired_bootstrap,
    recall_at_fpr,
    recall_at_precision,
    sweep,
    top_k,
)
from benchmarks.metrics_pixel import (
    HeatView,
    PixelEvidence,
    aupro,
    pixel_auroc,
    pixel_average_precision,
    pixel_evidence,
)

__all__ = [
    "BoxCounts",
    "Difference",
    "HeatView",
    "PixelEvidence",
    "Run",
    "Sweep",
    "area_under_pr",
    "area_under_roc",
    "aupro",
    "auroc",
    "average_precision",
    "average_precision_major",
    "box_recall",
    "count_boxes",
    "false_alarm_rate",
    "false_regions",
    "paired_bootstrap",
    "pixel_auroc",
    "pixel_average_precision",
    "pixel_evidence",
    "recall_at_fpr",
    "recall_at_precision",
    "sweep",
    "top_k",
]
