"""Which product is in the picture: right, unknown, at what cost, and what a wrong ID is called.

    AMISS_DATA=... python -m benchmarks.bench_identify       (about 12 minutes on 2 idle cores)
    ... python -m benchmarks.bench_identify --parts cost wrong_id

grocery: grocery/query against grocery/gallery and against one iconic picture each. What the short
list, the tolerances and the weight of local features are was chosen on the 8 products at even
places of their sorted names; `reported` is over the other 8. Unknown: each query once more in the
gallery without its product; AUROC of the likeliest product's score.

cost: 1000 products, 4 references each: records (local features included) of rendered products,
vectors moved as in `perturbed`. Passes of the network (`passes`; multiples are those of `plain`)
and identifications alternate, one thread setting; medians. Queries are rendered, 640 x 480,
embedded at 448 px.

wrong_id: 48 rendered products (seeds 3100-3103; chosen on 3000-3003), 4 references each, pristine
and damaged pictures of medium difficulty, each claimed to be what it is, a product of the same kind
and any other. Intervals are Wilson's, 95 %.

unclaimed: the same pictures without a claim, and as many of products that the gallery hasn't
(seeds 3110-3113): verdicts, and whether they name the product that is shown.

shelf_claims: grocery/query against grocery/gallery, each picture claimed to be what it is and any
other: photographs from shelves, which need not lie on any reference. All are pristine.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anomaly import Inspector, build_gallery
from anomaly.align import features
from anomaly.studio import DOZEN, LEVELS, Damage, make_products, render
from benchmarks.bench_features import auroc
from benchmarks.bench_gallery_scale import SyntheticCatalog
from benchmarks.machine import RESULTS, data_folder, machine, save
from benchmarks.passes import Passes
from benchmarks.perturbed import RealVectors, perturbed
from embeddings import Embedder, Pixels, estimate_foreground, read_image
from embeddings.on_product import trusted_points
from embeddings.threads import one_blas_thread
from embeddings.unlikeness import cells_of
from gallery import CatalogRow, Described, Gallery, build, identify, publish
from gallery.identify import KNOWN_LEVEL, Identifier, Look, _p_value

SEEDS = (3100, 3101, 3102, 3103)
STRANGERS = (3110, 3111, 3112, 3113)
REFERENCES, QUERIES = 4, 4
PRODUCTS = 1000
_DAMAGES = ("tear", "crush", "hole", "stain", "scuff", "dirt")
_ROUNDS = 40


def grocery(work: Path) -> dict[str, Any]:
    """Top-1 and unknown products, with the `gallery` photographs and with one picture each."""
    home = data_folder() / "grocery"
    files = sorted((home / "query").glob("*/*.jpg"))
    looks: list[Look] = []
    found: dict[str, Any] = {}
    for source in ("gallery", "iconic"):
        build_gallery(home / source, work / source)
        with Inspector.open(work / source) as inspector, inspector._serving() as serving:
            looks = looks or [_look(read_image(file), serving.embedder) for file in files]
            found[source] = _identified(serving.identifier, serving.fingerprint, files, looks)
    return found


def _identified(identifier: Identifier, fingerprint: Any, files: Any, looks: Any) -> Any:
    rows = []
    for file, look in zip(files, looks, strict=True):
        name = file.parent.name
        plain = identify(identifier.gallery, look.vector, fingerprint=fingerprint)
        full = identifier.identify(look, fingerprint=fingerprint)
        known, stranger = (
            identifier.rank(look, fingerprint=fingerprint, top=2, without=left)[0].score
            for left in (None, name)
        )
        first = full.candidates[0].product_id
        rows.append((name, plain.candidates[0].product_id == name, first == name, known, stranger,
                     full.known, full.verified))  # fmt: skip
    names = sorted({row[0] for row in rows})
    chosen = [row for row in rows if names.index(row[0]) % 2 == 0]
    reported = [row for row in rows if names.index(row[0]) % 2 == 1]
    null = identifier.null().scores
    return {
        "reported": _summary(reported, null),
        "chosen_on": _summary(chosen, null),
        "all": _summary(rows, null),
    }


def _summary(rows: Sequence[Any], null: Any) -> dict[str, Any]:
    _, plain, full, known, stranger, said, verified = zip(*rows, strict=True)
    tells = 1 / (len(null) + 1) <= KNOWN_LEVEL
    passed = [(_p_value(score, null) or 1) <= KNOWN_LEVEL for score in stranger]
    return {
        "queries": len(rows),
        "top1_vector_alone": share(plain),
        "top1": share(full),
        "verified": round(float(np.mean(verified)), 3),
        "unknown_auroc": round(auroc(list(known), list(stranger)), 4),
        "known_called_known": share([word is True for word in said]) if tells else None,
        "strangers_called_known": share(passed) if tells else None,
    }


def cost(work: Path) -> dict[str, Any]:
    """Milliseconds of `identify` among 1000 products, and in passes of the network."""
    source = _studio(work)
    with Gallery.open(source) as gallery:
        root = _thousand(gallery, work / "thousand")
    pictures = [picture for _, picture, _ in _pictures(SEEDS[:1])][:12]
    times: dict[str, list[float]] = {}
    with Inspector.open(source) as small, small._serving() as serving, Gallery.open(root) as many:
        embedder, identifier = serving.embedder, Identifier(many)
        start = time.perf_counter()
        identifier.null()
        learned = time.perf_counter() - start
        one_pass = Passes(embedder)
        with one_blas_thread:  # as an inspector holds it; else BLAS spins beside the next pass
            for number in range(_ROUNDS):
                picture = pictures[number % len(pictures)]
                spent = one_pass(picture) | _staged(picture, embedder, identifier)
                for stage, milliseconds in spent.items():
                    times.setdefault(stage, []).append(milliseconds)
    median = {name: float(np.median(values[5:])) for name, values in times.items()}
    one, own = median.pop("plain"), median.pop("own")
    without = sum(median[name] for name in ("foreground", "embed", "search"))
    with_ = without - median["search"] + median["keypoints"] + median["verify"]
    return {
        "products": PRODUCTS,
        "references": PRODUCTS * REFERENCES,
        "plain_pass_ms": round(one, 1),
        "own_pass_ms": round(own, 1),
        "without_verification_over_pass": round(without / one, 2),
        "with_verification_over_pass": round(with_ / one, 2),
        "stages_over_pass": {name: round(value / one, 3) for name, value in median.items()},
        "null_learned_s": round(learned, 2),
    }


def _staged(picture: Pixels, embedder: Embedder, identifier: Identifier) -> dict[str, float]:
    """Milliseconds; `verify` holds a search of its own."""
    fingerprint = identifier.gallery.fingerprint
    marks = [time.perf_counter()]

    def lap(value: Any) -> Any:
        marks.append(time.perf_counter())
        return value

    ground = lap(estimate_foreground(picture))
    (embedding,) = lap(embedder.embed([picture], foregrounds=[ground]))
    lap(identify(identifier.gallery, embedding.vector, fingerprint=fingerprint))
    points = lap(trusted_points(features(picture, ground), ground))
    look = Look(embedding.vector, lambda: points, lambda: cells_of(embedding.patches, ground.mask))
    lap(identifier.rank(look, fingerprint=fingerprint, top=5))
    names = ("foreground", "embed", "search", "keypoints", "verify")
    return dict(zip(names, 1000 * np.diff(marks), strict=True))


class _Borrowed:
    """Records of a gallery's references in turn, with given vectors. Final."""

    def __init__(self, gallery: Gallery) -> None:
        names = list(gallery.product_ids())
        self._records = [gallery.shard_of(n).record(n, r) for n in names
                         for r in gallery.stored(n).references]  # fmt: skip
        vectors = np.concatenate([gallery.vectors(n) for n in names])
        groups = np.repeat(np.arange(len(names)), [len(gallery.vectors(n)) for n in names])
        real = RealVectors(vectors, groups)
        self._vectors = perturbed(real, products=PRODUCTS, each=REFERENCES, seed=0)
        self.fingerprint, self.dims = gallery.fingerprint, vectors.shape[1]

    def describe(self, rows: Sequence[CatalogRow]) -> Iterator[Described]:
        for row in rows:
            number = row.product_no * REFERENCES + row.slot
            record = self._records[number % len(self._records)]
            meta = {**record.meta, "reference_id": row.reference_id}
            yield Described(type(record)(record.kind, meta, record.arrays), self._vectors[number])


def _thousand(gallery: Gallery, root: Path) -> Path:
    catalog = SyntheticCatalog(root, PRODUCTS, each=REFERENCES)
    report = build(catalog, _Borrowed(gallery), config={})  # type: ignore[arg-type]
    publish(root, report.build_id)
    return root


def wrong_id(work: Path) -> dict[str, Any]:
    """Verdicts on right and wrong claims."""
    verdicts: dict[str, Counter[str]] = {}
    with Inspector.open(_studio(work)) as inspector:
        for number, (product_id, picture, kind) in enumerate(_pictures(SEEDS)):
            for claim, claimed in _claims(product_id, np.random.default_rng(number)).items():
                result = inspector.inspect(picture, product_id=claimed)
                label = f"{claim}, {'damaged' if kind else 'pristine'}"
                verdicts.setdefault(label, Counter())[f"{result.verdict} {result.reason.code}"] += 1
    return {label: _claimed(label, counts) for label, counts in sorted(verdicts.items())}


def shelf_claims(work: Path) -> dict[str, Any]:
    """Verdicts on right and wrong claims of photographs."""
    home, verdicts = data_folder() / "grocery", {"right": Counter[str](), "any other": Counter()}
    if not (work / "gallery").exists():
        build_gallery(home / "gallery", work / "gallery")
    draw = np.random.default_rng(0)
    with Inspector.open(work / "gallery") as inspector, inspector._serving() as serving:
        names = sorted(serving.gallery.product_ids())
        for file in sorted((home / "query").glob("*/*.jpg")):
            own = file.parent.name
            other = str(draw.choice([name for name in names if name != own]))
            for label, claimed in (("right", own), ("any other", other)):
                result = inspector.inspect(file, product_id=claimed)
                verdicts[label][f"{result.verdict} {result.reason.code}"] += 1
    return {label: _claimed(label, counts) for label, counts in verdicts.items()}


def unclaimed(work: Path) -> dict[str, Any]:
    """Verdicts where nobody says which product is shown: of the gallery's, and of strangers."""
    verdicts: dict[str, Counter[str]] = {}
    with Inspector.open(_studio(work)) as inspector:
        for whose, seeds in ("the gallery's", SEEDS), ("a stranger", STRANGERS):
            for product_id, picture, kind in _pictures(seeds):
                result = inspector.inspect(picture)
                label = f"{whose}, {'damaged' if kind else 'pristine'}"
                named = {None: "no product", product_id: "the product"}
                word = f"{result.verdict}, {named.get(result.product_id, 'another product')}"
                verdicts.setdefault(label, Counter())[word] += 1
    return {
        label: {"inspections": counts.total(), "verdicts": dict(counts.most_common())}
        for label, counts in sorted(verdicts.items())
    }


def _claimed(label: str, counts: Counter[str]) -> dict[str, Any]:
    another = sum(n for word, n in counts.items()
                  if word.startswith(("wrong_product", "unknown_product")))  # fmt: skip
    passed = sum(n for word, n in counts.items() if word.startswith("ok"))
    total = counts.total()
    return {
        "inspections": total,
        "called_another_product": interval(another, total),
        "ok": interval(passed, total),
        "verdicts": dict(counts.most_common()),
    }


def _claims(product_id: str, draw: np.random.Generator) -> dict[str, str]:
    """What a picture is claimed to be: itself, another of its kind, one of any other kind."""
    everything = [f"s{seed}-{word}" for seed in SEEDS for word in DOZEN]
    own = _kind(product_id)
    alike = [name for name in everything if name != product_id and _kind(name) == own]
    others = [name for name in everything if _kind(name) != own]
    return {
        "right": product_id,
        "another of its kind": str(draw.choice(alike)),
        "any other": str(draw.choice(others)),
    }


def _kind(product_id: str) -> str:
    return product_id.partition("-")[2].rstrip("0123456789")


def _studio(work: Path) -> Path:
    """A gallery of rendered products, built once."""
    root, source = work / "studio", work / "studio-source"
    if root.exists():
        return root
    for seed in SEEDS:
        for place, product in enumerate(make_products(seed=seed)):
            rng, home = np.random.default_rng([seed, place, 77]), source / product.product_id
            home.mkdir(parents=True)
            for number in range(REFERENCES):
                shot = LEVELS["easy"].draw(rng, background=_background(place))
                image = render(product, shot=shot, seed=int(rng.integers(2**31))).image
                cv2.imwrite(str(home / f"{number}.png"), image[:, :, ::-1])
    build_gallery(source, root)
    return root


def _pictures(seeds: Sequence[int]) -> Iterator[tuple[str, Pixels, str | None]]:
    """(product ID, picture, kind of damage or None), pristine and damaged in turn."""
    for seed in seeds:
        for place, product in enumerate(make_products(seed=seed)):
            rng = np.random.default_rng([seed, place, 88])
            for number in range(QUERIES):
                shot = LEVELS["medium"].draw(rng, background=_background(place))
                kind = str(rng.choice(_DAMAGES)) if number % 2 else None
                area, strength = rng.uniform(0.006, 0.04), rng.uniform(0.2, 0.9)
                damage = Damage(kind, area=area, strength=strength) if kind else None
                image = render(product, shot=shot, seed=int(rng.integers(2**31)), damage=damage)
                yield product.product_id, image.image, kind


def _background(place: int) -> str:
    return "belt" if place % 2 else "tray"


def _look(image: Pixels, embedder: Embedder) -> Look:
    ground = estimate_foreground(image)
    (embedding,) = embedder.embed([image], foregrounds=[ground])
    points = trusted_points(features(image, ground), ground)
    cells = cells_of(embedding.patches, ground.mask)
    return Look(embedding.vector, lambda: points, lambda: cells)


def share(flags: Sequence[bool]) -> dict[str, Any]:
    return interval(sum(flags), len(flags))


def interval(count: int, total: int) -> dict[str, Any]:
    """A share with Wilson's 95 % interval."""
    z, p = 1.96, count / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total**2)) / (1 + z * z / total)
    return {"share": round(p, 4), "interval": [round(centre - half, 4), round(centre + half, 4)]}


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "grocery": grocery,
    "cost": cost,
    "wrong_id": wrong_id,
    "unclaimed": unclaimed,
    "shelf_claims": shelf_claims,
}


def _stamped(figures: dict[str, Any]) -> dict[str, Any]:
    """With when and on what it was measured: parts are kept from other days and machines."""
    here = machine()
    return {"measured": {key: here[key] for key in ("date", "processor", "cores")}} | figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        figures = {part: _stamped(PARTS[part](Path(work))) for part in asked.parts}
    kept = RESULTS / "identify.json"
    if kept.exists():
        figures = json.loads(kept.read_text("utf-8"))["figures"] | figures
    save("identify", "AMISS_DATA=... python -m benchmarks.bench_identify", figures)


if __name__ == "__main__":
    main()
