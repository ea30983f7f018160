"""Claims and their outcomes in words: what was asked for, and the values that decided."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from reproduce.claims.check import ORDERS, PAIR, TRENDS, UNEMBED
from reproduce.specs.schema import Claim, Quantity

if TYPE_CHECKING:
    from reproduce.claims.compare import Outcome

_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "="}
_NEGATED = {"gt": "<=", "ge": "<", "lt": ">=", "le": ">", "eq": "is not"}
_OVER = {
    "init": "initial",
    "final": "final",
    "peak": "peak",
    "min": "lowest",
    "mean": "mean",
    "argpeak": "step of the peak of",
}
_LAYERS = {
    UNEMBED: "at the unembedding",
    "each": "in each layer",
    "some": "in some layer",
    "early": "in each early block",
    "late": "in each late block",
    "mean": "averaged over blocks",
    "max": "in the largest layer",
}
_STEPS = {"each": "at each step", "some": "at some step"}
_MOST_RUNS = 4
"""Longer lists of runs are counted, not listed."""


def number(value: float) -> str:
    """A value with about four digits, whole numbers in full."""
    if not math.isfinite(value):
        return str(value)
    whole = value == round(value) and abs(value) < 1e7
    return f"{value:.0f}" if whole else f"{value:.4g}"


def asked(claim: Claim, because: str | None = None) -> str:
    """What `claim` asks for, with the reason where the bound is a scale's own.

    >>> asked(claim, because="the loss falls less in 2000 steps")
    'final train loss of cp-naive > 1.1 x final train loss of cp-op (the loss falls less in 2000 steps)'
    """
    left = quantity_words(claim.left, claim.form)
    text = f"{left} {_asked_of_left(claim)}"
    return f"{text} ({because})" if because else text


def _asked_of_left(claim: Claim) -> str:
    right = _right_words(claim)
    if claim.cmp in TRENDS:
        allowed = claim.inversions_allowed
        return claim.cmp + (f", {allowed} inversion{'s' if allowed > 1 else ''} allowed" if allowed else "")
    if claim.cmp == "within_factor":
        return f"within a factor of {number(claim.bound or 0)} of {right}"
    if claim.cmp == "spearman_ge":
        over = {"layer": "layers", "run": "runs"}.get(claim.across or "", "layers and runs")
        return f"ranks over {over} as {right} does, correlation >= {number(claim.bound or 0)}"
    if claim.cmp == "approx":
        return f"= {right} +- {_tolerance(claim)}"
    slack = f", tolerance {_tolerance(claim)}" if claim.tol or claim.rel_tol else ""
    return f"{_SIGNS[claim.cmp]} {right}{slack}"


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
    """`peak kurtosis - 1 in layer 2 of cp-op`."""
    pair = PAIR.fullmatch(quantity.metric)
    if pair:
        first, second = _metric_words(pair[2], form), _metric_words(pair[3], form)
        together = pair[1] == "rank_corr"
        metric = f"rank correlation of {first} and {second}" if together else f"rank of {first} at the largest {second}"
    else:
        metric = _metric_words(quantity.metric, form)
    if quantity.plus_metric is not None:
        metric = f"{metric} + {_metric_words(quantity.plus_metric, form)}"
    if quantity.cumulative:
        metric = f"cumulative {metric}"
    if quantity.abs:
        metric = f"|{metric}|"
    over = str(quantity.over)
    steps = [_STEPS.get(over, ""), f"after the first {number(100 * quantity.after)} %" if quantity.after else ""]
    parts = [_OVER.get(over, ""), metric, *steps, _layer_words(quantity), _run_words(quantity)]
    text = " ".join(part for part in parts if part)
    return f"{'block' if quantity.blocks else 'layer'} of the {text}" if quantity.layer == "argmax" else text


def _metric_words(metric: str, form: str) -> str:
    words = metric.replace("_", " ")
    return f"{words} - 1" if form == "variance" and metric.startswith("kurtosis") else words


def _layer_words(quantity: Quantity) -> str:
    layer = quantity.layer
    if isinstance(layer, list):
        return f"in each of layers {', '.join(str(label) for label in layer)}"
    words = f"in layer {layer}" if isinstance(layer, int) else _LAYERS.get(str(layer), "")
    return words.replace("layer", "block") if quantity.blocks else words


def _run_words(quantity: Quantity) -> str:
    names = quantity.run_names
    listed = ", ".join(names) if len(names) <= _MOST_RUNS else f"{len(names)} runs"
    how = {"max": "the highest of ", "min": "the lowest of ", "mean": "the mean of "}.get(str(quantity.reduce_runs), "")
    text = f"of {how}{'each of ' if len(names) > 1 and not how else ''}{listed}"
    return f"{text}, less that of {quantity.minus_run}" if quantity.minus_run else text


# ---------------------------------------------------------------------------------------------------


def found(claim: Claim, outcome: Outcome) -> str:
    """The deciding values as a true statement, whichever way the verdict went.

    >>> found(claim, outcome)
    '127.3 > 20 x 2.005 (= 40.1) in layer 3 (7 of 7 hold)'
    """
    text = _statement(claim, outcome)
    names = {"run": "of ", "layer": "in layer ", "step": "at step "}
    where = " ".join(f"{names[dim]}{label}" for dim, label in reversed(outcome.where.items()))
    count = f"({outcome.agree} of {outcome.of} hold)" if outcome.of > 1 else ""
    return " ".join(part for part in (text, where, count) if part)


def _statement(claim: Claim, outcome: Outcome) -> str:
    left, right = outcome.left, outcome.right
    if isinstance(left, list):
        return _chain(left)
    if right is None:
        bound = claim.bound or 0.0
        return f"rank correlation {number(left)} {'>=' if outcome.holds else '<'} {number(bound)}"
    rhs = claim.factor * right + claim.plus
    ours, shown = _or_failed(left, claim.left), _or_failed(right, claim.right)
    if rhs != right:
        factor = f"{number(claim.factor)} x " if claim.factor != 1.0 else ""
        plus = f" + {number(claim.plus)}" if claim.plus else ""
        shown = f"{factor}{shown}{plus} (= {number(rhs)})"
    if claim.cmp in (*ORDERS, "eq"):
        slack = max(claim.tol, claim.rel_tol * abs(rhs))
        sign = (_SIGNS if outcome.holds else _NEGATED)[claim.cmp]
        allowed = f" {'+' if claim.cmp == 'le' else '-'} {number(slack)}" if slack else ""
        return f"{ours} {sign} {shown}{allowed}"
    if claim.cmp == "approx":
        slack = max(claim.tol, claim.rel_tol * abs(rhs))
        return f"{number(left)} against {shown}: apart by {number(abs(left - rhs))}, allowed {number(slack)}"
    ratio = max(left / rhs, rhs / left) if left > 0 and rhs > 0 else math.inf
    return f"{number(left)} against {shown}: a factor of {number(ratio)}, allowed {number(claim.bound or 0)}"


def _or_failed(value: float, side: object) -> str:
    """A side's value; where a failure counts as infinite, infinity is said to be a failure."""
    of_failures = isinstance(side, Quantity) and side.nan == "counts_as_inf"
    return "failed (counts as infinite)" if of_failures and value == math.inf else number(value)


def _chain(values: Sequence[float]) -> str:
    """`9.1 > 4.2 < 5`."""
    text = number(values[0])
    for earlier, later in pairwise(values):
        text += f" {'>' if earlier > later else '<' if earlier < later else '='} {number(later)}"
    return text
