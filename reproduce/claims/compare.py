"""Comparators: whether `left cmp factor * right + plus` holds, and which of the matched pairs decides.

Both sides are tables (`reproduce.claims.quantity`). They are matched one to one on the dims they share; a side
without a dim broadcasts; equally long run lists are matched in the order they are listed. Every pair has a *margin*,
by how much it satisfies the comparator (rhs = factor * right + plus, slack = max(tol, rel_tol |rhs|)):

    gt, ge                   left - rhs + slack, over the larger of |left| and |rhs|: the ratio decides, not the size
    lt, le                   rhs - left + slack, likewise
    approx                   slack - |left - rhs|
    eq                       -|left - rhs|
    within_factor            bound - max(left / rhs, rhs / left)
    spearman_ge              correlation over `across` - bound
    decreasing, increasing   inversions_allowed - inversions, an inversion being two runs out of order (a tie is one)

`some` asks for one probe or step and takes the largest margin, everything else asks for all and takes the smallest:
over steps first, then layers, then runs. What is left is the deciding pair, and the claim holds when its margin is
not negative (for gt and lt: is positive).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from reproduce.claims.check import ACROSS, DIMS, ORDERS, TRENDS, NotMeasured, Ruling, quantities
from reproduce.claims.quantity import FEWEST_RANKS, FactsOf, constant, dims, join, layers_of, rank_correlation, read
from reproduce.specs.schema import Claim, Quantity


@dataclass(frozen=True)
class Outcome:
    """What a comparison found."""

    holds: bool
    left: float | list[float]
    """Left value of the deciding pair; the correlation for spearman_ge; one value for each run of a trend."""
    right: float | None
    """Right value of the deciding pair, before factor and plus; None for a trend and for spearman_ge."""
    where: dict[str, str | int]
    """Run, layer and step of the deciding pair, as far as the claim leaves them open."""
    agree: int
    """Pairs that satisfy the comparator, ..."""
    of: int
    """... of this many."""


Sides = tuple[pd.DataFrame, pd.DataFrame | None]


def sides(claim: Claim, frame: pd.DataFrame, facts: FactsOf) -> Sides:
    """The tables of both sides; None on the right where the claim has no such side."""
    variance = claim.form == "variance"
    left = read(claim.left, frame, facts, variance=variance)
    right, names = claim.right, claim.left.run_names
    if right is None:
        return left, None
    if isinstance(right, Quantity):
        table = read(right, frame, facts, variance=variance)
        if "run" in table.columns and "run" in left.columns:
            table = table.assign(run=table["run"].map(dict(zip(right.run_names, names, strict=True))))
        return left, table
    if isinstance(right, str):
        values = [1.0 + layers_of(run, facts) for run in names]
    else:
        values = [float(value) for value in right] if isinstance(right, list) else [float(right)] * len(names)
    return left, pd.DataFrame({"run": names, "value": values}) if "run" in left.columns else constant(values[0])


def compare(claim: Claim, tables: Sides) -> Outcome:
    """Whether `claim` holds for its two sides.

    Raises:
        NotMeasured: the sides have nothing in common, or ranks are undefined.
    """
    pairs = _with_margins(claim, *tables)
    pairs["enough"] = pairs["margin"] > 0 if claim.cmp in ("gt", "lt") else pairs["margin"] >= 0
    decider = _decider(claim, pairs)
    left, right = decider["left"], decider.get("right")
    where = {dim: int(decider[dim]) if dim == "step" else str(decider[dim]) for dim in dims(pairs)}
    return Outcome(
        holds=bool(decider["enough"]),
        left=left if isinstance(left, list) else float(left),
        right=None if right is None else float(right),
        where=where if len(pairs) > 1 else {},
        agree=int(pairs["enough"].sum()),
        of=len(pairs),
    )


def same_direction(claim: Claim, tables: Sides) -> bool:
    """Whether the weak form of `claim` holds: its direction without the amount. Some comparators have none."""
    if claim.cmp in ORDERS:
        return compare(claim.model_copy(update={"factor": 1.0, "plus": 0.0}), tables).holds
    if claim.cmp == "spearman_ge":
        above_zero = math.nextafter(0.0, 1.0)
        return compare(claim.model_copy(update={"bound": above_zero}), tables).holds
    if claim.cmp in TRENDS:
        return all(_trends_weakly(claim, values) for values in _with_margins(claim, *tables)["left"])
    return False


def ruling(claim: Claim, tables: Sides, outcome: Outcome) -> Ruling:
    """What becomes of `claim` with these two sides, whose comparison found `outcome`."""
    if outcome.holds:
        return "reproduced"
    return "direction only" if same_direction(claim, tables) else "not reproduced"


def inversions(claim: Claim, values: list[float]) -> int:
    """Pairs out of the order that a trend claims."""
    rising = claim.cmp == "increasing"
    return sum(not (later > earlier if rising else later < earlier) for earlier, later in combinations(values, 2))


def _trends_weakly(claim: Claim, values: list[float]) -> bool:
    """The ends are in order, or the ranks go with the order on the whole."""
    sign = 1.0 if claim.cmp == "increasing" else -1.0
    if sign * (values[-1] - values[0]) > 0:
        return True
    ranked = len(values) >= FEWEST_RANKS and len(set(values)) > 1
    return ranked and sign * rank_correlation(pd.Series(range(len(values))), pd.Series(values)) > 0


# ---------------------------------------------------------------------------------------------------
# Margins


def _with_margins(claim: Claim, left: pd.DataFrame, right: pd.DataFrame | None) -> pd.DataFrame:
    if right is None:
        return _trend(claim, left)
    pairs = join(left, right)
    if claim.cmp == "spearman_ge":
        return _correlations(claim, pairs)
    rhs = claim.factor * pairs["right"] + claim.plus
    slack = (claim.rel_tol * rhs.abs().replace(np.inf, 0.0)).clip(lower=claim.tol)
    ahead = pairs["left"] - rhs
    size = pairs["left"].abs().clip(lower=rhs.abs()).replace([0.0, np.inf], 1.0)
    match claim.cmp:
        case "gt" | "ge":
            margin = (ahead + slack) / size
        case "lt" | "le":
            margin = (slack - ahead) / size
        case "approx" | "eq":
            margin = slack - ahead.abs()
        case _:
            assert claim.bound is not None, "within_factor has a bound"
            margin = claim.bound - _ratio(pairs["left"], rhs)
    return pairs.assign(margin=margin.fillna(-np.inf))


def _ratio(left: pd.Series, right: pd.Series) -> pd.Series:
    """How many times the larger of two positive values exceeds the smaller; infinite where one is not positive."""
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


def _decider(claim: Claim, pairs: pd.DataFrame) -> pd.Series:
    """The pair on which the verdict hangs."""
    for dim in reversed(DIMS):
        if dim not in pairs.columns:
            continue
        word = {"run": "runs", "layer": "layer", "step": "over"}[dim]
        some = any(getattr(quantity, word) == "some" for quantity in quantities(claim).values())
        kept = [other for other in DIMS[: DIMS.index(dim)] if other in pairs.columns]
        pick = "idxmax" if some else "idxmin"
        best = pairs.groupby(kept, sort=False)["margin"].agg(pick) if kept else [pairs["margin"].agg(pick)]
        pairs = pairs.loc[best]
    return pairs.iloc[0]
