"""`ofe show`: what one figure claims, what it trains, and where every value comes from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reproduce.choices import DEFAULT_SCALE, IMAGE_FORMATS, Scale
from reproduce.cli.console import Ui
from reproduce.cli.options import Id, Json, ScaleOption
from reproduce.units import count, duration

if TYPE_CHECKING:
    from reproduce.specs.resolve import Resolved
    from reproduce.specs.schema import Claim, Experiment


def show(
    ctx: typer.Context,
    figure: Id,
    scale: ScaleOption = DEFAULT_SCALE,
    full: Annotated[
        bool,
        typer.Option("--full", help="Also list runs, costs at each scale, and every hyperparameter with its source."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a figure claims, and what became of that.

    The path of its picture and its cost are told too. With `--full`, its runs and hyperparameters are listed as well,
    each value with its source.
    """
    from reproduce.cli.selection import resolve_all
    from reproduce.specs.load import load_experiment

    ui: Ui = ctx.obj
    experiment = load_experiment(figure)
    resolved = resolve_all([experiment], scale)[0]
    about = _about(experiment, resolved, scale)
    if as_json:
        ui.json(about)
    elif full:
        _print_head(ui, about)
        _print_full(ui, about)
    else:
        _print_head(ui, about)
        _print_brief(ui, about, figure)


def _about(experiment: Experiment, resolved: Resolved, scale: Scale) -> dict[str, Any]:
    """All that is told of a figure, in the shape of `ofe show --json`."""
    from reproduce.cli.gallery import find_drawn
    from reproduce.cli.selection import Shelf, store
    from reproduce.environment import environment
    from reproduce.machine import this_machine
    from reproduce.plan.planner import price
    from reproduce.report.discrimination import shipped_shares
    from reproduce.specs.load import load_setting
    from reproduce.specs.provenance import hyperparameters
    from reproduce.specs.resolve import shown_runs

    others = shipped_shares(scale).get(experiment.id, {})
    shelf = Shelf(scale)
    machine = this_machine(environment().device)
    prices = price(experiment, store(), machine, jobs=machine.cores) if experiment.settings else []
    settings = [load_setting(name) for name in experiment.settings]
    drawn = find_drawn(resolved, shelf.traces(resolved))
    reasons = {run.name: run.at[scale].because for _, run, _ in shown_runs(experiment) if scale in run.at}
    return {
        "id": experiment.id,
        "v1": experiment.v1,
        "v2": experiment.v2,
        "title": experiment.title,
        "kind": experiment.kind,
        "section": experiment.section,
        "setting": experiment.setting,
        "scale": scale,
        "because": {setting.id: setting.scales[scale].because for setting in settings},
        "setting_notes": {setting.id: setting.notes for setting in settings if setting.notes},
        "claims": [_claim(claim, scale, others.get(claim.id)) for claim in experiment.claims],
        "runs": [
            {"name": run.name, "label": run.label, "seed": run.seed, "slug": run.slug, "key": run.key}
            | {"state": "sealed" if shelf.own(run) else "shipped" if shelf.key(run) else "missing"}
            | {"because": reasons.get(run.name)}
            for run in resolved.runs
        ],
        "cost": [row.as_json() for row in prices],
        "needs": [run.slug for run in resolved.extra],
        "hyperparameters": [
            {"setting": row.setting, "run": row.run, "name": row.path, "paper": row.value, "source": row.source}
            | {"note": row.note, scale: row.scale_value}
            for row in hyperparameters(experiment, scale)
        ],
        "provenance": experiment.provenance,
        "notes": experiment.notes,
        "finding": experiment.findings.get(scale, ""),
        "picture": _picture(experiment, drawn[0]) if drawn else None,
        "verdicts": drawn[1].verdicts if drawn else [],
    }


def _picture(experiment: Experiment, folder: Path) -> str | None:
    """Path of the picture in a folder of figures, in the first format that it has there."""
    paths = [folder / f"{experiment.id}.{kind}" for kind in IMAGE_FORMATS]
    return next((str(path) for path in paths if path.is_file()), None)


def _claim(claim: Claim, scale: Scale, share: list[int] | None) -> dict[str, Any]:
    """What a claim asks for in the paper (`paper`) and at this scale (`bound`), in words.

    Args:
        share: the exchanges for other runs that satisfy it too, and all of them.
    """
    from reproduce.claims.wording import asked
    from reproduce.specs.claims import at_scale

    own = claim.at.get(scale)
    return {
        "id": claim.id,
        "says": claim.says,
        "source": claim.source,
        "basis": claim.basis,
        "kind": claim.kind,
        "paper": asked(claim),
        "bound": asked(at_scale(claim, scale)),
        "because": own.because if own else None,
        "judged": scale in claim.scales and scale != "smoke",
        "other_runs": {"satisfy": share[0], "of": share[1]} if share else None,
    }


def _print_head(ui: Ui, about: Mapping[str, Any]) -> None:
    """The title, and where the paper has it."""
    labels = [f"{label} of {version}" for version in ("v1", "v2") if (label := about[version])]
    ui.heading(f"{about['id']}: {about['title']}")
    section = f"section {about['section']}" if about["section"] else ""
    ui.line(", ".join(filter(None, [*labels, section, about["kind"]])))


def _print_brief(ui: Ui, about: Mapping[str, Any], typed: str) -> None:
    """What a reader wants first: the claims and what became of them, the picture, the cost, and what to type next.

    Args:
        typed: the figure as the user named it.
    """
    from reproduce.report.verdicts import tally

    scale = about["scale"]
    rulings = {verdict["claim"]: verdict["verdict"] for verdict in about["verdicts"]}
    ui.line()
    if about["claims"]:
        ui.columns(
            [[f"  {_ruling(claim, rulings)}", claim["id"], claim["says"]] for claim in about["claims"]],
            widths=[18, 5],
            titles=["  verdict", "", f"claim, judged at {scale} scale"],
        )
    else:
        ui.line("It makes no claim.")
    at = "" if scale == DEFAULT_SCALE else f" --scale {scale}"
    name = shlex.quote(typed)
    facts = []
    if about["verdicts"]:
        facts.append(["in all", tally(about["verdicts"])])
    facts.append(["picture", about["picture"] or f"not drawn yet: `ofe plot {name}{at}` draws it from traces"])
    if about["finding"]:
        facts.append(["finding", about["finding"]])
    if about["runs"]:
        facts += [["runs", _run_states(about)], ["cost", _cost(about)]]
    ui.line()
    ui.columns(facts, widths=[9])
    ui.tell(
        f"\nnext: `ofe reproduce {name}{at}` makes it,\n      `ofe verify {name}{at}` tells what was measured,"
        f"\n      `ofe show {name}{at} --full` lists runs and hyperparameters"
    )


def _ruling(claim: Mapping[str, Any], rulings: Mapping[str, str]) -> str:
    """What became of a claim, or why nothing is known of it."""
    if not claim["judged"]:
        return "not judged"
    return rulings.get(claim["id"], "not measured")


def _run_states(about: Mapping[str, Any]) -> str:
    """How many runs there are and how far they are: `5 runs (Pre-LN, OP): 2 trained here, 3 shipped`."""
    states = [run["state"] for run in about["runs"]]
    words = {"sealed": "trained here", "shipped": "shipped as reference traces", "missing": "not trained"}
    told = ", ".join(f"{states.count(state)} {text}" for state, text in words.items() if state in states)
    labels = list(dict.fromkeys(run["label"] for run in about["runs"]))
    named = ", ".join(labels[:6]) + (f" and {len(labels) - 6} more" if len(labels) > 6 else "")
    return f"{count(len(states), 'run')} ({named}): {told}"


def _cost(about: Mapping[str, Any]) -> str:
    """The time that training would take here, at the scale shown and at that of the paper."""
    rows = {row["scale"]: row for row in about["cost"]}
    shown = [rows[name] for name in dict.fromkeys((about["scale"], "paper")) if name in rows]
    told = [f"{duration(row['seconds'])} at {row['scale']} scale" for row in shown if row["misses"]]
    return f"about {', '.join(told)} on this machine" if told else "nothing is left to train"


def _print_full(ui: Ui, about: Mapping[str, Any]) -> None:
    """All that the spec says of the figure, and where it comes from."""
    scale = about["scale"]
    for setting, because in about["because"].items():
        ui.prose(f"{setting} at {scale} scale: {because}")
    for setting, notes in about["setting_notes"].items():
        ui.prose(f"{setting}: {notes}")
    if about["notes"]:
        ui.prose(about["notes"])
    if about["finding"]:
        ui.prose(f"Shown by the {scale} traces: {about['finding']}")

    ui.line("\nClaims")
    for claim in about["claims"]:
        ui.line(f"  {claim['id']}  {claim['says']}  [{claim['source']}, {claim['basis']}]")
        ui.line(f"      asked for: {claim['paper']}")
        if claim["because"]:
            ui.line(f"      at {scale}: {claim['bound']}, because {claim['because']}")
        if claim["kind"] == "identity":
            ui.line("      an identity, which holds by algebra and tests the metrics")
        if claim["other_runs"] and claim["other_runs"]["of"]:
            share = claim["other_runs"]
            ui.line(f"      other runs in its place satisfy it too: {share['satisfy']} of {share['of']}")
        if not claim["judged"]:
            ui.line(f"      not judged at {scale} scale")

    if about["provenance"]:
        ui.line("\nProvenance")
        for what, origin in about["provenance"].items():
            ui.line(f"  {what}: {origin}")

    if about["runs"]:
        ui.line("\nRuns")
        ui.table(
            ["run", "label", "seed", "key", "state"],
            [[run["name"], run["label"], str(run["seed"]), run["key"], run["state"]] for run in about["runs"]],
        )
        for because in dict.fromkeys(run["because"] for run in about["runs"] if run["because"]):
            names = dict.fromkeys(run["name"] for run in about["runs"] if run["because"] == because)
            ui.line(f"{', '.join(names)} at {scale} scale: {because}")
    if about["needs"]:
        ui.line(f"its claims also read {', '.join(about['needs'])}")
    if about["cost"]:
        ui.line("\nCost of what is left to train here")
        ui.table(
            ["scale", "runs", "to train", "time", "FLOPs", "how the time is known"],
            [
                [
                    row["scale"],
                    str(row["runs"]),
                    str(row["misses"]),
                    duration(row["seconds"]),
                    f"{row['flops']:.2g}",
                    row["seconds_basis"] or "",
                ]
                for row in about["cost"]
            ],
        )
    if about["hyperparameters"]:
        ui.line("\nHyperparameters")
        ui.table(
            ["run or setting", "hyperparameter", "paper", "source", *([scale] if scale != "paper" else []), "note"],
            [
                [
                    row["run"] or row["setting"],
                    row["name"],
                    _text(row["paper"]),
                    row["source"] or "",
                    *([_text(row[scale])] if scale != "paper" else []),
                    row["note"],
                ]
                for row in about["hyperparameters"]
            ],
        )


def _text(value: Any) -> str:
    """A value of a configuration as a table shows it."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
