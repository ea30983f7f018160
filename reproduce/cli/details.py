"""`ofe show --full`: all that a spec says of a figure, and where each value comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from reproduce.cli.console import Ui
from reproduce.units import duration


def print_details(ui: Ui, about: Mapping[str, Any]) -> None:
    """Print what `ofe show --json` has of a figure, part by part.

    Args:
        about: in that shape.
    """
    _print_notes(ui, about)
    if about["claims"]:
        _heading(ui, "Claims")
        ui.columns(
            [[f"  {claim['id']}", "\n".join(_claim(claim, about["scale"]))] for claim in about["claims"]], widths=[6]
        )
    if about["provenance"]:
        _heading(ui, "Where the figure's own choices come from")
        ui.columns([[f"  {what}", origin] for what, origin in about["provenance"].items()], widths=[10])
    if about["runs"]:
        _print_runs(ui, about)
    if about["cost"]:
        _print_costs(ui, about)
    if about["hyperparameters"]:
        _print_hyperparameters(ui, about)


def _heading(ui: Ui, text: str) -> None:
    ui.line()
    ui.heading(text)


def _print_notes(ui: Ui, about: Mapping[str, Any]) -> None:
    """What the scale changes, and what was noted of the setting, the figure and its traces."""
    scale = about["scale"]
    notes = [(f"{setting} at {scale} scale", because) for setting, because in about["because"].items()]
    notes += [(setting, text) for setting, text in about["setting_notes"].items()]
    notes += [("this figure", about["notes"])] if about["notes"] else []
    notes += [(f"what the {scale} traces show", about["finding"])] if about["finding"] else []
    for title, text in notes:
        _heading(ui, title[0].upper() + title[1:] if title.startswith(("this", "what")) else title)
        ui.prose(text)


def _claim(claim: Mapping[str, Any], scale: str) -> Iterator[str]:
    """What there is to say of a claim, a line each."""
    yield claim["says"]
    yield f"source: {claim['source']}, {claim['basis']}"
    yield f"asked for: {claim['paper']}"
    if claim["because"]:
        yield f"at {scale} scale: {claim['bound']}, because {claim['because']}"
    if claim["kind"] == "identity":
        yield "an identity, which holds by algebra and tests the metrics"
    if claim["other_runs"] and claim["other_runs"]["of"]:
        share = claim["other_runs"]
        yield f"other runs in its place that satisfy it too: {share['satisfy']} of {share['of']}"
    if not claim["judged"]:
        yield f"not judged at {scale} scale"


def _print_runs(ui: Ui, about: Mapping[str, Any]) -> None:
    _heading(ui, "Runs")
    ui.columns(
        [[f"  {run['name']}", str(run["seed"]), run["key"], run["state"], run["label"]] for run in about["runs"]],
        widths=[14, 6, 18, 9],
        titles=["  run", "seed", "key", "state", "label"],
    )
    for because in dict.fromkeys(run["because"] for run in about["runs"] if run["because"]):
        names = dict.fromkeys(run["name"] for run in about["runs"] if run["because"] == because)
        ui.prose(f"{', '.join(names)} at {about['scale']} scale: {because}")
    if about["needs"]:
        ui.prose(f"its claims also read {', '.join(about['needs'])}")


def _print_costs(ui: Ui, about: Mapping[str, Any]) -> None:
    _heading(ui, "Cost of what is left to train here")
    ui.columns(
        [
            [
                f"  {row['scale']}",
                str(row["runs"]),
                str(row["misses"]),
                duration(row["seconds"]),
                f"{row['flops']:.2g}",
                row["seconds_basis"] or "",
            ]
            for row in about["cost"]
        ],
        widths=[14, 6, 10, 12, 9],
        titles=["  scale", "runs", "to train", "time", "FLOPs", "how the time is known"],
    )


def _print_hyperparameters(ui: Ui, about: Mapping[str, Any]) -> None:
    """A table for each setting and each run that changes something: the paper's value, the scale's, and the source.

    The notes are sentences, which stand below the table, since a terminal is too narrow for them beside the values.
    """
    scale = about["scale"]
    scales = [scale] if scale != "paper" else []
    for of, group in groupby(about["hyperparameters"], key=lambda row: row["run"] or row["setting"]):
        rows = list(group)
        _heading(ui, f"Hyperparameters of {of}")
        ui.columns(
            [
                [f"  {row['name']}", _text(row["paper"]), *(_text(row[name]) for name in scales), row["source"] or ""]
                for row in rows
            ],
            widths=[24, 13, *(13 for _ in scales)],
            titles=["  name", "paper", *scales, "source"],
        )
        if notes := [[f"  {row['name']}", row["note"]] for row in rows if row["note"]]:
            ui.line()
            ui.columns(notes, widths=[24], titles=["  name", "note"])


def _text(value: Any) -> str:
    """A value of a configuration as a table shows it."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
