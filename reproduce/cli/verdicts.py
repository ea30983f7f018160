"""The verdicts on one figure as a table, with our value beside the paper's."""

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
    ui.line(f"{figure} at {verdicts[0]['scale']} scale, {first}: {tally(verdicts)}")
    ui.table(
        ["claim", "verdict", "c: the paper says, p: this project asks", "measured", "published"],
        [[one["claim"], one["verdict"], _says(one), evidence(one), published(one["published"])] for one in verdicts],
    )


def _says(verdict: Mapping[str, Any]) -> str:
    """The claim in the spec's words; where its bound is not the paper's, also the bound in force and its reason."""
    if not verdict["because"]:
        return str(verdict["says"])
    return f"{verdict['says']}\nbound for {verdict['scale']} scale: {verdict['bound']}"
