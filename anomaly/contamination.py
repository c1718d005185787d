"""The gate against bad references: the audit's first look at everything that a build holds."""

from __future__ import annotations

from collections import Counter
from functools import partial

from anomaly.config import MAX_CONTAMINATED
from anomaly.nulls import known_nulls
from anomaly.profile import STEP as PROFILE_STEP
from anomaly.suspects import Cause, Suspicion, elsewhere, read_stored, suspicions
from embeddings.images import printable
from gallery.gates import Candidate, GateResult

_FEW = 30  # references of which a share says too little to stop a build
_NAMED = 20
_CAUSES: tuple[Cause, ...] = ("foreign", "blurred", "unlike")


class Contamination:
    """Few references look bad: unlike their siblings, another product's, or out of focus.

    It names those that do, so that none serves unsaid; `amiss audit` looks again and explains.
    """

    name = "contamination"

    def __init__(self, *, most: float = MAX_CONTAMINATED) -> None:
        self._most = most

    def __call__(self, candidate: Candidate) -> GateResult:
        gallery = candidate.gallery
        allowed = f"<= {self._most:.0%} of references suspected (from {_FEW} on)"
        nulls = known_nulls(gallery, step=gallery.manifest.steps.get(PROFILE_STEP, ""))
        judged = copies = 0
        suspects: list[tuple[str, Suspicion]] = []
        for product_id in gallery.product_ids():
            stored = read_stored(gallery, product_id)
            if stored is None:
                continue
            copies += len(stored.profile.copies)
            judged += sum(bool(stored.kin(row)) for row in range(len(stored.references)))
            worst: dict[int, Suspicion] = {}
            for found in suspicions(stored, nulls, partial(elsewhere, gallery)):
                if found.cause != "unplaced":  # alone, as another face is
                    worst.setdefault(found.row, found)
            suspects += [
                (f"{printable(product_id)} {stored.references[row].reference_id[:8]}", found)
                for row, found in worst.items()
            ]
        besides = f"; {copies} are copies of others and count for nothing" if copies else ""
        if not judged:
            return GateResult(self.name, True, None, allowed, f"no profiles to judge by{besides}")
        share = len(suspects) / judged
        passed = share <= self._most or judged < _FEW
        text = f"{judged} of {gallery.manifest.references} references held against siblings"
        return GateResult(self.name, passed, share, allowed, _message(text + besides, suspects))


def _message(text: str, suspects: list[tuple[str, Suspicion]]) -> str:
    if not suspects:
        return text
    suspects.sort(key=_worst_first)
    counts = Counter(found.cause for _, found in suspects)
    kinds = ", ".join(f"{count} {cause}" for cause, count in counts.most_common())
    named = "; ".join(f"{who} ({s.cause} {s.figure:.2g})" for who, s in suspects[:_NAMED])
    more = f"; {len(suspects) - _NAMED} more" if len(suspects) > _NAMED else ""
    return f"{text}; suspected: {kinds}; `amiss audit` explains: {named}{more}"


def _worst_first(suspect: tuple[str, Suspicion]) -> tuple[int, float, str]:
    who, found = suspect
    sign = -1 if found.cause == "foreign" else 1  # what was gained; the others fall
    return _CAUSES.index(found.cause), sign * found.figure, who
