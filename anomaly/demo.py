"""`amiss demo`: the whole engine on rendered products, verdicts against truth.

The engine gets pictures and product IDs, as files, and nothing else: which picture carries which
damage is known to the renderer and to the table of expectations alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from anomaly.batch_report import BatchReport
from anomaly.builder import build_gallery
from anomaly.errors import ConfigError
from anomaly.inspector import Inspector
from anomaly.results import Inspection, Unreadable
from anomaly.studio import Damage, Product, draw_shot, make_products, render
from gallery.durable import make_folder, make_writable, write_file

REFERENCES = 4
BUDGET = 0.01
_MARK = "made-by-amiss-demo"
# Crushes on busy print score little: of 18 on all six cartons 8 are found, on the last one all.
_OF_CARTONS = ("tear", "tear", "hole", "spill", "stain", "crush")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Case:
    """A photograph to be taken and what should be said of it.

    kind     a finding of this kind must be among those reported; None: whatever
    claimed  the product ID that is claimed, or None: identify it
    """

    name: str
    product: Product
    verdict: str
    damage: Damage | None = None
    kind: str | None = None
    face: str = "front"
    claimed: str | None = None

    @property
    def expected(self) -> str:
        return self.verdict if self.kind is None else f"{self.verdict} ({self.kind})"


@dataclass(frozen=True)
class Outcome:
    """A case and what the engine said."""

    expected: str
    result: Inspection | Unreadable
    as_expected: bool

    def cells(self) -> tuple[str, ...]:
        """A table's row: picture, expected, verdict, score, findings, mark."""
        name, mark = Path(self.result.image).stem, "" if self.as_expected else "<- not as expected"
        if isinstance(self.result, Unreadable):
            return name, self.expected, "error", "", self.result.message, mark
        score = "" if self.result.score is None else f"{self.result.score:.1f}"
        kinds = ", ".join(sorted({finding.kind for finding in self.result.findings}))
        return name, self.expected, self.result.verdict, score, kinds, mark


def run_demo(
    out: Path, *, seed: int = 0, progress: Progress = lambda stage, done, total: None
) -> Iterator[Outcome]:
    """Render, build, inspect; yields outcomes and writes `report.html` under `out` at the end.

    `out` is made anew if an earlier demo made it. Raises `ConfigError` if it holds something else.
    """
    _clear(out)
    products = make_products(seed=seed)
    strangers = make_products(seed=seed + 1)
    _take_references(products, out / "references", seed, progress)
    build_gallery(out / "references", out / "gallery", progress=progress)
    cases = make_cases(products, strangers[0])
    report = BatchReport(out)
    with Inspector.open(out / "gallery", budget=BUDGET) as inspector:
        for number, case in enumerate(cases):
            path = out / "queries" / f"{number:02d}-{case.name}.jpg"
            _take(case, path, np.random.default_rng([seed, 1, number]))
            result = inspector.inspect(path, product_id=case.claimed, picture=True)
            report.add(result)
            progress("inspect", number + 1, len(cases))
            yield Outcome(case.expected, result, _matches(case, result))
    queries = [str(out / "queries" / f"{n:02d}-{c.name}.jpg") for n, c in enumerate(cases)]
    report.finish("amiss demo", truth=dict(zip(queries, [c.expected for c in cases], strict=True)))


def make_cases(products: Sequence[Product], stranger: Product) -> list[Case]:
    """What the demo shows: every product pristine, damages, and what can't be compared."""
    cases = []
    for product in products:
        name = product.product_id
        cases += [
            Case(f"{name}-pristine-{take}", product, "ok", claimed=name) for take in ("a", "b")
        ]
        if product.faces["front"].units:
            damage = Damage("missing_unit")
            cases.append(Case(
                f"{name}-missing-unit", product, "damaged", damage, "missing", claimed=name
            ))  # fmt: skip
    for product, kind in zip(products, _OF_CARTONS, strict=False):
        found = "spill" if kind == "spill" else None
        damage = Damage(kind, strength=0.8)
        name = product.product_id
        cases.append(Case(f"{name}-{kind}", product, "damaged", damage, found, claimed=name))
    first, second = products[0], products[1]
    cases += [
        Case(f"{p.product_id}-unseen-face", p, "cannot_compare", face="back", claimed=p.product_id)
        for p in products[:3]
    ]
    cases += [
        Case("identified", first, "ok"),
        Case("another-product", second, "wrong_product", claimed=first.product_id),
        Case("a-stranger", stranger, "unknown_product"),
        Case("not-in-the-gallery", stranger, "unknown_product", claimed=stranger.product_id),
    ]
    return cases


def _clear(out: Path) -> None:
    make_writable(out)
    if any(out.iterdir()):
        if not (out / _MARK).is_file():
            raise ConfigError(f"{out}: holds something else; give a new folder with --out")
        shutil.rmtree(out)
    make_folder(out)
    write_file(out / _MARK, b"")


def _take_references(
    products: Sequence[Product], folder: Path, seed: int, progress: Progress
) -> None:
    total = len(products) * REFERENCES
    for number, product in enumerate(products):
        rng = np.random.default_rng([seed, 0, number])
        for slot in range(REFERENCES):
            case = Case("", product, "ok")
            _take(case, folder / product.product_id / f"{slot}.jpg", rng)
            progress("render", number * REFERENCES + slot + 1, total)


def _take(case: Case, path: Path, rng: np.random.Generator) -> None:
    """Photograph a case and write it as a JPEG."""
    shot = draw_shot(rng)
    photograph = render(
        case.product, shot=shot, seed=int(rng.integers(2**31)), face=case.face, damage=case.damage
    )
    made, data = cv2.imencode(".jpg", photograph.image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert made
    make_folder(path.parent)
    write_file(path, data.tobytes())


def _matches(case: Case, result: Inspection) -> bool:
    kinds = {finding.kind for finding in result.findings}
    return result.verdict == case.verdict and (case.kind is None or case.kind in kinds)
