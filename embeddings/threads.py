"""How many threads torch and OpenCV work with in this process; nothing sets it at import."""

from __future__ import annotations

import cv2


def limit_threads(count: int) -> None:
    """Let torch and OpenCV use `count` threads each from now on, in the whole process."""
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)
