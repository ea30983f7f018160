"""The verdicts on one figure, claim by claim, with our value beside the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reproduce.claims.verdict import evidence
from reproduce.cli.console import Ui
from reproduce.report.verdicts import published, tally


def show_verdicts(ui: Ui, figure: str, verdicts: Sequence[Mapping[str, Any]]) -> None:
    """Print the verdicts on one figure, given as `Verdict.to_json` does, on stdout."""
    if not verdicts:
        ui.line(f"{figure}: makes no claim")
        return
    first = next((verdict["data"] for verdict in verdicts if verdict["data"]), "no trace")
    ui.heading(f"{figure} at {verdicts[0]['scale']} scale, {first}")
    if all(verdict["scale"] == "smoke" for verdict in verdicts):
        ui.prose("No claim is judged at the smoke scale, which only checks that everything works.")
        return
    ui.prose(tally(verdicts))
    ui.columns(
        [[f"  {one['verdict']}", one["claim"], "\n".join(told(one))] for one in verdicts],
        widths=[18, 5],
    )


def told(verdict: Mapping[str, Any]) -> list[str]:
    """What there is to say of one claim, a line each: the claim itself, what was measured, and the paper's number.

    What was asked for is shown of a claim that did not hold. A bound that is not the paper's is always shown, with its
    reason.
    """
    lines = [str(verdict["says"])]
    if verdict["because"]:
        lines.append(f"bound for {verdict['scale']} scale: {verdict['bound']}")
    elif verdict["verdict"] in ("direction only", "not reproduced"):
        lines.append(f"asked for: {verdict['bound']}")
    if text := evidence(verdict):
        lines.append(f"measured: {text}" if verdict["measured"] else f"reason: {text}")
    if number := published(verdict["published"]):
        lines.append(f"the paper has: {number}")
    return lines
