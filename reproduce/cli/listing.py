"""`ofe list`: every figure and table, and how far each is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from reproduce.choices import DEFAULT_SCALE
from reproduce.cli.console import Ui
from reproduce.cli.options import Json, ScaleOption

if TYPE_CHECKING:
    from reproduce.cli.selection import Shelf
    from reproduce.specs.resolve import Resolved


def list_figures(ctx: typer.Context, scale: ScaleOption = DEFAULT_SCALE, json: Json = False) -> None:
    """List every figure and table.

    Each comes with its setting, the state of its runs, and its verdicts.
    """
    from reproduce.cli.selection import Shelf, has_scale, resolve_all
    from reproduce.specs.load import list_experiments

    ui: Ui = ctx.obj
    shelf = Shelf(scale)
    experiments = list_experiments()
    resolved = {one.experiment.id: one for one in resolve_all([e for e in experiments if has_scale(e, scale)], scale)}
    rows: list[dict[str, Any]] = []
    for experiment in experiments:
        there = resolved.get(experiment.id)
        rows.append(
            {
                "id": experiment.id,
                "v1": experiment.v1,
                "v2": experiment.v2,
                "title": experiment.title,
                "kind": experiment.kind,
                "setting": experiment.setting,
                "scale": scale,
                "state": _state(there, shelf) if there else f"not at {scale} scale",
                "verdict": _verdict(there, shelf) if there else None,
            }
        )
    if json:
        ui.json(rows)
        return
    ui.table(
        ["id", "v2", "title", "setting", f"runs at {scale}", "claims"],
        [
            [
                row["id"],
                (row["v2"] or "").replace("Figure ", "fig").replace("Table ", "tab"),
                row["title"],
                ", ".join(experiment.settings),
                row["state"],
                row["verdict"] or "",
            ]
            for experiment, row in zip(experiments, rows, strict=True)
        ],
    )
    ui.tell("\nsealed: trained here to its end; shipped: its reference trace came with the code")
    ui.tell("claims: verdicts from when the figure was last drawn")
    at = "" if scale == DEFAULT_SCALE else f" --scale {scale}"
    ui.tell(f"`ofe show ID{at}` tells what a figure claims")
    ui.tell(f"`ofe plan ID{at}` tells what it costs")
    ui.tell(f"`ofe reproduce ID{at}` makes it")


def _state(resolved: Resolved, shelf: Shelf) -> str:
    """How many of the runs are sealed here, and how many of the others came with the code: `2/5 sealed, 3 shipped`."""
    if not resolved.runs:
        return "no runs"
    own = sum(shelf.own(run) for run in resolved.runs)
    shipped = sum(shelf.key(run) is not None for run in resolved.runs) - own
    return f"{own}/{len(resolved.runs)} sealed" + (f", {shipped} shipped" if shipped else "")


def _verdict(resolved: Resolved, shelf: Shelf) -> str | None:
    """The counted verdicts of when the figure was last drawn; None if that was from other traces than there are now."""
    from reproduce.cli.gallery import find_record
    from reproduce.report.verdicts import tally

    record = find_record(resolved, shelf.traces(resolved))
    return tally(record.verdicts) if record and record.verdicts else None
