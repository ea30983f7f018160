"""`ofe reproduce`: train the missing runs of figures, draw the figures, and judge their claims."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from reproduce.choices import DEFAULT_SCALE, Scale
from reproduce.cli.console import Ui
from reproduce.cli.options import (
    Device,
    Devices,
    Formats,
    Gres,
    Ids,
    Jobs,
    KeepWeights,
    Offline,
    Out,
    Overrides,
    Partition,
    ScaleOption,
    Seeds,
    TimeLimit,
    check_for_cluster,
    formats,
    typed,
)
from reproduce.errors import OfeError
from reproduce.units import count, duration

if TYPE_CHECKING:
    from reproduce.plan.planner import Plan
    from reproduce.specs.runs import Resolved


def reproduce(
    ctx: typer.Context,
    ids: Ids,
    scale: ScaleOption = DEFAULT_SCALE,
    jobs: Jobs = None,
    devices: Devices = 1,
    seeds: Seeds = None,
    overrides: Overrides = None,
    image_formats: Formats = "png",
    out: Out = None,
    offline: Offline = False,
    keep_weights: KeepWeights = False,
    launcher: Annotated[
        Literal["local", "slurm"],
        typer.Option("--launcher", help="local: train here and wait; slurm: submit one job for each run and return."),
    ] = "local",
    device: Device = None,
    partition: Partition = None,
    gres: Gres = None,
    time: TimeLimit = None,
) -> None:
    """Train missing runs, draw the figures, and judge the claims.

    The command may be stopped at any time, and the same command continues. The exit code is 1 if a run failed or a
    figure could not be drawn. With `--launcher slurm` it returns at once, with exit code 3 while runs are not done, and
    the same command draws the figures when they are. Whether the claims hold is told by the exit code of `ofe verify`.
    """
    from reproduce.cli.gallery import figures_folder
    from reproduce.cli.selection import plan_for, select
    from reproduce.data.hub import go_offline

    ui: Ui = ctx.obj
    wanted = formats(image_formats)
    if offline:  # before the first look at the hub, and for the workers too, which open the data themselves
        go_offline()
    of_jobs = {"--device": device, "--partition": partition, "--gres": gres, "--time": time}
    check_for_cluster(launcher == "slurm", "--launcher slurm", of_jobs)
    changes = overrides or []
    resolveds, planned = plan_for(
        select(ids, scale),
        scale,
        overrides=changes,
        seeds=seeds,
        jobs=jobs,
        devices=devices,
        to_train=True,
        keep_weights=keep_weights,
        device=device,
    )
    if launcher == "slurm":
        from reproduce.cli.submitting import submit_missing
        from reproduce.jobs.batch import Site

        submit_missing(ui, planned, Site(partition, gres, time), offline, f"`{typed(ctx)}`")
    folder = figures_folder(out, scale, changes, seeds)
    again = f"`{typed(ctx)}`"
    failures = _train(ui, planned, offline, again)
    undrawn = _draw_all(ui, resolveds, scale, folder, wanted)
    if failures:
        ui.tell(f"{count(failures, 'run')} failed; once the cause is mended, {again} goes on")
    raise typer.Exit(int(failures > 0 or undrawn > 0))


def _train(ui: Ui, planned: Plan, offline: bool, again: str) -> int:
    """Train the runs that are missing according to the plan, and return how many failed.

    Args:
        again: the command that continues, in backticks.

    Raises:
        OfeError: the data of a run cannot be prepared.
        typer.Exit: the user stopped the training.
    """
    from reproduce.cli.models import free_threads
    from reproduce.cli.preparing import prepare_for
    from reproduce.cli.progress import watching
    from reproduce.cli.selection import store
    from reproduce.jobs.executor import LocalProcesses
    from reproduce.jobs.queue import execute, stopped_code
    from reproduce.plan.planner import basis

    todo = [entry.run for entry in planned.runs if not entry.hit]
    if not todo:
        ui.tell(f"nothing to train: {count(len(planned.runs), 'run')} sealed")
        return 0
    time = f"about {duration(planned.total.seconds)} ({basis(planned)})"
    ui.tell(f"{count(len(todo), 'run')} to train, {len(planned.runs) - len(todo)} sealed already: {time}")
    prepare_for(ui, todo, offline)
    gpus = len(planned.machine.gpus) if planned.device == "cuda" else 0
    threads = planned.threads if gpus else free_threads(ui, planned.threads, planned.jobs * planned.devices)
    executor = LocalProcesses(planned.jobs, threads=threads, gpus=gpus, devices=planned.devices)
    with watching(ui) as watch:
        jobs = execute(todo, store(), executor, keep=planned.keep, watch=watch)
    if (stopped := stopped_code(jobs)) is not None:
        ui.tell(f"stopped; what was trained is saved, and {again} continues")
        raise typer.Exit(stopped)
    failed = [job for job in jobs if job.state == "failed"]
    for job in failed:
        ui.error(OfeError(f"{job.run.slug} failed: {job.error}", hint=job.hint))
    return len(failed)


def _draw_all(ui: Ui, resolveds: Sequence[Resolved], scale: Scale, folder: Path, wanted: tuple[str, ...]) -> int:
    """Draw the figures that are not up to date, and print the paths and verdicts of all.

    Returns:
        The number of figures that could not be drawn.
    """
    from reproduce.cli.drawing import Drawing, draw
    from reproduce.cli.gallery import drawn, read_record
    from reproduce.cli.selection import Shelf
    from reproduce.cli.verdicts import show_verdicts

    shelf = Shelf(scale)
    drawing = Drawing(scale, shelf, folder, tuple(wanted), reference=False)
    undrawn = 0
    for resolved in resolveds:
        record = read_record(folder, resolved, shelf.traces(resolved, reference=False))
        paths = drawn(folder, record, resolved.experiment, wanted) if record else None
        if record is None or paths is None:
            try:
                paths, record = draw(ui, resolved, drawing)
            except OfeError as error:
                ui.error(error)
                undrawn += 1
                continue
        show_verdicts(ui, resolved.experiment.id, record.verdicts)
        for path in paths:
            ui.line(str(path))
        ui.line()
    return undrawn
