"""Verdicts: what became of a claim at one scale, with the values that decided.

    reproduced       the bound in force at this scale holds
    direction only   the same comparison without its factor, plus or bound holds
    not reproduced   neither does
    not measured     the traces cannot say, or the scale is not one to judge the claim at; the reason says which

The bound in force is the claim's own, with whatever `at.<scale>` puts in its place. At scale smoke the values are
read and shown, and the verdict is always "not measured": that scale checks plumbing, never science.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from itertools import permutations
from typing import TYPE_CHECKING, Any, Literal

from reproduce.claims.check import (
    ORDERS,
    TRENDS,
    NotMeasured,
    at_scale,
    check,
    metrics_of,
    open_dims,
    quantities,
    runs_of,
    runs_read,
)
from reproduce.specs.schema import Claim, Experiment, Scale

if TYPE_CHECKING:
    import pandas as pd

    from reproduce.claims.compare import Sides
    from reproduce.claims.quantity import FactsOf
    from reproduce.store.frame import Loaded

_RANKED = (*ORDERS, *TRENDS)

EARLY = 0.1
"""First part of the steps, whose peaks are told from later ones."""

Ruling = Literal["reproduced", "direction only", "not reproduced", "not measured"]


@dataclass(frozen=True)
class Verdict:
    """One claim, judged."""

    id: str
    """Figure or table."""
    claim: str
    says: str
    scale: str
    data: str
    """Data sources of the runs, and whether they stand in for the paper's."""
    verdict: Ruling
    measured: dict[str, Any] | None
    """`left` and `right` of the deciding pair, `where` it is, how many pairs `agree` `of` how many, and the `text`."""
    bound: str
    """What was asked for at this scale, in words."""
    published: Any
    """The paper's own number, where it gives one."""
    n_seeds: int
    """Seeds averaged, of the run with the fewest."""
    test: str
    """How many seeds hold the claim by themselves, with a test where chance has a say, and which were left out."""
    early: str
    """What the verdict would be without the first tenth of the steps, where a claim on peaks would get another."""
    reason: str
    """Why it is not measured."""

    @property
    def shown(self) -> str:
        """`evidence` of this verdict."""
        return evidence(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """All fields in plain JSON; what is not finite is a string."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def evidence(verdict: Mapping[str, Any]) -> str:
    """The values that decided and how far they can be relied on, or why there are none, of `Verdict.to_json`."""
    measured, reason = verdict["measured"], str(verdict["reason"])
    if not measured:
        return reason
    seeds = f"mean over seeds, {verdict['test']}" if verdict["n_seeds"] > 1 else ""
    text = "; ".join(part for part in (measured["text"], seeds, verdict["early"]) if part)
    return f"{text} ({reason})" if reason else text


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """1 when a claim was not reproduced; 3 when there are claims and none could be measured; else 0."""
    rulings = {verdict.verdict for verdict in verdicts}
    return 1 if "not reproduced" in rulings else 3 if rulings == {"not measured"} else 0


def judge(experiment: Experiment, loaded: Loaded, scale: Scale) -> list[Verdict]:
    """The verdicts on all claims of `experiment`, in the order of its spec."""
    return [
        evaluate(
            claim,
            loaded.frame,
            loaded.facts,
            scale,
            paper_data=not any(fact.substitute for (run, _), fact in loaded.facts.items() if run in runs_of(claim)),
            figure=experiment.id,
            published=experiment.published,
        )
        for claim in experiment.claims
    ]


def evaluate(
    claim: Claim,
    frame: pd.DataFrame,
    facts: FactsOf,
    scale: Scale,
    *,
    paper_data: bool,
    figure: str = "",
    published: Mapping[str, Any] | None = None,
) -> Verdict:
    """Judge `claim` on the traces in `frame`.

    Args:
        frame: tidy frame of `reproduce.store.frame`.
        facts: facts of each (run, seed) in it.
        paper_data: whether all runs trained on the paper's own data.
        figure: id of the figure or table the claim belongs to.
        published: the figure's published numbers, `published.<run>.<metric>` among them.

    Raises:
        SpecError: the claim makes no sense whatever the traces say.
    """
    from reproduce.claims.compare import compare, sides
    from reproduce.claims.wording import asked, found

    in_force = at_scale(claim, scale)
    check(in_force)
    names = runs_of(claim)
    unjudged = Verdict(
        id=figure,
        claim=claim.id,
        says=claim.says,
        scale=scale,
        data=_data(names, facts, paper_data),
        verdict="not measured",
        measured=None,
        bound=asked(in_force, claim.at[scale].because if scale in claim.at else None),
        published=_published(claim, published or {}),
        n_seeds=0,
        test="",
        early="",
        reason="",
    )
    try:
        _can_be_judged(claim, facts, scale)
        ours = frame[frame["run"].isin(names)]
        tables = sides(in_force, ours, facts)
        outcome = compare(in_force, tables)
    except NotMeasured as gap:
        return replace(unjudged, reason=str(gap))

    judged = replace(
        unjudged,
        measured={
            "left": outcome.left,
            "right": outcome.right,
            "where": outcome.where,
            "agree": outcome.agree,
            "of": outcome.of,
            "text": found(in_force, outcome),
        },
        n_seeds=_fewest_seeds(in_force, facts),
        test=_seed_by_seed(in_force, ours, facts),
    )
    if scale == "smoke":
        return replace(judged, reason="smoke scale checks the plumbing, never the science")
    ruling = _ruling(in_force, tables)
    return replace(judged, verdict=ruling, early=_without_early_steps(in_force, ruling, ours, facts))


def _ruling(claim: Claim, tables: Sides) -> Ruling:
    from reproduce.claims.compare import compare, same_direction

    if compare(claim, tables).holds:
        return "reproduced"
    return "direction only" if same_direction(claim, tables) else "not reproduced"


def _without_early_steps(claim: Claim, ruling: Ruling, frame: pd.DataFrame, facts: FactsOf) -> str:
    """What becomes of a claim on peaks without the first tenth of the steps, where that is another verdict.

    While a model learns how frequent each token is, late layers can collapse to one direction and recover. A claim
    that such a peak decides says little of outlier features, whether it holds or not.
    """
    from reproduce.claims.compare import compare, sides
    from reproduce.claims.wording import found

    later = {
        side: quantity.model_copy(update={"after": EARLY})
        for side, quantity in quantities(claim).items()
        if quantity.over == "peak" and not quantity.after
    }
    if not later:
        return ""
    settled = claim.model_copy(update=later)
    try:
        tables = sides(settled, frame, facts)
        other = _ruling(settled, tables)
    except NotMeasured:
        return ""
    if other == ruling:
        return ""
    return f"{other} without the first {EARLY:.0%} of the steps: {found(settled, compare(settled, tables))}"


def _can_be_judged(claim: Claim, facts: FactsOf, scale: Scale) -> None:
    if scale not in claim.scales:
        raise NotMeasured(f"judged at scale {' and '.join(claim.scales)} only")
    for quantity in quantities(claim).values():
        if quantity.attention is not None:
            raise NotMeasured(f"asks for attention with {quantity.attention}, which no trace records")
    traced = {run for run, _ in facts}
    absent = [run for run in runs_of(claim) if run not in traced]
    if absent:
        raise NotMeasured(f"no trace of {', '.join(absent)}")


def _data(names: list[str], facts: FactsOf, paper_data: bool) -> str:
    sources = dict.fromkeys(fact.source for (run, _), fact in facts.items() if run in names)
    if not sources:
        return ""
    return ", ".join(sources) + ("" if paper_data else " (substitute)")


def _published(claim: Claim, published: Mapping[str, Any]) -> Any:
    """The numbers the figure prints for the claim's runs, else the number in a claim that the paper states."""
    printed: dict[str, Any] = {}
    for quantity in quantities(claim).values():
        for run in quantity.run_names:
            of_run = published.get(run)
            if isinstance(of_run, Mapping):
                printed |= {f"{run} {name}": of_run[name] for name in metrics_of(quantity) if name in of_run}
    if printed or claim.basis != "stated":
        return printed or None
    if isinstance(claim.right, int | float | list) and not isinstance(claim.right, bool) and claim.right != 0:
        return claim.right
    return claim.factor if claim.factor != 1.0 else None


# ---------------------------------------------------------------------------------------------------
# Seeds


def _fewest_seeds(claim: Claim, facts: FactsOf) -> int:
    from reproduce.claims.quantity import seeds_read

    sides = quantities(claim).values()
    return min(len(seeds_read(run, quantity, facts)) for quantity in sides for run in runs_read(quantity))


def _seed_by_seed(claim: Claim, frame: pd.DataFrame, facts: FactsOf) -> str:
    """How many seeds, paired over the runs, hold the claim by themselves, and how likely as many would by chance."""
    from reproduce.claims.compare import compare, sides

    names = runs_of(claim)
    shared = set.intersection(*({seed for name, seed in facts if name == run} for run in names))
    held, left_out = [], []
    for seed in sorted(shared) if len(shared) > 1 else []:
        of_seed = {(run, number): fact for (run, number), fact in facts.items() if number == seed}
        try:
            held.append(compare(claim, sides(claim, frame, of_seed)).holds)
        except NotMeasured as gap:
            if not any(of_seed[run, seed].failed for run in names):
                left_out.append(f"seed {seed} alone cannot say: {gap}")
    n, k = len(held), sum(held)
    if n > 1:
        text = f"{k} of {n} hold it alone"
        chance = _chance(claim)
        if chance is not None:
            tail = sum(math.comb(n, more) * chance**more * (1 - chance) ** (n - more) for more in range(k, n + 1))
            text += f" (p = {tail:.2g})"
    else:
        text = "one paired seed, no test"
    failed = [
        f"{run} seed {seed} failed at step {fact.failed_step}"
        for (run, seed), fact in facts.items()
        if run in names and fact.failed
    ]
    return "; ".join([text, *left_out, *failed])


def _chance(claim: Claim) -> float | None:
    """How likely the claim holds where its runs differ by nothing but chance; None where that is not known.

    Known for one run above another (a sign test), and for a trend (any order of the runs is as likely as another).
    """
    from reproduce.claims.compare import inversions

    sides = list(quantities(claim).values())
    if any(open_dims(side) not in ([], ["run"]) or side.minus_run for side in sides) or claim.cmp not in _RANKED:
        return None
    runs = [run for side in sides for run in side.run_names]
    if claim.cmp in TRENDS:
        orders = [inversions(claim, list(order)) for order in permutations(range(len(runs)))]
        return sum(count <= claim.inversions_allowed for count in orders) / len(orders)
    plain = (claim.factor, claim.plus, claim.tol, claim.rel_tol) == (1.0, 0.0, 0.0, 0.0)
    return 0.5 if plain and len(sides) == 2 and len(runs) == 2 and runs[0] != runs[1] else None


# ---------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value
