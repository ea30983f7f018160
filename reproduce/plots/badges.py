"""What every picture says about itself: its scale, substituted data, shipped traces, and the verdicts on its claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reproduce.claims.ruling import EARLY
from reproduce.plots.theme import BAD, GOOD, HALF, QUIET

if TYPE_CHECKING:
    from reproduce.claims import Verdict
    from reproduce.store.frame import RunFacts


@dataclass(frozen=True)
class Badge:
    """One line of the box in the corner of a picture."""

    text: str
    tone: Literal["plain", "warning"] = "plain"


@dataclass(frozen=True)
class Chip:
    """The outcome of one claim. Symbol and words tell it; the colour only repeats them."""

    text: str
    colour: str


_OUTCOMES = {
    "reproduced": ("✓", GOOD),
    "direction only": ("~", HALF),
    "not reproduced": ("✗", BAD),
    "not measured": ("–", QUIET),
}


def badges(scale: str, facts: Iterable[RunFacts]) -> list[Badge]:
    """The lines of the box in the corner of a figure at `scale`, the most important line first.

    Args:
        facts: what is known of each run that the figure draws.
    """
    facts = list(facts)
    substitutes = list(dict.fromkeys(data_name(run) for run in facts if run.substitute))
    shipped = sum(run.reference for run in facts)
    lines = []
    if substitutes:
        lines.append(Badge(f"SUBSTITUTE DATA: {', '.join(substitutes)}", "warning"))
    if scale == "smoke":
        lines.append(Badge("smoke scale: plumbing only, not evidence", "warning"))
    else:
        lines.append(Badge(f"{scale} scale"))
    if shipped:
        some = "" if shipped == len(facts) else f" ({shipped} of {len(facts)} runs)"
        lines.append(Badge(f"shipped reference trace{some}"))
    return lines


def data_name(run: RunFacts) -> str:
    """What the run was trained on: the words of its provenance, or the name of the source where it has none."""
    data = run.provenance.get("data")
    return str(data["description"]) if isinstance(data, dict) and data.get("description") else run.source


def chips(verdicts: Sequence[Verdict]) -> list[Chip]:
    """One chip for each claim, in the order of the spec. A bound that is not the paper's shows in it."""
    found = []
    for verdict in verdicts:
        symbol, colour = _OUTCOMES[verdict.verdict]
        marks = ["identity"] if verdict.kind == "identity" else []
        marks += [f"first {EARLY:.0%} decides"] if verdict.early else []
        marks += [f"{verdict.scale} bound"] if _has_own_bound(verdict) else []
        marked = f" ({', '.join(marks)})" if marks else ""
        found.append(Chip(f"{verdict.claim} {symbol} {verdict.verdict}{marked}", colour))
    return found


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
