"""The layout of MVTec AD (Bergmann et al., CVPR 2019), as published; parts are categories.

    CATEGORY/train/good/*.png
    CATEGORY/test/good/*.png
    CATEGORY/test/TYPE/*.png                a folder for each type of defect
    CATEGORY/ground_truth/TYPE/*_mask.png   for each damaged picture; 255 = defect

Few-shot protocol: K references of `train/good` by seed (`protocol.draw_references`); all of `test`
is asked, the same for every seed. The other training pictures are not used.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.datasets.errors import UnknownSet
from benchmarks.datasets.listing import as_sample, by_stem, folders, match_stems, pictures
from benchmarks.datasets.masks import read_defect_mask
from benchmarks.datasets.protocol import draw_references
from benchmarks.datasets.sample import Sample, Split

GOOD = "good"


def read_mvtec(home: Path, *, dataset: str, part: str | None, shots: int, seed: int) -> list[Split]:
    """A split for each category in `home`, or for the category `part` alone."""
    categories = folders(home)
    if part is not None:
        known = [category.name for category in categories]
        if part not in known:
            raise UnknownSet(f"{dataset}/{part}", f"no such category; there is {', '.join(known)}")
        categories = [home / part]
    return [_category(c, home=home, dataset=dataset, shots=shots, seed=seed) for c in categories]


def _category(folder: Path, *, home: Path, dataset: str, shots: int, seed: int) -> Split:
    good = folder / "train" / GOOD
    drawn = draw_references(pictures(good), shots=shots, seed=seed, where=good)
    references = tuple(
        as_sample(path, home=home, product_id=folder.name, damaged=False) for path in drawn
    )
    queries = [q for kind in folders(folder / "test") for q in _queries(kind, folder, home)]
    return Split(dataset, folder.name, shots, seed, references, tuple(queries))


def _queries(kind: Path, category: Path, home: Path) -> list[Sample]:
    asked = pictures(kind)
    if kind.name == GOOD:
        return [as_sample(p, home=home, product_id=category.name, damaged=False) for p in asked]
    truth = category / "ground_truth" / kind.name
    masks = by_stem(pictures(truth))
    wanted = {f"{path.stem}_mask": path for path in asked}
    match_stems(wanted, masks, folder=truth, what="the defect mask")
    return [
        as_sample(
            path, home=home, product_id=category.name, damaged=True, defect_types=(kind.name,),
            read_mask=partial(read_defect_mask, masks[stem], picture=path),
        )
        for stem, path in wanted.items()
    ]  # fmt: skip
