"""Rendered photographs as references, without a gallery on disk: what a build would have stored."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from anomaly import calibration
from anomaly.align import features
from anomaly.pipeline import Query
from anomaly.pose import with_poses
from anomaly.profile import Profile, ProfileStep, read_profile
from anomaly.results import Comparison
from anomaly.studio import Photograph, Product, draw_shot, render
from embeddings import Embedder, Pixels, estimate_foreground
from embeddings.exposure import clipped_pixels
from gallery import CatalogRow, Reference, describe
from gallery.describe import from_record, to_record


@dataclass(frozen=True)
class Rendered:
    """A product's references and what they say about each other."""

    references: list[Reference]
    profile: Profile


def shooter(
    product: Product, *, seed: int, background: str, max_angle_deg: float = 180.0
) -> Callable[..., Photograph]:
    """A camera: each call is another photograph, drawn from `seed`; options are `render`'s."""
    rng = np.random.default_rng(seed)

    def shoot(**options: Any) -> Photograph:
        shot = draw_shot(rng, background=background, max_angle_deg=max_angle_deg)
        return render(product, shot=shot, seed=int(rng.integers(2**31)), **options)

    return shoot


def as_references(
    product_id: str, photographs: Sequence[Photograph], *, embedder: Embedder
) -> Rendered:
    references, pictures = stored(product_id, photographs, embedder=embedder)
    step = ProfileStep(embedder, pictures.__getitem__)
    record = step(references)
    return Rendered(with_poses(references, record), read_profile(record))


def stored(
    product_id: str, photographs: Sequence[Photograph], *, embedder: Embedder
) -> tuple[list[Reference], dict[str, bytes]]:
    """References that were stored and read back, so that grids have been through the codec, and
    their pictures by their IDs."""
    references, pictures = [], {}
    for slot, photograph in enumerate(photographs):
        digest = f"{slot:032x}" * 2
        row = CatalogRow(product_id, 0, slot, digest, None, None, None, None, None, "")
        found = describe(photograph.image, embedder)
        references.append(from_record(to_record(row, found), found.vector))
        pictures[references[-1].reference_id] = _png(photograph.image)
    return references, pictures


def kept_as(comparison: Comparison) -> str:
    """The kind of evidence by which calibrations keep a score."""
    return calibration.kept_as(comparison.kind)


def as_query(image: Pixels) -> Query:
    """A photograph as the inspector looks at it."""
    ground = estimate_foreground(image)
    return Query(
        lambda: image,
        ground,
        lambda: features(image, ground),
        clipped=lambda: clipped_pixels(image),
    )


def _png(image: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", compress_level=1)
    return file.getvalue()
