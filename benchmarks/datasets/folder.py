"""A product in folders of whole and damaged pictures: `cookies`, `carton_top`, your own.

    NAME/normal/*.jpg       pristine; any picture format
    NAME/anomalous/*.jpg    damaged
    NAME/masks/*.png        optional; named like the damaged picture, not black = defect

Protocol (that of the figures in the design): the sorted normal pictures are shuffled by
`random.Random(seed)`; the first K are references, the next 40 negatives. The sorted anomalous ones
are shuffled by the same generator next; the first 40 are positives. Fewer are used where there are
no more. References of more shots hold those of fewer; negatives change with shots.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from benchmarks.datasets.errors import TooFewPictures
from benchmarks.datasets.listing import as_sample, by_stem, match_stems, pictures
from benchmarks.datasets.masks import read_defect_mask
from benchmarks.datasets.sample import Sample, Split

MOST_QUERIES = 40  # of each label


def read_folder(
    home: Path, *, dataset: str, part: str | None, shots: int, seed: int
) -> list[Split]:
    """One split: the product is the set. It has no parts."""
    assert part is None
    normal, anomalous = pictures(home / "normal"), pictures(home / "anomalous")
    masks = _masks(home, anomalous)
    if len(normal) <= shots:
        raise TooFewPictures(
            home / "normal",
            f"{len(normal)} pictures for {shots} references and at least one negative; ask for at "
            f"most {len(normal) - 1} references",
        )
    rng = random.Random(seed)
    rng.shuffle(normal)
    rng.shuffle(anomalous)

    def whole(path: Path) -> Sample:
        return as_sample(path, home=home, product_id=dataset, damaged=False)

    def broken(path: Path) -> Sample:
        mask = masks.get(path.stem)
        read = partial(read_defect_mask, mask, picture=path) if mask else None
        return as_sample(path, home=home, product_id=dataset, damaged=True, read_mask=read)

    negatives = [whole(path) for path in normal[shots : shots + MOST_QUERIES]]
    positives = [broken(path) for path in anomalous[:MOST_QUERIES]]
    references = tuple(whole(path) for path in normal[:shots])
    return [Split(dataset, dataset, shots, seed, references, (*negatives, *positives))]


def _masks(home: Path, anomalous: list[Path]) -> dict[str, Path]:
    folder = home / "masks"
    if not folder.exists():
        return {}
    masks = by_stem(pictures(folder))
    match_stems(by_stem(anomalous), masks, folder=folder, what="the defect mask")
    return masks
