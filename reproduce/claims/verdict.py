"""Verdicts: what became of a claim at one scale, with the values that decided.

    reproduced       the bound in force at this scale holds
    direction only   the bound does not hold, but the same comparison does without its factor, plus or bound
    not reproduced   neither of the two holds
    not measured     the traces cannot decide, or the claim is not judged at this scale; the reason says which

The bound in force is that of the claim, or what `at.<scale>` says in its place. At scale smoke the values are read and
shown, and the verdict is always "not measured", since that scale checks the plumbing and not the science.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from reproduce.claims.ruling import NotMeasured, Ruling
from reproduce.specs.claims import at_scale, check, metrics_of, quantities, runs_of
from reproduce.specs.schema import Claim, Experiment, Scale
from reproduce.store.json_text import without_nonfinite

if TYPE_CHECKING:
    import pandas as pd

    from reproduce.claims.quantity import FactsOf
    from reproduce.store.frame import Loaded


@dataclass(frozen=True)
class Verdict:
    """One claim, judged."""

    id: str
    """Figure or table."""
    claim: str
    says: str
    scale: str
    data: str
    """Data sources of the runs, whether they stand in for the paper's, and which models stand in for others."""
    verdict: Ruling
    measured: dict[str, Any] | None
    """The fields of `reproduce.claims.compare.Comparison` but `holds`, and the same in words as `text`."""
    bound: str
    """What the claim asks for at this scale, in words."""
    published: Any
    """The number in the paper, where it gives one."""
    n_seeds: int
    """How many seeds were averaged, for the run with the fewest."""
    test: str
    """In how many seeds the claim holds alone, a test of that where there is one, and which seeds were left out."""
    early: str
    """The verdict without the first tenth of the steps, where a claim about peaks would get another one."""
    reason: str
    """Why the claim is not measured."""
    because: str
    """Why the scale has a bound of its own; empty where the bound in force is the claim's, which is the paper's."""
    kind: str = "finding"
    """A finding, or an identity, which holds by algebra and tests the metrics."""

    @property
    def shown(self) -> str:
        """The `evidence` for this verdict."""
        return evidence(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """All fields in plain JSON, with numbers that are not finite as strings."""
        return {field.name: without_nonfinite(getattr(self, field.name)) for field in fields(self)}


def evidence(verdict: Mapping[str, Any]) -> str:
    """The values that decided `verdict` (a `Verdict.to_json`) and how reliable they are, or why there are none."""
    measured, reason = verdict["measured"], str(verdict["reason"])
    if not measured:
        return reason
    seeds = f"mean over seeds, {verdict['test']}" if verdict["n_seeds"] > 1 else ""
    text = "; ".join(part for part in (measured["text"], seeds, verdict["early"]) if part)
    return f"{text}; {reason}" if reason else text


def exit_code(verdicts: Iterable[Verdict]) -> int:
    """The exit code: 1 if a claim was not reproduced, 3 if there are claims and none was measured, 0 otherwise."""
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
            paper_data=not any(
                fact.substitute for (run, _), fact in loaded.facts.items() if run in runs_of(at_scale(claim, scale))
            ),
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
    from reproduce.claims.compare import compare, ruling, sides
    from reproduce.claims.robustness import fewest_seeds, seed_by_seed, without_early_steps
    from reproduce.claims.wording import asked, found

    in_force = at_scale(claim, scale)
    because = claim.at[scale].because if scale in claim.at else ""
    check(in_force)
    names = runs_of(in_force)
    unjudged = Verdict(
        id=figure,
        claim=claim.id,
        says=claim.says,
        scale=scale,
        data=_data(names, facts, paper_data),
        verdict="not measured",
        measured=None,
        bound=asked(in_force, because),
        published=_published(claim, published or {}),
        n_seeds=0,
        test="",
        early="",
        reason="",
        because=because,
        kind=claim.kind,
    )
    try:
        _can_be_judged(in_force, facts, scale)
        ours = frame[frame["run"].isin(names)]
        tables = sides(in_force, ours, facts)
        comparison = compare(in_force, tables)
    except NotMeasured as gap:
        return replace(unjudged, reason=str(gap))

    judged = replace(
        unjudged,
        measured={
            "left": comparison.left,
            "right": comparison.right,
            "where": comparison.where,
            "agree": comparison.agree,
            "of": comparison.of,
            "text": found(in_force, comparison),
        },
        n_seeds=fewest_seeds(in_force, facts),
        test=seed_by_seed(in_force, ours, facts),
    )
    if scale == "smoke":
        return replace(judged, reason="smoke scale checks the plumbing, never the science")
    verdict = ruling(in_force, tables, comparison)
    return replace(judged, verdict=verdict, early=without_early_steps(in_force, verdict, ours, facts))


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
    said = ", ".join(sources) + ("" if paper_data else " (substitute)")
    models = {fact.label: fact.stands_for for (run, _), fact in facts.items() if run in names and fact.stands_for}
    return "; ".join([said, *(f"{label} in place of {what}" for label, what in models.items())])


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
