"""Several views of one item -> one verdict.

Every view is inspected at its share of the item's budget, and their p-values are merged by Simes'
rule (Biometrika 1986): of k views, the i rarest must all be within i/k of the budget. One view
within budget/k is enough, as with Bonferroni; damage that several views show needs less of each.
A pristine item is called `damaged` no more often than the budget says where the p-values are
positively dependent (PRDS; Benjamini & Yekutieli 2001). Conformal p-values of one calibration are,
for independent pictures (Bates et al. 2023); that views share gloss, light and wear pulls the same
way, but is no proof: `benchmarks.bench_views` measures it. Under any dependence whatever it is at
most 1 + 1/2 + ... + 1/k times as often (Hommel 1983).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from anomaly.calibrate import within
from anomaly.results import Inspection, Reason, Unreadable, Verdict

# Reasons whose p-value is of a comparison that is not trusted.
_NO_EVIDENCE = {"not_aligned", "looks_otherwise", "not_sharp"}


@dataclass(frozen=True)
class ItemInspection:
    """The verdict on one item, and what its views say; see the schema `amiss.item/1`.

    item        how the caller calls it
    views       in the order given; each inspected at `view_budget`
    p_value     of the item, merged over its views; None where none has one
    attainable  the smallest p-value that one view alone can give the item; None as above
    deciding    which view the reason speaks of, from 0; None where it speaks of all
    """

    item: str
    product_id: str | None
    product_id_source: Literal["claimed", "identified"]
    verdict: Verdict
    reason: Reason
    budget: float
    views: tuple[Inspection | Unreadable, ...]
    p_value: float | None = None
    attainable: float | None = None
    deciding: int | None = None

    @property
    def view_budget(self) -> float:
        return self.budget / len(self.views)


def decide_item(
    views: Sequence[Inspection | Unreadable],
    *,
    item: str,
    product_id: str | None,
    claimed: bool,
    budget: float,
) -> ItemInspection:
    """One verdict over `views`, at least one, each inspected at `budget / len(views)`.

    `product_id`: the claimed one, or the one that the views agree on; None: they agree on none.
    """
    decision = (
        _not_identified(views, product_id)
        or _other_product(views)
        or _damage(views, budget)
        or _unfinished(views)
        or _Decision("ok", "like_references", _all_alike(views, budget))
    )
    known = [v.calibration.attainable for v in _inspected(views) if v.calibration is not None]
    return ItemInspection(
        item=item,
        product_id=product_id,
        product_id_source="claimed" if claimed else "identified",
        verdict=decision.verdict,
        reason=Reason(decision.code, decision.text),
        budget=budget,
        views=tuple(views),
        p_value=_merged(views),
        attainable=min(1.0, len(views) * min(known)) if known else None,
        deciding=decision.deciding,
    )


def agreed_product(views: Sequence[Inspection | Unreadable]) -> str | None:
    """What most of the views that show a known product show; None when no product leads."""
    found = Counter(v.product_id for v in _inspected(views) if v.product_id is not None)
    leaders = found.most_common(2)
    if not leaders or (len(leaders) > 1 and leaders[0][1] == leaders[1][1]):
        return None
    return leaders[0][0]


def simes(p_values: Sequence[float]) -> float:
    """Simes' merged p-value of at least one."""
    return min(_by_rank(p_values))


def _by_rank(p_values: Sequence[float]) -> list[float]:
    """What each gives the item, the rarest first, if all that are rarer come along."""
    count = len(p_values)
    return [min(1.0, count * p / (row + 1)) for row, p in enumerate(sorted(p_values))]


@dataclass(frozen=True)
class _Decision:
    verdict: Verdict
    code: str
    text: str
    deciding: int | None = None


def _inspected(views: Iterable[Inspection | Unreadable]) -> list[Inspection]:
    return [view for view in views if isinstance(view, Inspection)]


def _merged(views: Sequence[Inspection | Unreadable]) -> float | None:
    """A view that says nothing of damage counts as one that is not rare at all."""
    values = [_p_value(view) for view in views]
    if all(value is None for value in values):
        return None
    return simes([1.0 if value is None else value for value in values])


def _p_value(view: Inspection | Unreadable) -> float | None:
    if isinstance(view, Unreadable) or view.verdict not in ("ok", "review", "damaged"):
        return None
    return None if view.reason.code in _NO_EVIDENCE else view.p_value


def _not_identified(
    views: Sequence[Inspection | Unreadable], product_id: str | None
) -> _Decision | None:
    inspected = _inspected(views)
    if not inspected:
        return _Decision("cannot_compare", "no_view_readable", "none of its views can be read")
    names = sorted({v.product_id for v in inspected if v.product_id is not None})
    if product_id is None and len(names) > 1:
        shown = ", ".join(repr(name) for name in names)
        text = f"its views show different products, none more often than the others: {shown}"
        return _Decision("unknown_product", "views_disagree", text)
    if all(view.verdict == "unknown_product" for view in inspected):
        first = inspected[0].reason
        return _Decision("unknown_product", first.code, first.text)
    return None


def _other_product(views: Sequence[Inspection | Unreadable]) -> _Decision | None:
    wrong = [n for n, v in enumerate(views) if v.verdict == "wrong_product"]
    if not wrong:
        return None
    code = "other_product" if len(wrong) == len(_inspected(views)) else "view_of_other_product"
    return _Decision("wrong_product", code, _of_view(views, wrong), wrong[0])


def _damage(views: Sequence[Inspection | Unreadable], budget: float) -> _Decision | None:
    shown = [n for n, view in enumerate(views) if view.verdict == "damaged"]
    merged, values = _merged(views), [_or_one(_p_value(view)) for view in views]
    rarest = min(shown or range(len(views)), key=lambda n: (values[n], n))
    if shown:
        order = [rarest, *(n for n in shown if n != rarest)]
        return _Decision("damaged", "view_beyond_pristine", _of_view(views, order), rarest)
    if merged is None or not within(merged, budget):
        return None
    # None is rare enough by itself: the most of them that are rare together.
    rare = max(n for n, p in enumerate(_by_rank(values), 1) if within(p, budget))
    text = (
        f"{rare} of {len(views)} views are each a little amiss, together beyond pristine "
        f"items; p = {merged:.2g}; {_of_view(views, [rarest])}"
    )
    return _Decision("damaged", "views_beyond_pristine", text, rarest)


def _unfinished(views: Sequence[Inspection | Unreadable]) -> _Decision | None:
    """What is no damage, but not seen to be sound, either."""
    for verdict, code in (
        ("review", "view_to_review"),
        ("cannot_compare", "view_not_comparable"),
        ("unreadable", "view_unreadable"),
    ):
        rows = [n for n, view in enumerate(views) if view.verdict == verdict]
        if rows:
            said: Verdict = "review" if verdict == "review" else "cannot_compare"
            return _Decision(said, code, _of_view(views, rows), rows[0])
    return None


def _all_alike(views: Sequence[Inspection | Unreadable], budget: float) -> str:
    what = "its one view differs" if len(views) == 1 else f"its {len(views)} views differ"
    text = f"{what} from the references no more than pristine items may"
    merged = _merged(views)
    return text if merged is None else f"{text}; p = {merged:.2g}, budget {budget:g}"


def _of_view(views: Sequence[Inspection | Unreadable], rows: Sequence[int]) -> str:
    """'view 2 of 4: why; so is view 3': the first of `rows` in full."""
    view = views[rows[0]]
    text = f"view {rows[0] + 1} of {len(views)}: {view.reason.text}"
    more = ", ".join(str(n + 1) for n in sorted(rows[1:]))
    return f"{text}; the same verdict on view {more}" if more else text


def _or_one(value: float | None) -> float:
    return 1.0 if value is None else value
