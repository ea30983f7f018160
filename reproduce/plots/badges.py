"""What every picture says about itself: its scale, substituted data, shipped traces, and the verdicts on its claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reproduce.claims.ruling import EARLY
from reproduce.plots.theme import BAD, GOOD, HALF, QUIET
from reproduce.units import count

if TYPE_CHECKING:
    from reproduce.claims import Verdict
    from reproduce.specs.runs import Guest
    from reproduce.store.frame import RunFacts


@dataclass(frozen=True)
class Badge:
    """One line of the box in the corner of a picture."""

    text: str
    tone: Literal["plain", "warning"] = "plain"


@dataclass(frozen=True)
class Chip:
    """A line on the outcome of claims. Symbol and words tell it; the colour only repeats them."""

    text: str
    colour: str


_OUTCOMES = {
    "reproduced": ("✓", GOOD),
    "direction only": ("~", HALF),
    "not reproduced": ("✗", BAD),
    "not measured": ("–", QUIET),
}


def badges(scale: str, facts: Iterable[RunFacts], guests: Iterable[Guest] = ()) -> list[Badge]:
    """The lines of the box in the corner of a figure at `scale`, the most important line first.

    Args:
        facts: what is known of each run that the figure draws.
        guests: the runs among them that a user added.
    """
    facts = list(facts)
    substitutes = list(dict.fromkeys(data_name(run) for run in facts if run.substitute))
    shipped = sum(run.reference for run in facts)
    lines = [Badge(f"STAND-IN for {what}: {', '.join(labels)}", "warning") for what, labels in stand_ins(facts).items()]
    if substitutes:
        lines.append(Badge(f"SUBSTITUTE DATA: {', '.join(substitutes)}", "warning"))
    if scale == "smoke":
        lines.append(Badge("smoke scale: plumbing only, not evidence", "warning"))
    else:
        lines.append(Badge(f"{scale} scale"))
    added = Counter(guest.scale for guest in guests if guest.scale != scale)
    for other, number in added.items():
        if other == "smoke":
            lines.append(Badge(f"with {count(number, 'run')} at smoke scale: plumbing only, not evidence", "warning"))
        elif other:
            lines.append(Badge(f"with {count(number, 'run')} at {other} scale"))
        else:
            lines.append(Badge(f"with {count(number, 'trace')} from elsewhere"))
    if shipped:
        some = "" if shipped == len(facts) else f" ({shipped} of {len(facts)} runs)"
        lines.append(Badge(f"shipped reference trace{some}"))
    return lines


def stand_ins(facts: Iterable[RunFacts]) -> dict[str, list[str]]:
    """The labels of the models that stand in for those of the paper, by what they stand in for."""
    found: dict[str, list[str]] = {}
    for run in facts:
        if run.stands_for and run.label not in found.setdefault(run.stands_for, []):
            found[run.stands_for].append(run.label)
    return found


def data_name(run: RunFacts) -> str:
    """What the run was trained on: the words of its provenance, or the name of the source where it has none."""
    data = run.provenance.get("data")
    return str(data["description"]) if isinstance(data, dict) and data.get("description") else run.source


def chips(verdicts: Sequence[Verdict]) -> list[Chip]:
    """What became of the claims, in words: those reproduced together, then each that was not, then those not measured.

    A bound that is not the paper's shows in it, and so does a verdict that the first steps decide.
    """
    by_outcome = {name: [one for one in verdicts if one.verdict == name] for name in _OUTCOMES}
    found = []
    if held := by_outcome["reproduced"]:
        named = ", ".join(f"{one.claim}{_marks(one)}" for one in held)
        found.append(_chip("reproduced", f"{len(held)} of {len(verdicts)} claims reproduced: {named}"))
    for name in ("direction only", "not reproduced"):
        found += [_chip(name, f"{one.claim} {name}{_marks(one)}: {_in_words(one)}") for one in by_outcome[name]]
    if gaps := by_outcome["not measured"]:
        found.append(_chip("not measured", f"not measured: {', '.join(one.claim for one in gaps)}"))
    return found


def _chip(outcome: str, text: str) -> Chip:
    symbol, colour = _OUTCOMES[outcome]
    return Chip(f"{symbol} {text}", colour)


def _in_words(verdict: Verdict) -> str:
    """The claim, and the values that decided against it."""
    measured = verdict.measured["text"] if verdict.measured else ""
    return f"{verdict.says}. Measured: {measured}" if measured else verdict.says


def _marks(verdict: Verdict) -> str:
    marks = ["identity"] if verdict.kind == "identity" else []
    marks += [f"first {EARLY:.0%} decides"] if verdict.early else []
    marks += [f"{verdict.scale} bound"] if _has_own_bound(verdict) else []
    return f" ({', '.join(marks)})" if marks else ""


def bound_notes(verdicts: Iterable[Verdict]) -> list[str]:
    """For each bound that is not the paper's the reason for it; claims that share a reason share a note."""
    claims: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        if _has_own_bound(verdict):
            claims.setdefault((verdict.scale, verdict.because), []).append(verdict.claim)
    return [f"{scale} bound of {', '.join(names)} ({because})" for (scale, because), names in claims.items()]


def _has_own_bound(verdict: Verdict) -> bool:
    """Whether the claim was judged by a bound that the spec gives for this scale alone."""
    return bool(verdict.because) and verdict.verdict != "not measured"
