"""`ofe show`: what one figure claims, what it trains, and where every value comes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from reproduce.choices import DEFAULT_SCALE, Scale
from reproduce.cli.console import Ui
from reproduce.cli.options import Id, Json, ScaleOption
from reproduce.units import duration

if TYPE_CHECKING:
    from reproduce.specs.resolve import Resolved
    from reproduce.specs.schema import Claim, Experiment


def show(ctx: typer.Context, figure: Id, scale: ScaleOption = DEFAULT_SCALE, as_json: Json = False) -> None:
    """Show what a figure claims and trains.

    Its claims, runs and hyperparameters are listed, each value with its source.
    """
    from reproduce.cli.selection import resolve_all
    from reproduce.specs.load import load_experiment

    ui: Ui = ctx.obj
    experiment = load_experiment(figure)
    resolved = resolve_all([experiment], scale)[0]
    about = _about(experiment, resolved, scale)
    if as_json:
        ui.json(about)
    else:
        _print(ui, about)


def _about(experiment: Experiment, resolved: Resolved, scale: Scale) -> dict[str, Any]:
    """All that is told of a figure, in the shape of `ofe show --json`."""
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
    }


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


def _print(ui: Ui, about: dict[str, Any]) -> None:
    scale = about["scale"]
    labels = [f"{label} of {version}" for version in ("v1", "v2") if (label := about[version])]
    ui.line(f"{about['id']}: {about['title']}")
    section = f"section {about['section']}" if about["section"] else ""
    ui.line(", ".join(filter(None, [*labels, section, about["kind"]])))
    for setting, because in about["because"].items():
        ui.line(f"{setting} at {scale} scale: {because}")
    for setting, notes in about["setting_notes"].items():
        ui.line(f"{setting}: {notes}")
    if about["notes"]:
        ui.line(about["notes"])
    if about["finding"]:
        ui.line(f"Shown by the {scale} traces: {about['finding']}")

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
