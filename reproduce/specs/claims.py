"""The language of claims: which words a claim may use, what it reads, and which claims no trace could ever decide.

Judging a claim on traces is `reproduce.claims`; nothing here reads a trace.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from reproduce.errors import SpecError
from reproduce.metrics.table import METRICS, terms
from reproduce.specs.problems import Problem, unknown
from reproduce.specs.schema import SCALES, Claim, Quantity, Scale
from reproduce.specs.yaml import Path, dotted

PAIR = re.compile(r"(rank_corr|rank_at_max)\(\s*(.+?)\s*,\s*(.+?)\s*\)")
"""One number from the values of two metrics in all layers and runs that the quantity's words leave open:

    rank_corr(a,b)      Spearman's rank correlation
    rank_at_max(a,b)    the place of a, counted from the largest, where b is largest: 1 if both peak in one layer
"""

UNEMBED = "unembed"
"""The layer that stands for the input of the unembedding, after the last block."""

DIMS = ("run", "layer", "step")
"""What a quantity may leave open, so that it has several values."""

ORDERS = ("gt", "ge", "lt", "le")
"""The comparators that order two sides."""
QUANTIFIERS = ("each", "some", "most")
"""The words that leave layers or steps open, and say how many of them have to satisfy the comparator."""
TRENDS = ("decreasing", "increasing")
"""The comparators that go along the runs of the left side and have no right one."""
ACROSS: dict[str, tuple[str, ...]] = {
    "layer": ("layer",),
    "run": ("run",),
    "layer_and_run": ("run", "layer"),
    "step": ("step",),
}
"""The dims whose values spearman_ge ranks, by the word of `across`."""


def quantities(claim: Claim) -> dict[str, Quantity]:
    """The quantities a claim reads, by side."""
    sides = {"left": claim.left, "right": claim.right}
    return {side: quantity for side, quantity in sides.items() if isinstance(quantity, Quantity)}


def runs_of(claim: Claim) -> list[str]:
    """All runs whose traces the claim needs, each once."""
    read = [run for quantity in quantities(claim).values() for run in runs_read(quantity)]
    return list(dict.fromkeys([*read, *claim.needs]))


def runs_read(quantity: Quantity) -> list[str]:
    """The runs whose values enter a quantity."""
    return [*quantity.run_names, *([quantity.minus_run] if quantity.minus_run else [])]


def metrics_of(quantity: Quantity) -> list[str]:
    """The single metrics in a quantity: both of `a - b` and of `rank_corr(a,b)`, `plus_metric` and `per_metric`."""
    pair = PAIR.fullmatch(quantity.metric)
    names = [pair[2], pair[3]] if pair else [name for _, name in terms(quantity.metric)]
    return [*names, *(name for name in (quantity.plus_metric, quantity.per_metric) if name)]


def reads_fact(quantity: Quantity) -> bool:
    """Whether `quantity` is a fact of its runs, such as `failed`, instead of something their traces hold."""
    return quantity.metric in METRICS and METRICS[quantity.metric].is_fact


def open_dims(quantity: Quantity) -> list[str]:
    """The dims among run, layer and step over which `quantity` has several values, whatever the traces hold."""
    if PAIR.fullmatch(quantity.metric):
        return []
    runs = len(quantity.run_names) > 1 and quantity.reduce_runs is None
    layers = isinstance(quantity.layer, list) or quantity.layer in (*QUANTIFIERS, "early", "late")
    opened = {"run": runs, "layer": layers, "step": quantity.over in QUANTIFIERS}
    return [dim for dim in DIMS if opened[dim] and (dim == "run" or not reads_fact(quantity))]


def at_scale(claim: Claim, scale: Scale) -> Claim:
    """The claim as it is judged at `scale`: what its bound there says takes the place of its own."""
    bound = claim.at.get(scale)
    if bound is None:
        return claim
    return claim.model_copy(update={name: getattr(bound, name) for name in _said(claim, scale)})


def _said(claim: Claim, scale: Scale) -> list[str]:
    return [name for name, value in claim.at[scale] if name != "because" and value is not None]


# ---------------------------------------------------------------------------------------------------
# Claims that make no sense


def check(claim: Claim) -> None:
    """Refuse a claim that no traces could ever decide.

    Raises:
        SpecError: names what is unknown, missing, contradictory or without effect.
    """
    for problem in claim_problems(claim):
        raise SpecError(f"claim {claim.id}: {dotted(problem.path)}: {problem.text}", hint=problem.hint)


def claim_problems(claim: Claim) -> Iterator[Problem]:
    """What is wrong with a claim or with one of its bounds at a scale, with paths from the claim on."""
    yield from _problems(claim)
    for scale in claim.at:
        said = _said(claim, scale)
        for problem in _problems(at_scale(claim, scale)):
            if problem.path[0] in said:
                yield replace(problem, path=("at", scale, *problem.path))
    if claim.eq1_because and not any(list(_floor_problems(at_scale(claim, scale))) for scale in SCALES):
        yield Problem(("eq1_because",), "has no effect, since the claim makes no ratio on Eq (1)")


def _problems(claim: Claim) -> Iterator[Problem]:
    for side, quantity in quantities(claim).items():
        yield from _quantity_problems(quantity, (side,))
    yield from _side_problems(claim)
    yield from _number_problems(claim)
    yield from _form_problems(claim)
    if not claim.eq1_because:
        yield from _floor_problems(claim)


def _quantity_problems(quantity: Quantity, path: Path) -> Iterator[Problem]:
    for name in metrics_of(quantity):
        own = [name for _, name in terms(quantity.metric)]
        added = {quantity.plus_metric: "plus_metric", quantity.per_metric: "per_metric"}
        field = "metric" if name in own else added.get(name, "metric")
        if name not in METRICS:
            yield unknown("metric", name, list(METRICS), (*path, field))
        elif METRICS[name].layered and quantity.layer is None:
            yield Problem(path, f"{name} has a value in every layer, expected layer: 2, mean, each, ...")
        elif not METRICS[name].layered and quantity.layer is not None:
            yield Problem((*path, "layer"), f"{name} has no layers, expected no layer")
        elif METRICS[name].is_fact and (field != "metric" or len(terms(quantity.metric)) > 1):
            yield Problem((*path, field), f"{name} is a fact of a run, which cannot be added to other metrics")
    if quantity.over is None and not reads_fact(quantity):
        yield Problem(path, f"{quantity.metric} has a value at every step, expected over: init, final, peak, ...")
    if quantity.nan == "counts_as_inf" and quantity.over in QUANTIFIERS:
        yield Problem((*path, "nan"), f"a run has no steps after its failure, which over: {quantity.over} would read")
    if quantity.after and (quantity.over == "init" or reads_fact(quantity)):
        yield Problem((*path, "after"), f"has no effect on {quantity.over or quantity.metric}")
    if quantity.until < 1 and (quantity.over == "init" or reads_fact(quantity)):
        yield Problem((*path, "until"), f"has no effect on {quantity.over or quantity.metric}")


def _side_problems(claim: Claim) -> Iterator[Problem]:
    left, right, cmp = claim.left, claim.right, claim.cmp
    runs = len(left.run_names)
    if cmp in TRENDS:
        if right is not None:
            yield Problem(("right",), f"{cmp} compares the runs of left, expected no right side")
        if "run" not in open_dims(left):
            yield Problem(("left",), f"{cmp} goes along several runs, expected runs and no reduce_runs")
        return
    if right is None:
        yield Problem(("cmp",), f"{cmp} needs a right side, expected right: a number or a quantity")
    if isinstance(right, str) and right != UNEMBED:
        yield Problem(("right",), f"expected a number, a quantity or {UNEMBED}, got {right}")
    if isinstance(right, list) and (len(right) != runs or left.reduce_runs is not None):
        yield Problem(("right",), f"expected one number for each of the {runs} runs of left, unreduced")
    if isinstance(right, Quantity):
        if "run" in open_dims(left) and "run" in open_dims(right) and len(right.run_names) != runs:
            yield Problem(("right", "runs"), f"expected as many runs as left has ({runs}), or reduce_runs")
        for word in ("layer", "over"):
            both = [getattr(left, word), getattr(right, word)]
            if both[0] != both[1] and all(isinstance(one, str) and one in QUANTIFIERS for one in both):
                yield Problem(("right", word), f"is {both[0]} on the left side and {both[1]} here, expected the same")


def _number_problems(claim: Claim) -> Iterator[Problem]:
    cmp = claim.cmp
    if (claim.bound is not None) != (cmp in ("within_factor", "spearman_ge")):
        yield Problem(("bound",), f"{cmp} {'knows no' if claim.bound is not None else 'needs a'} bound")
    if cmp == "within_factor" and claim.bound is not None and claim.bound < 1:
        yield Problem(("bound",), f"expected a factor of at least 1, got {claim.bound:g}")
    if cmp == "spearman_ge":
        if not isinstance(claim.right, Quantity):
            yield Problem(("right",), "spearman_ge correlates two quantities, expected one")
        if claim.across is None:
            yield Problem(("cmp",), f"spearman_ge needs to know over what, expected across: {', '.join(ACROSS)}")
        else:
            opened = {dim for quantity in quantities(claim).values() for dim in open_dims(quantity)}
            for dim in ACROSS[claim.across]:
                if dim not in opened:
                    yield Problem(("across",), f"the claim reads a single {dim}, which has no ranks")
    if cmp not in ("ge", "le", "approx"):
        for name in ("tol", "rel_tol"):
            if getattr(claim, name):
                yield Problem((name,), f"{cmp} knows no tolerance, expected ge, le or approx with it")
    if cmp in ("spearman_ge", *TRENDS):
        for name, neutral in (("factor", 1.0), ("plus", 0.0)):
            if getattr(claim, name) != neutral:
                yield Problem((name,), f"has no effect on {cmp}")
    if claim.inversions_allowed and cmp not in TRENDS:
        yield Problem(("inversions_allowed",), f"has no effect on {cmp}")


def _form_problems(claim: Claim) -> Iterator[Problem]:
    if claim.form != "variance":
        return
    having = [name for name, metric in METRICS.items() if "variance" in metric.forms]
    read: set[str | None] = set()
    for quantity in quantities(claim).values():
        pair = PAIR.fullmatch(quantity.metric)
        read |= {pair[2], pair[3]} if pair else {quantity.metric, quantity.plus_metric, quantity.per_metric}
    if not read & set(having):
        yield Problem(("form",), f"variance is a form of {', '.join(having)}, which the claim does not read")


def _floor_problems(claim: Claim) -> Iterator[Problem]:
    """A ratio on Eq (1), which is never below 1: `final >= 0.8 x peak` then holds for every peak below 1.25.

    Differences have no such floor, nor has anything that depends on the order of values alone.
    """
    relative = {"factor": claim.factor != 1, "rel_tol": claim.rel_tol > 0, "bound": claim.cmp == "within_factor"}
    ratios = [name for name, used in relative.items() if used]
    ratios += [f"{side}.per_metric" for side, quantity in quantities(claim).items() if quantity.per_metric]
    read = [name for quantity in quantities(claim).values() for name in _eq1_values(quantity)]
    if claim.form != "variance" and read and ratios:
        path = tuple(ratios[0].split("."))
        text = f"makes a ratio of {read[0]} as in Eq (1), which is never below 1"
        yield Problem(path, f"{text}, expected form: variance, or the reason against it in eq1_because")


def _eq1_values(quantity: Quantity) -> list[str]:
    """The metrics of Eq (1) whose values, and not only their order, place or difference, enter a quantity."""
    if PAIR.fullmatch(quantity.metric) or quantity.layer == "argmax" or quantity.over in ("argpeak", "change"):
        return []
    if quantity.minus_run is not None:
        return []
    read = [quantity.metric, quantity.plus_metric, quantity.per_metric]
    return [name for name in read if name in METRICS and "variance" in METRICS[name].forms]
