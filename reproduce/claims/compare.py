"""Comparators: whether `left cmp factor * right + plus` holds, and which of the matched pairs decides.

Both sides are tables (`reproduce.claims.quantity`). Their rows are matched one to one on the dims that both have; a
dim that one side lacks broadcasts; run lists of the same length are matched in the order in which they are listed. Each
pair has a *margin*, which says by how much it satisfies the comparator. With rhs = factor * right + plus and
slack = max(tol, rel_tol |rhs|) the margins are:

    gt, ge                   left - rhs + slack, over the larger of |left| and |rhs|: the ratio decides, not the size
    lt, le                   rhs - left + slack, likewise
    approx                   slack - |left - rhs|
    eq                       -|left - rhs|
    within_factor            bound - max(left / rhs, rhs / left)
    spearman_ge              correlation over `across` - bound; over steps it is that of each layer
    decreasing, increasing   inversions_allowed - inversions, an inversion being two runs out of order (a tie is one)

The word `some` asks for one layer or step and picks the largest margin. The word `most` asks for more than half of them
and picks the largest margin that more than half reach. Every other word asks for all and picks the smallest. Steps are
picked first, then layers, then runs. The pair that is left decides: the claim holds when its margin is not negative, or
for gt and lt when it is positive.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import combinations
from typing import assert_never

import numpy as np
import pandas as pd

from reproduce.claims.quantity import (
    CASE,
    FEWEST_RANKS,
    FactsOf,
    constant,
    dims,
    join,
    layers_of,
    rank_correlation,
    read,
)
from reproduce.claims.ruling import NotMeasured, Ruling
from reproduce.specs.claims import ACROSS, DIMS, TRENDS, UNEMBED, open_dims, quantities
from reproduce.specs.schema import Claim, Quantity


@dataclass(frozen=True)
class Comparison:
    """What comparing the two sides of a claim found."""

    holds: bool
    left: float | list[float]
    """Left value of the deciding pair; the correlation for spearman_ge; one value for each run of a trend."""
    right: float | None
    """Right value of the deciding pair, before factor and plus; None for a trend and for spearman_ge."""
    where: dict[str, str | int]
    """Run, layer and step of the deciding pair, as far as the claim leaves them open."""
    agree: int
    """How many pairs satisfy the comparator."""
    of: int
    """How many pairs there are."""


Sides = tuple[pd.DataFrame, pd.DataFrame | None]


def sides(claim: Claim, frame: pd.DataFrame, facts: FactsOf) -> Sides:
    """The tables of both sides of `claim`. The right one is None where the claim has no right side.

    Raises:
        NotMeasured: the traces do not hold what a side reads.
    """
    variance = claim.form == "variance"
    left = read(claim.left, frame, facts, variance=variance)
    if not isinstance(claim.right, Quantity):
        return left, numbers_on_the_right(claim, facts)
    right = read(claim.right, frame, facts, variance=variance)
    return left, named_as_left(claim, right) if "run" in left.columns else right


def named_as_left(claim: Claim, right: pd.DataFrame) -> pd.DataFrame:
    """The table of the right side under the names of the left side's runs, with which its own are matched in order."""
    assert isinstance(claim.right, Quantity), "the right side reads runs"
    if "run" not in right.columns:
        return right
    return right.assign(run=right["run"].map(dict(zip(claim.right.run_names, claim.left.run_names, strict=True))))


def numbers_on_the_right(claim: Claim, facts: FactsOf) -> pd.DataFrame | None:
    """The table of a right side that reads no runs: a number, one for each run of the left side, or none at all."""
    right, names = claim.right, claim.left.run_names
    if right is None:
        return None
    assert not isinstance(right, Quantity), "the right side reads no runs"
    if right == UNEMBED:
        values = [1.0 + layers_of(run, facts) for run in names]
    else:
        values = [float(value) for value in right] if isinstance(right, list) else [float(right)] * len(names)
    return pd.DataFrame({"run": names, "value": values}) if "run" in open_dims(claim.left) else constant(values[0])


def compare(claim: Claim, tables: Sides) -> Comparison:
    """Whether `claim` holds for its two sides.

    Raises:
        NotMeasured: the sides have no row in common, or their ranks are undefined.
    """
    pairs = with_margins(claim, *tables)
    decider = deciders(claim, pairs).iloc[0]
    left, right = decider["left"], decider.get("right")
    where = {dim: int(decider[dim]) if dim == "step" else str(decider[dim]) for dim in dims(pairs)}
    return Comparison(
        holds=bool(decider["enough"]),
        left=left if isinstance(left, list) else float(left),
        right=None if right is None else float(right),
        where=where if len(pairs) > 1 else {},
        agree=int(pairs["enough"].sum()),
        of=len(pairs),
    )


def same_direction(claim: Claim, tables: Sides) -> bool:
    """Whether the weak form of `claim` holds, which is its direction without the amount, and without a tolerance.

    Comparators that ask for equality have no weak form, so that theirs never holds.
    """
    match claim.cmp:
        case "gt" | "ge" | "lt" | "le":
            bare = {"factor": 1.0, "plus": 0.0, "tol": 0.0, "rel_tol": 0.0}
            return compare(claim.model_copy(update=bare), tables).holds
        case "spearman_ge":
            above_zero = math.nextafter(0.0, 1.0)
            return compare(claim.model_copy(update={"bound": above_zero}), tables).holds
        case "decreasing" | "increasing":
            return all(_trends_weakly(claim, values) for values in with_margins(claim, *tables)["left"])
        case "eq" | "approx" | "within_factor":
            return False
        case _:
            assert_never(claim.cmp)


def ruling(claim: Claim, tables: Sides, comparison: Comparison) -> Ruling:
    """What becomes of `claim`, whose sides are `tables` and gave `comparison`."""
    if comparison.holds:
        return "reproduced"
    return "direction only" if same_direction(claim, tables) else "not reproduced"


def inversions(claim: Claim, values: list[float]) -> int:
    """How many pairs of `values` are out of the order that a trend claims."""
    sign = _sign(claim)
    return sum(not sign * later > sign * earlier for earlier, later in combinations(values, 2))


def _sign(claim: Claim) -> float:
    """The sign that makes the order which a trend claims an increasing one."""
    return {"increasing": 1.0, "decreasing": -1.0}[claim.cmp]


def _trends_weakly(claim: Claim, values: list[float]) -> bool:
    """Whether the two ends are in the order claimed, or the ranks follow it on the whole."""
    sign = _sign(claim)
    if sign * (values[-1] - values[0]) > 0:
        return True
    ranked = len(values) >= FEWEST_RANKS and len(set(values)) > 1
    return ranked and sign * rank_correlation(pd.Series(range(len(values))), pd.Series(values)) > 0


# ---------------------------------------------------------------------------------------------------
# Margins


def with_margins(claim: Claim, left: pd.DataFrame, right: pd.DataFrame | None) -> pd.DataFrame:
    """The matched pairs with the margin of each, and whether that is `enough`.

    For a trend and for spearman_ge there is a row for each group of pairs.
    """
    if claim.cmp in TRENDS:
        pairs = _trend(claim, left)
    else:
        assert right is not None, f"{claim.cmp} has a right side"
        pairs = join(left, right)
        if claim.cmp == "spearman_ge":
            pairs = _correlations(claim, pairs)
        else:
            pairs = pairs.assign(margin=_margins(claim, pairs).fillna(-np.inf))
    return pairs.assign(enough=pairs["margin"] > 0 if claim.cmp in ("gt", "lt") else pairs["margin"] >= 0)


def _margins(claim: Claim, pairs: pd.DataFrame) -> pd.Series:
    rhs = claim.factor * pairs["right"] + claim.plus
    # An infinite right side has no slack, which would be infinite too and make up for anything.
    slack = (claim.rel_tol * rhs.abs().replace(np.inf, 0.0)).clip(lower=claim.tol)
    ahead = pairs["left"] - rhs
    size = pairs["left"].abs().clip(lower=rhs.abs()).replace([0.0, np.inf], 1.0)
    match claim.cmp:
        case "gt" | "ge":
            return (ahead + slack) / size
        case "lt" | "le":
            return (slack - ahead) / size
        case "approx" | "eq":
            return slack - ahead.abs()
        case "within_factor":
            assert claim.bound is not None, "within_factor has a bound"
            return claim.bound - _ratio(pairs["left"], rhs)
        case _:
            raise ValueError(f"the comparator {claim.cmp} has no margin")


def _ratio(left: pd.Series, right: pd.Series) -> pd.Series:
    """The larger of two values over the smaller, at least 1; infinite where one of them is not positive."""
    positive = (left > 0) & (right > 0)
    ratio = (left / right).where(positive)
    return ratio.where(ratio >= 1, 1 / ratio).fillna(np.inf)


def _correlations(claim: Claim, pairs: pd.DataFrame) -> pd.DataFrame:
    assert claim.across is not None, "spearman_ge says over what"
    assert claim.bound is not None, "spearman_ge has a bound"
    kept = [dim for dim in dims(pairs) if dim not in ACROSS[claim.across]]
    groups = pairs.groupby(kept, sort=False) if kept else [((), pairs)]
    rows = [(*labels, rank_correlation(group["left"], group["right"])) for labels, group in groups]
    table = pd.DataFrame(rows, columns=[*kept, "left"])
    return table.assign(margin=table["left"] - claim.bound)


def _trend(claim: Claim, left: pd.DataFrame) -> pd.DataFrame:
    kept = [dim for dim in dims(left) if dim != "run"]
    groups = left.groupby(kept, sort=False) if kept else [((), left)]
    rows = []
    for labels, group in groups:
        values = group["value"].tolist()
        if len(values) < len(claim.left.run_names):
            raise NotMeasured("not every run has the same layers and steps")
        rows.append((*labels, values, claim.inversions_allowed - inversions(claim, values)))
    return pd.DataFrame(rows, columns=[*kept, "left", "margin"])


def deciders(claim: Claim, pairs: pd.DataFrame) -> pd.DataFrame:
    """The pair that decides: one dim after the other is reduced to the margin that its word picks.

    There is one row. A table that holds several cases side by side (`CASE`) has one for each of them.
    """
    for dim in reversed(DIMS):
        if dim not in pairs.columns:
            continue
        word = {"run": "runs", "layer": "layer", "step": "over"}[dim]
        words = [getattr(quantity, word) for quantity in quantities(claim).values() if dim != "run"]
        kept = [other for other in (CASE, *DIMS[: DIMS.index(dim)]) if other in pairs.columns]
        pick = "idxmax" if "some" in words else _most if "most" in words else "idxmin"
        best = pairs.groupby(kept, sort=False)["margin"].agg(pick) if kept else [pairs["margin"].agg(pick)]
        pairs = pairs.loc[best]
    return pairs.reset_index(drop=True)


def _most(margins: pd.Series) -> Hashable:
    """The index of the largest margin that more than half of `margins` reach."""
    return margins.sort_values(ascending=False, kind="stable").index[len(margins) // 2]
