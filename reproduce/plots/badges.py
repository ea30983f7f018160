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
    """One line of the box in the corner."""

    text: str
    tone: Literal["plain", "warning"] = "plain"


@dataclass(frozen=True)
class Chip:
    """One claim's outcome, told by symbol and words; the colour only repeats them."""

    text: str
    colour: str


_OUTCOMES = {
    "reproduced": ("✓", GOOD),
    "direction only": ("~", HALF),
    "not reproduced": ("✗", BAD),
    "not measured": ("–", QUIET),
}


def badges(scale: str, facts: Iterable[RunFacts]) -> list[Badge]:
    """The box of a figure at `scale` whose runs have `facts`, most important line first."""
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
    """What the run was trained on, in words where its provenance has them."""
    data = run.provenance.get("data")
    return str(data["description"]) if isinstance(data, dict) and data.get("description") else run.source


def chips(verdicts: Sequence[Verdict]) -> list[Chip]:
    """One chip a claim, in the order of the spec."""
    found = []
    for verdict in verdicts:
        symbol, colour = _OUTCOMES[verdict.verdict]
        early = f" (first {EARLY:.0%} decides)" if verdict.early else ""
        found.append(Chip(f"{verdict.claim} {symbol} {verdict.verdict}{early}", colour))
    return found
