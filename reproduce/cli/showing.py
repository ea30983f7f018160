"""`ofe show`: what one figure claims, what it trains, and where every value comes from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reproduce.choices import DEFAULT_SCALE, IMAGE_FORMATS, Scale
from reproduce.cli.console import Ui
from reproduce.cli.options import Id, Json, ScaleOption, at_scale
from reproduce.units import count, duration

if TYPE_CHECKING:
    from reproduce.specs.runs import Resolved
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
    from reproduce.cli.details import print_details
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
        print_details(ui, about)
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
    from reproduce.report.cost import machines, measured_cost
    from reproduce.report.discrimination import shipped_shares
    from reproduce.specs.load import cautions, load_setting
    from reproduce.specs.provenance import hyperparameters
    from reproduce.specs.resolve import shown_runs
    from reproduce.specs.schema import RunSpec

    others = shipped_shares(scale).get(experiment.id, {})
    shelf = Shelf(scale)
    made = shelf.provenances([resolved])
    machine = this_machine(environment().device)
    prices = price(experiment, store(), machine, jobs=machine.cores) if experiment.settings else []
    settings = [load_setting(name) for name in experiment.settings]
    drawn = find_drawn(resolved, shelf.traces(resolved))
    runs = [run for _, run, _ in shown_runs(experiment) if isinstance(run, RunSpec)]
    reasons = {run.name: run.at[scale].because for run in runs if scale in run.at}
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
        "cautions": cautions(experiment, scale),
        "setting_notes": {setting.id: setting.notes for setting in settings if setting.notes},
        "claims": [_claim(claim, scale, others.get(claim.id)) for claim in experiment.claims],
        "runs": [
            {"name": run.name, "label": run.label, "seed": run.seed, "slug": run.slug, "key": run.key}
            | {"state": shelf.state(run)}
            | {"because": reasons.get(run.name)}
            for run in resolved.runs
        ],
        "cost": [row.as_json() for row in prices],
        "measured_cost": measured_cost(made),
        "machines": machines(made),
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
    verdicts = {verdict["claim"]: verdict for verdict in about["verdicts"]}
    ui.line()
    if about["claims"]:
        ui.columns(
            [
                [f"  {ruling}", claim["id"], says]
                for claim in about["claims"]
                for ruling, says in [_judged(claim, verdicts.get(claim["id"]))]
            ],
            widths=[18, 5],
            titles=["  verdict", "", f"claim, judged at {scale} scale"],
        )
    else:
        ui.line("It makes no claim.")
    at = at_scale(scale)
    name = shlex.quote(typed)
    traced = any(run["state"] != "missing" for run in about["runs"])
    facts = []
    if about["verdicts"]:
        facts.append(["in all", tally(about["verdicts"])])
    elif about["claims"] and traced:
        facts.append(["in all", f"not judged yet: `ofe verify {name}{at}` judges the traces at hand"])
    elif about["claims"]:
        facts.append(["in all", "not judged yet, since no run has a trace"])
    undrawn = f"not drawn yet: `ofe plot {name}{at}` draws it" if traced or not about["runs"] else "not drawn yet"
    facts.append(["picture", about["picture"] or undrawn])
    facts += [["caution", sentence] for sentence in about["cautions"]]
    if about["finding"]:
        facts.append(["finding", about["finding"]])
    if about["runs"]:
        facts.append(["runs", _run_states(about)])
        if about["measured_cost"]:
            on = f" on {about['machines']}" if about["machines"] else ""
            facts.append(["cost", f"{about['measured_cost']}{on}, as the traces recorded"])
        facts.append(["training", _price(about)])
    ui.line()
    ui.columns(facts, widths=[9])
    ui.tell(
        f"\nnext: `ofe reproduce {name}{at}` makes it,\n      `ofe verify {name}{at}` tells what was measured,"
        f"\n      `ofe show {name}{at} --full` lists runs and hyperparameters"
    )


def _judged(claim: Mapping[str, Any], verdict: Mapping[str, Any] | None) -> tuple[str, str]:
    """What became of a claim, and the claim; below it what the verdict rests on, or why nothing could be measured."""
    from reproduce.report.verdicts import decided_by

    if not claim["judged"]:
        return "not judged", claim["says"]
    if verdict is None:
        return "not judged yet", claim["says"]
    reasons = decided_by(verdict)
    why = f"decided {' and '.join(reasons)}" if reasons else verdict["reason"]
    return verdict["verdict"], claim["says"] + (f"\n{why}" if why else "")


def _run_states(about: Mapping[str, Any]) -> str:
    """How many runs there are and how far they are: `5 runs (Pre-LN, OP): 2 trained here, 3 shipped`."""
    states = [run["state"] for run in about["runs"]]
    words = {"sealed": "trained here", "shipped": "shipped as reference traces", "missing": "not trained"}
    told = ", ".join(f"{states.count(state)} {text}" for state, text in words.items() if state in states)
    labels = list(dict.fromkeys(run["label"] for run in about["runs"]))
    named = ", ".join(labels[:6]) + (f" and {len(labels) - 6} more" if len(labels) > 6 else "")
    return f"{count(len(states), 'run')} ({named}): {told}"


def _price(about: Mapping[str, Any]) -> str:
    """The time that training what is left would take here, at the scale shown and at that of the paper."""
    rows = {row["scale"]: row for row in about["cost"]}
    shown = [rows[name] for name in dict.fromkeys((about["scale"], "paper")) if name in rows and rows[name]["misses"]]
    if not shown:
        return "nothing is left to train"
    told = ", ".join(f"{duration(row['seconds'])} at {row['scale']} scale" for row in shown)
    guessed = any(row["seconds_basis"] == "not calibrated" for row in shown)
    return f"about {told} on this machine" + (", which is a guess (see `ofe plan`)" if guessed else "")
