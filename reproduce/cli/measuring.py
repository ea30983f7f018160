"""`ofe measure`: the paper's metrics, layer by layer, of a run that was trained here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from reproduce.cli.console import Ui
from reproduce.cli.options import INTERRUPTED, Json
from reproduce.errors import OfeError

if TYPE_CHECKING:
    from reproduce.specs.resolve import ResolvedRun
    from reproduce.store.runs import RunFolder

SHOWN = {
    "kurtosis": "kurtosis",
    "kurtosis_centred": "centred",
    "mmr_mean": "mean MMR",
    "mmr_max": "max MMR",
    "activation_rms": "RMS",
    "input_correlation_mean": "input corr.",
    "attention_entropy": "entropy",
}
"""The metrics of the table, with their titles; `--json` has all."""


def measure(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A training of this cache, by its key or slug.")],
    steps: Annotated[
        list[int] | None,
        typer.Option("--step", metavar="N", min=0, help="After how many optimiser steps; by default the last one."),
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option("--examples", metavar="N", min=1, help="Held-out sequences or images; by default the run's own."),
    ] = None,
    point: Annotated[
        Literal["residual", "attention-input"] | None,
        typer.Option("--point", help="What stands for a layer; by default as the run was probed."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure a trained run, layer by layer.

    The run's weights are read from its folder. A run that was sealed without them is trained once more, and keeps them
    this time. Results are cached like trainings.
    """
    from reproduce.cli.cache import chosen
    from reproduce.cli.selection import store

    ui: Ui = ctx.obj
    (folder, *others) = chosen([run])
    if others:
        names = ", ".join(one.path.name for one in (folder, *others))
        raise OfeError(f"{run} stands for several run folders", hint=f"name one of {names}", exit_code=2)
    parent = trained_run(folder)
    jobs = [measurement(parent, step, examples, point) for step in sorted(set(steps or [parent.training.last_step]))]
    _do(ui, parent, jobs)
    readings = [_reading(job, store().folder(job)) for job in jobs]
    if json:
        ui.json(readings)
    else:
        _print(ui, readings)


def trained_run(folder: RunFolder) -> ResolvedRun:
    """The training in `folder`, as its run.yaml tells.

    Raises:
        OfeError: the folder holds another kind of job, or its run.yaml is damaged.
    """
    from reproduce.specs.load import load_setting
    from reproduce.specs.resolve import ResolvedRun

    said, config = folder.read_run_yaml(), folder.training()
    own = config.data.source in load_setting(said["setting"]).paper_data
    return ResolvedRun(said["name"], said["label"], said["setting"], said["scale"], said["seed"], config, own)


def measurement(parent: ResolvedRun, step: int, examples: int | None, point: str | None) -> ResolvedRun:
    """The job that measures what `parent` was after `step` steps; what is None is as its training was probed.

    Raises:
        OfeError: the training has no such step (exit code 2).
    """
    from reproduce.specs import resolve

    training = parent.training
    if step > training.last_step:
        raise OfeError(
            f"{parent.slug} ends at step {training.last_step}, before step {step}",
            hint=f"give a step from 0 to {training.last_step}",
            exit_code=2,
        )
    return resolve.measurement(parent, step, examples, point)


def _do(ui: Ui, parent: ResolvedRun, jobs: Sequence[ResolvedRun]) -> None:
    """Do the measurements that are not there yet, and the training again if it has not kept what they start from."""
    from reproduce.cli.progress import watching
    from reproduce.cli.selection import store
    from reproduce.jobs.executor import LocalProcesses
    from reproduce.jobs.queue import execute
    from reproduce.machine import this_machine

    missing = [job for job in jobs if not store().folder(job).complete]
    if not missing:
        return
    needed = [job.config.last_step for job in missing]
    folder = store().create(parent, needed)
    if not folder.complete:
        steps = ", ".join(map(str, sorted(needed)))
        ui.tell(f"{parent.slug} has not kept its weights of step {steps}: it is trained to keep them")
        missing = [parent, *missing]
    with watching(ui) as watch:
        done = execute(missing, store(), LocalProcesses(1, threads=this_machine().cores), watch=watch)
    if any(job.state == "interrupted" for job in done):
        ui.tell("stopped; the same command goes on")
        raise typer.Exit(INTERRUPTED)
    for job in done:
        if job.state == "failed":
            raise OfeError(f"{job.run.slug} failed: {job.error}", hint=job.hint)


def _reading(job: ResolvedRun, folder: RunFolder) -> dict[str, Any]:
    """The measured values as `ofe measure --json` gives them."""
    trace = folder.read_trace()
    layers: dict[str, dict[str, float | str]] = {}
    for metric, layer, value in zip(trace["metric"], trace["layer"], trace["value"], strict=True):
        layers.setdefault(layer, {})[metric] = value if abs(value) < float("inf") else str(value)
    assert job.parent is not None
    config: Any = job.config
    ordered = sorted(layers, key=lambda layer: (layer == "unembed", layer.zfill(6)))
    return {
        "model": job.parent.slug,
        "key": job.key,
        "step": config.parent.step,
        "examples": config.examples,
        "layers": [{"point": config.point, "layer": layer, "all": layers[layer]} for layer in ordered],
    }


def _print(ui: Ui, readings: Sequence[dict[str, Any]]) -> None:
    shown = {
        metric: title
        for metric, title in SHOWN.items()
        if any(metric in layer["all"] for reading in readings for layer in reading["layers"])
    }
    rows = [
        [
            str(reading["step"]),
            layer["layer"],
            *(f"{float(layer['all'][metric]):.4g}" if metric in layer["all"] else "" for metric in shown),
        ]
        for reading in readings
        for layer in reading["layers"]
    ]
    ui.line(f"{readings[0]['model']}, measured on {readings[0]['examples']} held-out examples")
    ui.table(["step", "layer", *shown.values()], rows)
    ui.tell("\nlayer: the input of that block; unembed: the input of the output matrix. `--json` has all metrics")
