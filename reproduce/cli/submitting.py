"""Runs for a batch system: submitted by `ofe reproduce --launcher slurm`, or printed by `ofe plan --sbatch`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from reproduce.cli.console import Ui
from reproduce.cli.options import WORK_REMAINS
from reproduce.units import count, duration

if TYPE_CHECKING:
    from reproduce.jobs.batch import Entry, Site
    from reproduce.plan.planner import Plan


def entries_of(planned: Plan, site: Site) -> list[Entry]:
    """The runs of the plan that are to be trained, with what each needs of a machine."""
    from reproduce.cli.selection import store
    from reproduce.jobs.batch import Entry, request_for

    gpu = planned.device == "cuda"
    return [
        Entry(
            one.run,
            store().folder(one.run).path,
            request_for(
                one.remaining_seconds,
                planned.devices * one.footprint.memory,
                threads=planned.threads,
                devices=planned.devices,
                gpu=gpu and site.gres is None,
            ),
        )
        for one in planned.runs
        if one.to_train
    ]


def print_script(ui: Ui, planned: Plan, ids: Sequence[str], changes: Sequence[str], site: Site) -> None:
    """Print a shell script that submits the runs of the plan, and creates nothing."""
    from reproduce.jobs.batch import script
    from reproduce.store.home import ofe_home

    entries = entries_of(planned, site)
    if not entries:
        ui.tell("nothing to submit: every run is sealed")
        return
    options = [word for change in changes for word in ("--set", change)]
    data = shlex.join(["ofe", "data", "prepare", *ids, "--scale", planned.scale, *options])
    printed = script(entries, site, home=ofe_home(), devices=planned.devices, threads=planned.threads, data=data)
    ui.out.file.write(printed)  # as it is: a script must not be folded


def submit_missing(ui: Ui, planned: Plan, site: Site, offline: bool, again: str) -> None:
    """Submit the runs that are missing according to the plan, and end the command if there are some.

    Args:
        again: the command that draws the figures when the runs are sealed, in backticks.

    Raises:
        OfeError: submitit or Slurm is not there, or the data of a run cannot be prepared.
        typer.Exit: runs were submitted, or are queued from before.
    """
    from reproduce.cli.preparing import prepare_for
    from reproduce.cli.selection import store
    from reproduce.jobs import cluster
    from reproduce.jobs.batch import variables
    from reproduce.store.home import ensure_home, ofe_home

    waiting = [one for one in planned.runs if not one.hit]
    if not waiting:
        return
    entries = entries_of(planned, site)
    executor = cluster.slurm_executor(ensure_home() / "slurm")
    prepare_for(ui, [entry.run for entry in entries], offline)  # here, where there is a network
    for entry in entries:
        store().create(entry.run, planned.keep.get(entry.run.key, ()))
    told = variables(planned.threads) | {"OFE_HOME": str(ofe_home())} | ({"HF_HUB_OFFLINE": "1"} if offline else {})
    jobs = cluster.submit(entries, executor, site, devices=planned.devices, variables=told)
    for entry in entries:
        if entry.run.key in jobs:
            limit = duration(60 * (site.minutes or entry.request.minutes))
            ui.line(f"{entry.run.slug}: job {jobs[entry.run.key].job_id}, at most {limit} at a time")
        else:
            ui.line(f"{entry.run.slug}: queued before, job {(cluster.submitted(entry.folder) or {}).get('job')}")
    ui.tell(f"{count(len(jobs), 'job')} submitted; `ofe status` shows how far they are, and {again} draws the figures")
    raise typer.Exit(WORK_REMAINS)
