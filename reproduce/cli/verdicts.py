"""Verdicts as people read them: a table with our value beside the paper's, and one line that counts them.

They come as the plain dictionaries of `Verdict.to_json`, from a fresh judgement or from the record of a figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from reproduce.claims.ruling import EARLY
from reproduce.claims.verdict import evidence
from reproduce.cli.console import Ui

RULINGS = ("reproduced", "direction only", "not reproduced", "not measured")


def show_verdicts(ui: Ui, figure: str, verdicts: Sequence[Mapping[str, Any]]) -> None:
    """The verdicts on one figure, on stdout."""
    if not verdicts:
        ui.line(f"{figure}: makes no claim")
        return
    first = next((verdict["data"] for verdict in verdicts if verdict["data"]), "no trace")
    ui.line(f"{figure} at {verdicts[0]['scale']} scale, {first}: {tally(verdicts)}")
    ui.table(
        ["claim", "verdict", "c: the paper says, p: this project asks", "measured", "published"],
        [[one["claim"], one["verdict"], one["says"], evidence(one), published(one)] for one in verdicts],
    )


def tally(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """`8/10 reproduced (2 by the first 10% of the steps), 1 direction only, 1 not measured`."""
    counts = Counter(verdict["verdict"] for verdict in verdicts)
    early = sum(bool(verdict["early"]) for verdict in verdicts if verdict["verdict"] == "reproduced")
    by = f" ({early} by the first {EARLY:.0%} of the steps)" if early else ""
    others = [f"{counts[ruling]} {ruling}" for ruling in RULINGS[1:] if counts[ruling]]
    return ", ".join([f"{counts['reproduced']}/{len(verdicts)} reproduced{by}", *others])


def published(verdict: Mapping[str, Any]) -> str:
    """The paper's own numbers on one line."""
    value = verdict["published"]
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(number)}" for name, number in value.items())
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return "" if value is None else _short(value)


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
