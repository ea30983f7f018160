"""`ofe list`: every figure and table, and how far each is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reproduce.choices import DEFAULT_SCALE
from reproduce.cli.completion import complete_setting
from reproduce.cli.console import Ui
from reproduce.cli.options import Json, ScaleOption, at_scale

if TYPE_CHECKING:
    from reproduce.cli.selection import Shelf
    from reproduce.specs.runs import Resolved
    from reproduce.specs.schema import Experiment

State = Literal["trained", "shipped", "partial", "missing", "none"]
"""How far the runs of a figure are: all trained here, all with a trace, some with a trace, none with one, no runs."""
VerdictName = Literal["reproduced", "direction-only", "not-reproduced", "not-measured"]


def list_figures(
    ctx: typer.Context,
    scale: ScaleOption = DEFAULT_SCALE,
    setting: Annotated[
        str | None,
        typer.Option(
            "--setting",
            metavar="NAME",
            autocompletion=complete_setting,
            help="Only figures of settings whose name contains NAME, such as languini.",
        ),
    ] = None,
    state: Annotated[
        State | None,
        typer.Option(
            "--state",
            help="Only figures whose runs are all trained here, have all their traces (shipped), some, or none.",
        ),
    ] = None,
    verdict: Annotated[
        VerdictName | None,
        typer.Option("--verdict", help="Only figures that have a claim with this verdict."),
    ] = None,
    json: Json = False,
) -> None:
    """List every figure and table, grouped by setting.

    Each comes with its runs and its verdicts. The options choose some of them.
    """
    from reproduce.cli.selection import Shelf, has_scale, resolve_all
    from reproduce.specs.load import list_experiments

    ui: Ui = ctx.obj
    shelf = Shelf(scale)
    experiments = [one for one in list_experiments() if _in_setting(one, setting)]
    resolved = {one.experiment.id: one for one in resolve_all([e for e in experiments if has_scale(e, scale)], scale)}
    rows = [_row(one, resolved.get(one.id), scale, shelf) for one in experiments]
    rows = [row for row in rows if state is None or row["_state"] == state]
    rows = [row for row in rows if verdict is None or _has(row["_verdicts"], verdict.replace("-", " "))]
    if json:
        ui.json([{name: value for name, value in row.items() if not name.startswith("_")} for row in rows])
        return
    _print(ui, rows, scale)


def _in_setting(experiment: Experiment, wanted: str | None) -> bool:
    return wanted is None or any(wanted.lower() in name for name in experiment.settings)


def _row(experiment: Experiment, resolved: Resolved | None, scale: str, shelf: Shelf) -> dict[str, Any]:
    """What is known of one figure: the fields of `ofe list --json`, and with an underscore what only `_print` reads."""
    from reproduce.report.verdicts import tally

    verdicts = _verdicts(resolved, shelf) if resolved else []
    return {
        "id": experiment.id,
        "v1": experiment.v1,
        "v2": experiment.v2,
        "title": experiment.title,
        "kind": experiment.kind,
        "setting": experiment.setting,
        "scale": scale,
        "state": _sealed(resolved, shelf) if resolved else f"not at {scale} scale",
        "verdict": tally(verdicts) if verdicts else None,
        "_state": _state(resolved, shelf),
        "_runs": _runs(resolved, shelf) if resolved else f"not at {scale}",
        "_verdicts": verdicts,
        "_settings": experiment.settings,
    }


def _counts(resolved: Resolved, shelf: Shelf) -> tuple[int, int]:
    """How many runs of the figure were trained here, and how many of the others have a reference trace."""
    states = [shelf.state(run) for run in resolved.runs]
    return states.count("sealed"), states.count("shipped")


def _sealed(resolved: Resolved, shelf: Shelf) -> str:
    """How many of the runs are sealed here, and how many of the others came with the code: `2/5 sealed, 3 shipped`."""
    if not resolved.runs:
        return "no runs"
    own, shipped = _counts(resolved, shelf)
    return f"{own}/{len(resolved.runs)} sealed" + (f", {shipped} shipped" if shipped else "")


def _runs(resolved: Resolved, shelf: Shelf) -> str:
    """The same in the few words that a narrow column holds: `5 shipped`, `2 trained`, `3 of 5`, `1 + 4 shipped`."""
    own, shipped = _counts(resolved, shelf)
    every = len(resolved.runs)
    if not every:
        return "no runs"
    if own + shipped < every:
        return f"{own + shipped} of {every}"
    return (
        f"{own} trained" if own == every else f"{shipped} shipped" if shipped == every else f"{own} + {shipped} shipped"
    )


def _state(resolved: Resolved | None, shelf: Shelf) -> State:
    if resolved is None or not resolved.runs:
        return "none"
    own, shipped = _counts(resolved, shelf)
    every = len(resolved.runs)
    if own + shipped < every:
        return "partial" if own + shipped else "missing"
    return "trained" if own == every else "shipped"


def _verdicts(resolved: Resolved, shelf: Shelf) -> list[dict[str, Any]]:
    """The verdicts of when the figure was last drawn; none if that was from other traces than there are now."""
    from reproduce.cli.gallery import find_record

    record = find_record(resolved, shelf.traces(resolved))
    return record.verdicts if record else []


def _has(verdicts: Iterable[dict[str, Any]], ruling: str) -> bool:
    """Whether one of the verdicts is this one."""
    return any(verdict["verdict"] == ruling for verdict in verdicts)


def _print(ui: Ui, rows: Sequence[dict[str, Any]], scale: str) -> None:
    from reproduce.report.verdicts import short_tally, tally
    from reproduce.specs.load import load_setting

    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row["_settings"]), []).append(row)
    for settings, members in groups.items():
        heading = "; ".join(f"{name}: {load_setting(name).title}" for name in settings) or "no training"
        ui.heading(heading)
        ui.columns(
            [
                [f"  {row['id']}", _v2(row), row["_runs"], short_tally(row["_verdicts"]), row["title"]]
                for row in members
            ],
            widths=[11, 7, 12, 18],
            titles=["  id", "in v2", "runs", "reproduced", "shows"],
        )
        ui.line()
    traced = sum(row["_state"] in ("trained", "shipped") for row in rows)
    every = [verdict for row in rows for verdict in row["_verdicts"]]
    if rows:
        what = "figure or table" if len(rows) == 1 else "figures and tables"
        ui.line(f"{len(rows)} {what} at {scale} scale, {traced} with all traces")
        ui.prose(f"claims: {tally(every) if every else 'none judged yet'}")
    else:
        ui.line("no figure or table is like that")
    at = at_scale(scale)
    ui.tell(
        "\nruns: trained here, or shipped with the code as reference traces\n"
        "reproduced: how many claims held when the figure was last drawn, how many not\n"
        "*: some by a bound for this scale or by the first steps: see `ofe show ID`\n"
        f"next: `ofe show ID{at}` tells what a figure claims,\n      `ofe reproduce ID{at}` makes it"
    )


def _v2(row: dict[str, Any]) -> str:
    """The label of v2 in the short form of ids, where it is not the id itself."""
    label = (row["v2"] or "").replace("Figure ", "fig").replace("Table ", "tab").lower()
    return "" if label in (row["id"], row["id"].removeprefix("v2-")) else label
