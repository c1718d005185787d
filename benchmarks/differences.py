"""How far patches lie from their counterparts, in photographs that are aligned as ever.

Rendered products with four easy references each, and further photographs of medium difficulty:
pristine and damaged ones, some under a shadow, glare or film folds. The counterpart of a measured
cell within the product is the nearest patch in the windows of its aligned references; that of a
cell beside the product, the nearest that any reference has anywhere: what `compare` takes, but by
features as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from anomaly.content import kept
from anomaly.pipeline import examine, usable
from anomaly.placed import RADIUS, Aligned, overlap, places_of, product_cells, sampled
from anomaly.results import View
from anomaly.rim import grown, within
from anomaly.studio import LEVELS, Damage, Nuisance, Photograph, Product, make_products, render
from benchmarks.rendered import as_query, stored
from embeddings import Embedder, Mask
from embeddings.patches import Floats
from gallery import Reference

REFERENCES, PRISTINE = 4, 4
DAMAGES = ("tear", "crush", "hole", "stain", "scuff", "dirt")  # one photograph of each
SPILLS = 2
_AREA = (0.006, 0.04)  # of the face
_STRENGTH = (0.2, 0.9)
_KINDS = ("", "", "shadow", "glare", "film_folds", "lot_code")
_CELL_PX, SHOWS = 11, 0.6  # about a cell's centre; share of it that shows damage


@dataclass(frozen=True)
class Cells:
    """(N, D) differences of patches from their counterparts, and these."""

    difference: Floats
    counterpart: Floats


@dataclass(frozen=True)
class Examined:
    """The cells of a pristine photograph, or those that show its `damage`. Beside the product, of
    the pristine ones every second row and column: they are many."""

    product_id: str
    damage: str
    product: Cells
    beside: Cells


def examined(seed: int, embedder: Embedder) -> list[Examined]:
    """Of a dozen products."""
    found: list[Examined] = []
    with embedder.repeatable():
        for place, product in enumerate(make_products(seed=seed)):
            found += _of(product, seed, place, embedder)
    print(f"{len(found)} photographs of seed {seed}", flush=True)
    return found


def _of(product: Product, seed: int, place: int, embedder: Embedder) -> Iterator[Examined]:
    rng = np.random.default_rng([seed, place])
    ground = ("tray", "belt")[place % 2]

    def shoot(level: str, damage: Damage | None = None, kind: str = "") -> Photograph:
        nuisances = (Nuisance(kind, float(rng.uniform(*_STRENGTH))),) if kind else ()
        shot = LEVELS[level].draw(rng, background=ground)
        return render(product, shot=shot, seed=int(rng.integers(2**31)), damage=damage,
                      nuisances=nuisances)  # fmt: skip

    easy = [shoot("easy") for _ in range(REFERENCES)]
    references, _ = stored(product.product_id, easy, embedder=embedder)
    for damage in (*[""] * PRISTINE, *DAMAGES, *["spill"] * SPILLS):
        area = float(np.exp(rng.uniform(*np.log(_AREA))))
        hurt = Damage(damage, float(rng.uniform(*_STRENGTH)), area=area) if damage else None
        photograph = shoot("medium", hurt, str(rng.choice(_KINDS)))
        found = _cells(photograph, references, embedder)
        if found is not None:
            yield Examined(product.product_id, damage, *found)


def _cells(
    photograph: Photograph, references: Sequence[Reference], embedder: Embedder
) -> tuple[Cells, Cells] | None:
    """Within the product and beside it; None where no reference registers."""
    evidence = examine(as_query(photograph.image), references, embedder=embedder)
    view, pairings = evidence.view, usable(evidence.alignment, evidence.view)
    if not pairings:
        return None
    aligned = [
        Aligned(r, r.patches.dense(), _product(r), pairings[r.reference_id])
        for r in references
        if r.reference_id in pairings
    ]
    query, asked = view.patches.dense(), _asked(photograph, view)
    lies, found, placed = _in_windows(query, aligned, view)
    core, outer = placed & within(lies) & asked, view.measured & ~grown(lies) & asked
    if not photograph.damage_mask.any():
        outer[1::2] = outer[:, 1::2] = False
    others = [r.patches.dense()[kept(_product(r))] for r in references]
    anywhere = _nearest(query[outer], np.concatenate(others))
    return (
        Cells(query[core] - found[core], found[core]),
        Cells(query[outer] - anywhere, anywhere),
    )


def _product(reference: Reference) -> Mask:
    return product_cells(reference.foreground.mask, reference.patches.shape)


def _in_windows(query: Floats, aligned: Sequence[Aligned], view: View) -> tuple[Mask, Floats, Mask]:
    """(H, W) where the product lies; the (H, W, D) nearest patches, and (H, W) where there are."""
    least = np.full(view.measured.shape, np.inf, np.float32)
    nearest, product = np.zeros_like(query), np.zeros(view.measured.shape, np.bool_)
    for one in aligned:
        places, lies = places_of(one, view)
        product |= lies
        squared, found = in_window(query, sampled(one.grid, places), lies & view.measured)
        nearer = squared < least
        least[nearer], nearest[nearer] = squared[nearer], found[nearer]
    return product, nearest, np.isfinite(least)


def in_window(query: Floats, moved: Floats, on: Mask) -> tuple[Floats, Floats]:
    """Of (H, W, D) patches the nearest of those `moved` here that lie in their windows, and (H, W)
    `on`: (H, W) squared distances, infinite where there is none, and these patches."""
    height, width = on.shape
    least, nearest = np.full(on.shape, np.inf, np.float32), np.zeros_like(query)
    for down in range(-RADIUS, RADIUS + 1):
        for right in range(-RADIUS, RADIUS + 1):
            one = overlap(height, down), overlap(width, right)
            other = overlap(height, -down), overlap(width, -right)
            apart = query[one] - moved[other]
            squared = np.einsum("hwd,hwd->hw", apart, apart)
            nearer = (squared < least[one]) & on[one] & on[other]
            least[one][nearer] = squared[nearer]
            nearest[one][nearer] = moved[other][nearer]
    return least, nearest


def _nearest(some: Floats, others: Floats) -> Floats:
    """Of each of some (N, D) patches the nearest of others (M, D)."""
    squares = np.einsum("nd,nd->n", others, others)
    return np.asarray(others[np.argmin(squares - 2 * some @ others.T, axis=1)])


def _asked(photograph: Photograph, view: View) -> Mask:
    """(H, W) bool cells of the view that show the damage; all where there is none."""
    if not photograph.damage_mask.any():
        return np.ones(view.measured.shape, np.bool_)
    shares = covered(photograph.damage_mask, view.centres_in_picture())
    return (shares > SHOWS).reshape(view.measured.shape)


def covered(mask: Mask, points: NDArray[np.floating]) -> Floats:
    """(N,) share of (h, w) `mask` about each of (N, 2) x, y."""
    shares = cv2.blur(mask.astype(np.float32), (_CELL_PX, _CELL_PX))
    places = np.rint(np.nan_to_num(points)).astype(np.intp)
    x, y = np.clip(places, 0, np.array(mask.shape[::-1]) - 1).T
    return np.asarray(shares[y, x])
