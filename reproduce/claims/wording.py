"""Claims in words: what each asks for, and the values that decided it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, assert_never

from reproduce.metrics.table import METRICS
from reproduce.specs.claims import PAIR, UNEMBED
from reproduce.specs.schema import Claim, Over, Quantity

if TYPE_CHECKING:
    from reproduce.claims.compare import Comparison

_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "="}
_HOLDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most", "eq": "equal to"}
_FAILS = {"gt": "not above", "ge": "below", "lt": "not below", "le": "above", "eq": "not equal to"}
_OVER: dict[Over | None, str] = {
    None: "",
    "init": "initial",
    "final": "final",
    "change": "change of",
    "peak": "peak",
    "min": "lowest",
    "mean": "mean",
    "argpeak": "step of the peak of",
    "each": "",
    "some": "",
    "most": "",
}
"""What stands before the metric."""
_STEPS: dict[str | None, str] = {"each": "at each step", "some": "at some step", "most": "at most steps"}
"""What stands behind the metric, for the words that keep the steps."""
_LAYERS = {
    UNEMBED: "at the unembedding",
    "each": "in each layer",
    "some": "in some layer",
    "most": "in most layers",
    "early": "in each early block",
    "late": "in each late block",
    "mean": "averaged over blocks",
    "max": "in the largest layer",
    "argmax": "",
}
"""What `layer` says; argmax stands before all other words instead."""
_RUNS = {None: "", "max": "the highest of ", "min": "the lowest of ", "mean": "the mean of "}
_ACROSS = {"layer": "layers", "run": "runs", "layer_and_run": "layers and runs", "step": "steps"}
_MOST_RUNS = 4
"""The longest list of runs that is written out; the runs of a longer one are counted."""


def number(value: float) -> str:
    """A value with four digits; a whole number is written in full."""
    if not math.isfinite(value):
        return str(value)
    whole = value == round(value) and abs(value) < 1e7
    return f"{value:.0f}" if whole else f"{value:.4g}"


def asked(claim: Claim, because: str | None = None) -> str:
    """What `claim` asks for, followed by the reason `because` where the bound is a scale's own.

    >>> asked(claim, because="the loss falls less in 2000 steps")
    'final train loss of cp-naive > 1.1 x final train loss of cp-op (the loss falls less in 2000 steps)'
    """
    left = quantity_words(claim.left, claim.form)
    text = f"{left} {_asked_of_left(claim)}"
    return f"{text} ({because})" if because else text


def _asked_of_left(claim: Claim) -> str:
    right = _right_words(claim)
    match claim.cmp:
        case "decreasing" | "increasing":
            allowed = claim.inversions_allowed
            return claim.cmp + (f", {allowed} inversion{'s' if allowed > 1 else ''} allowed" if allowed else "")
        case "within_factor":
            return f"within a factor of {number(claim.bound or 0)} of {right}"
        case "spearman_ge":
            assert claim.across is not None, "spearman_ge says over what"
            over = _ACROSS[claim.across]
            return f"ranks over {over} as {right} does, correlation >= {number(claim.bound or 0)}"
        case "approx":
            return f"= {right} +- {_tolerance(claim)}"
        case "gt" | "ge" | "lt" | "le" | "eq":
            slack = f", tolerance {_tolerance(claim)}" if claim.tol or claim.rel_tol else ""
            return f"{_SIGNS[claim.cmp]} {right}{slack}"
        case _:
            assert_never(claim.cmp)


def _tolerance(claim: Claim) -> str:
    parts = [number(claim.tol)] if claim.tol else []
    parts += [f"{number(100 * claim.rel_tol)} %"] if claim.rel_tol else []
    return " or ".join(parts) or "0"


def _right_words(claim: Claim) -> str:
    right = claim.right
    if isinstance(right, Quantity):
        text = quantity_words(right, claim.form)
    elif isinstance(right, list):
        text = ", ".join(number(value) for value in right)
    elif isinstance(right, str):
        text = "the input of the unembedding"
    else:
        text = number(float(right or 0))
    if claim.factor != 1.0:
        text = f"{number(claim.factor)} x {text}"
    return f"{text} + {number(claim.plus)}" if claim.plus else text


def quantity_words(quantity: Quantity, form: str = "either") -> str:
    """A quantity as a phrase.

    >>> quantity_words(quantity, "variance")
    'peak kurtosis - 1 in layer 2 of cp-op'
    """
    pair = PAIR.fullmatch(quantity.metric)
    metric = _pair_words(pair[1], pair[2], pair[3], form) if pair else _metric_words(quantity.metric, form)
    if quantity.plus_metric is not None:
        metric = f"{metric} + {_metric_words(quantity.plus_metric, form)}"
    if quantity.per_metric is not None:
        metric = f"{metric} per {_metric_words(quantity.per_metric, form)}"
    if quantity.cumulative:
        metric = f"cumulative {metric}"
    if quantity.abs:
        metric = f"|{metric}|"
    after = f"after the first {number(100 * quantity.after)} %" if quantity.after else ""
    until = f"in the first {number(100 * quantity.until)} %" if quantity.until < 1 else ""
    steps = [_STEPS.get(quantity.over, ""), after, until]
    parts = [_OVER[quantity.over], metric, *steps, _layer_words(quantity), _run_words(quantity)]
    text = " ".join(part for part in parts if part)
    return f"{'block' if quantity.blocks else 'layer'} of the {text}" if quantity.layer == "argmax" else text


def _pair_words(function: str, first: str, second: str, form: str) -> str:
    first, second = _metric_words(first, form), _metric_words(second, form)
    match function:
        case "rank_corr":
            return f"rank correlation of {first} and {second}"
        case "rank_at_max":
            return f"rank of {first} at the largest {second}"
        case _:
            raise ValueError(f"there are no words for {function}")


def _metric_words(metric: str, form: str) -> str:
    """The name of a metric as specs write it, so that a reader finds it there, with spaces for underscores."""
    words = metric.replace("_", " ")
    minus_one = form == "variance" and metric in METRICS and "variance" in METRICS[metric].forms
    return f"{words} - 1" if minus_one else words


def _layer_words(quantity: Quantity) -> str:
    layer = quantity.layer
    if layer is None:
        return ""
    if isinstance(layer, list):
        return f"in each of layers {', '.join(str(label) for label in layer)}"
    words = f"in layer {layer}" if isinstance(layer, int) else _LAYERS[layer]
    if isinstance(quantity.blocks, str):
        return words.replace("layer", f"{quantity.blocks} block")
    return words.replace("layer", "block") if quantity.blocks else words


def _run_words(quantity: Quantity) -> str:
    names = quantity.run_names
    listed = ", ".join(names) if len(names) <= _MOST_RUNS else f"{len(names)} runs"
    how = _RUNS[quantity.reduce_runs]
    text = f"of {how}{'each of ' if len(names) > 1 and not how else ''}{listed}"
    return f"{text}, less that of {quantity.minus_run}" if quantity.minus_run else text


# ---------------------------------------------------------------------------------------------------


def found(claim: Claim, comparison: Comparison) -> str:
    """The deciding values as a statement that is true whether the claim holds or not.

    >>> found(claim, comparison)
    '127.3, above 40.1 (20 x 2.005) in layer 3 (7 of 7 hold)'
    """
    text = _statement(claim, comparison)
    names = {"run": "for ", "layer": "in layer ", "step": "at step "}
    where = " ".join(f"{names[dim]}{label}" for dim, label in reversed(comparison.where.items()))
    count = f"({comparison.agree} of {comparison.of} hold)" if comparison.of > 1 else ""
    return " ".join(part for part in (text, where, count) if part)


def _statement(claim: Claim, comparison: Comparison) -> str:
    left, right = comparison.left, comparison.right
    if isinstance(left, list):
        return _chain(left)
    if right is None:  # spearman_ge, whose left value is the correlation itself
        bound = claim.bound or 0.0
        return f"rank correlation {number(left)}, {(_HOLDS if comparison.holds else _FAILS)['ge']} {number(bound)}"
    rhs = claim.factor * right + claim.plus
    slack = max(claim.tol, claim.rel_tol * abs(rhs))
    ours, shown = _or_failed(left, claim.left), _or_failed(right, claim.right)
    if rhs != right:
        factor = f"{number(claim.factor)} x " if claim.factor != 1.0 else ""
        plus = f" + {number(claim.plus)}" if claim.plus else ""
        shown = f"{number(rhs)} ({factor}{shown}{plus})"
    match claim.cmp:
        case "gt" | "ge" | "lt" | "le" | "eq":
            relation = (_HOLDS if comparison.holds else _FAILS)[claim.cmp]
            allowed = f" {'+' if claim.cmp == 'le' else '-'} {number(slack)}" if slack else ""
            return f"{ours}, {relation} {shown}{allowed}"
        case "approx":
            return f"{number(left)} against {shown}: apart by {number(abs(left - rhs))}, allowed {number(slack)}"
        case "within_factor":
            ratio = max(left / rhs, rhs / left) if left > 0 and rhs > 0 else math.inf
            allowed = number(claim.bound or 0)
            return f"{number(left)} against {shown}: a factor of {number(ratio)}, allowed {allowed}"
        case _:
            raise ValueError(f"there are no words for what {claim.cmp} found")


def _or_failed(value: float, side: object) -> str:
    """The value of a side. Where a failure counts as infinite, infinity is said to be a failure."""
    of_failures = isinstance(side, Quantity) and side.nan == "counts_as_inf"
    return "failed (counts as infinite)" if of_failures and value == math.inf else number(value)


def _chain(values: Sequence[float]) -> str:
    """`9.1 > 4.2 < 5`."""
    text = number(values[0])
    for earlier, later in pairwise(values):
        text += f" {'>' if earlier > later else '<' if earlier < later else '='} {number(later)}"
    return text
