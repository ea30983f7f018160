"""`ofe measure`: measure the paper's metrics on a run that was trained here, layer by layer."""

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
"""Metrics in the printed table -> their titles. The output of `--json` has all metrics."""


def measure(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Key or slug of a training in the cache.")],
    steps: Annotated[
        list[int] | None,
        typer.Option(
            "--step", metavar="N", min=0, help="Measure the weights after N optimiser steps; by default the last."
        ),
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option(
            "--examples", metavar="N", min=1, help="Measure on N held-out sequences or images; by default as the run."
        ),
    ] = None,
    point: Annotated[
        Literal["residual", "attention-input", "mlp-input"] | None,
        typer.Option("--point", help="Where in a layer to measure; by default as the run."),
    ] = None,
    json: Json = False,
) -> None:
    """Measure the paper's metrics on a trained run, layer by layer.

    The weights are read from the run's folder. A run that was sealed without them is trained once more to keep them.
    Results are kept in the cache, as those of trainings are.
    """
    from reproduce.cli.cache import the_one
    from reproduce.cli.selection import store

    ui: Ui = ctx.obj
    parent = trained_run(the_one(run))
    jobs = [measurement(parent, step, examples, point) for step in sorted(set(steps or [parent.training.last_step]))]
    _do(ui, parent, jobs)
    readings = [_reading(job, store().folder(job)) for job in jobs]
    if any(reading["same_trace"] is False for reading in readings):
        ui.tell(
            f"{parent.slug} was trained once more to keep these weights, and its trace was not quite the sealed one: "
            "the values may differ from the trace by rounding that has grown"
        )
    if json:
        ui.json(readings)
    else:
        _print(ui, readings)


def trained_run(folder: RunFolder) -> ResolvedRun:
    """The training in `folder`, as its run.yaml describes it.

    Raises:
        OfeError: the folder holds another kind of job, or its run.yaml is damaged.
    """
    from reproduce.specs.resolve import ResolvedRun
    from reproduce.store.run_yaml import on_paper_data

    said, config = folder.read_run_yaml(), folder.training()
    own = on_paper_data(said, config.data.source)
    return ResolvedRun(said["name"], said["label"], said["setting"], said["scale"], said["seed"], config, own)


def measurement(parent: ResolvedRun, step: int, examples: int | None, point: str | None) -> ResolvedRun:
    """The job that measures `parent` after `step` steps.

    Args:
        examples: number of held-out examples, or None for as many as the training was probed on.
        point: where in a layer to measure, or None for where the training was probed.

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
    """Do the measurements that are not in the store. If `parent` lacks the weights, it is trained again before.

    Raises:
        OfeError: a job failed.
        typer.Exit: the user stopped the jobs.
    """
    from reproduce.cli.preparing import prepare_for
    from reproduce.cli.progress import watching
    from reproduce.cli.selection import store
    from reproduce.jobs.executor import LocalProcesses
    from reproduce.jobs.queue import execute
    from reproduce.machine import this_machine

    missing = [job for job in jobs if not store().folder(job).complete]
    if not missing:
        return
    prepare_for(ui, missing, offline=False)
    needed = [job.config.last_step for job in missing]
    folder = store().create(parent, needed)  # asks for the weights, and so may make a sealed run incomplete
    if not folder.complete:
        steps = ", ".join(map(str, sorted(needed)))
        ui.tell(f"{parent.slug} has not kept its weights of step {steps}: it is trained to keep them")
        missing = [parent, *missing]
    with watching(ui) as watch:
        done = execute(missing, store(), LocalProcesses(1, threads=this_machine().cores), watch=watch)
    if any(job.state == "interrupted" for job in done):
        ui.tell("stopped; the same command continues")
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
        "same_trace": folder.provenance()["parent"]["same_trace"],
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
