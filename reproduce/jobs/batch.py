"""What a batch system is asked for, and plain scripts for sites on which submitit is not installed.

A job of a batch system does one run: it starts the worker on the run's folder, which lies on a disk that all machines
share. Before the time limit, and when it is preempted, the worker saves and ends with exit code 75
(`reproduce.processes`), and the job is put back into the queue. Nothing but the folder says how far a run is.
"""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reproduce.jobs.executor import worker_command
from reproduce.processes import COMMAND_VARIABLE, REQUEUE, child_environment
from reproduce.store import run_yaml
from reproduce.store.layout import RUN_YAML
from reproduce.units import count

if TYPE_CHECKING:
    from reproduce.specs.runs import ResolvedRun

SPARE_TIME = 1.5
"""A job asks for so many times the time that the plan expects of it."""
LEAST_MINUTES = 20
SPARE_MEMORY = 1.25
SPARE_MEMORY_BYTES = 10**9
WARNING_S = 120
"""Seconds between the signal to save and the end of the time limit."""


@dataclass(frozen=True)
class Request:
    """What one run needs of a machine."""

    minutes: int
    memory_gb: int
    """Memory of the machine, not of an accelerator."""
    cores: int
    gpus: int = 0


def request_for(seconds: float, memory_bytes: int, *, threads: int, devices: int, gpu: bool) -> Request:
    """The request for a run of which the plan expects so much, with some to spare."""
    return Request(
        minutes=max(LEAST_MINUTES, math.ceil(SPARE_TIME * seconds / 60)),
        memory_gb=math.ceil((SPARE_MEMORY * memory_bytes + SPARE_MEMORY_BYTES) / 10**9),
        cores=max(1, threads * devices),
        gpus=devices if gpu else 0,
    )


@dataclass(frozen=True)
class Site:
    """What the user says of the batch system, passed on as it is."""

    partition: str | None = None
    gres: str | None = None
    minutes: int | None = None
    """Time limit of each job, in place of the one that follows from the plan."""


@dataclass(frozen=True)
class Entry:
    """One run to be submitted."""

    run: ResolvedRun
    folder: Path
    request: Request


def variables(threads: int) -> dict[str, str]:
    """The environment variables that the worker needs, apart from those that a job gets anyway."""
    wanted = ("PYTHONSAFEPATH", "PYTHONPATH", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "HF_HUB_OFFLINE", COMMAND_VARIABLE)
    found = child_environment(OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY="PASSIVE")
    kept = {name: found[name] for name in wanted if found.get(name)}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("OFE_") and name != "OFE_HOME"}
    if "OFE_EXPERIMENTS" in kept:  # a job starts in another folder
        kept["OFE_EXPERIMENTS"] = str(Path(kept["OFE_EXPERIMENTS"]).absolute())
    return kept


def sbatch_options(entry: Entry, site: Site) -> dict[str, str]:
    """Options of `sbatch` for one run, without its dependencies."""
    asked = entry.request
    options = {
        "job-name": entry.run.slug,
        "time": str(site.minutes or asked.minutes),
        "mem": f"{asked.memory_gb}G",
        "cpus-per-task": str(asked.cores),
        "signal": f"B:USR1@{WARNING_S}",
        "open-mode": "append",
        "output": str(entry.folder / "slurm-%j.out"),
    }
    if site.partition:
        options["partition"] = site.partition
    if site.gres:
        options["gres"] = site.gres
    elif asked.gpus:
        options["gpus-per-node"] = str(asked.gpus)
    return options


def script(entries: Sequence[Entry], site: Site, *, home: Path, devices: int, threads: int, data: str) -> str:
    """A shell script that submits one batch job for each run, those that others start from first.

    It creates the run folders itself, so that it can be read, changed and kept before anything is done.

    Args:
        home: the folder OFE_HOME, which the machines of the cluster have to share.
        data: the command that prepares the data.
    """
    lines = [
        "#!/bin/bash",
        f"# Submits {count(len(entries), 'run')}, each as one job. `ofe status` shows how far they are.",
        "# A job that is preempted or reaches its time limit saves its state and is queued again.",
        "set -e",
        *(f"export {name}={shlex.quote(value)}" for name, value in variables(threads).items()),
        f"export OFE_HOME={shlex.quote(str(home))}",
        data,
    ]
    names = {entry.run.key: f"job_{number}" for number, entry in enumerate(entries, start=1)}
    for entry in entries:
        lines += ["", *_submission(entry, names, sbatch_options(entry, site), devices)]
    return "\n".join(lines) + "\n"


def _submission(entry: Entry, names: Mapping[str, str], options: Mapping[str, str], devices: int) -> list[str]:
    folder, name = shlex.quote(str(entry.folder)), names[entry.run.key]
    asked = [f"--{option}={shlex.quote(value)}" for option, value in options.items()] + ["--requeue"]
    parent = None if entry.run.parent is None else names.get(entry.run.parent.key)
    if parent is not None:
        asked.append(f"--dependency=afterok:${parent}")
    worker = shlex.join([sys.executable, *worker_command(entry.folder, devices)[1:]])
    return [
        f"mkdir -p {folder}",
        f"[ -e {folder}/{RUN_YAML} ] || cat > {folder}/{RUN_YAML} <<'END_OF_RUN'",
        run_yaml.render(entry.run).rstrip("\n"),
        "END_OF_RUN",
        f"{name}=$(sbatch --parsable {' '.join(asked)} <<'END_OF_JOB'",
        "#!/bin/bash",
        f"{worker} & worker=$!",
        "again=",
        "trap 'again=yes; kill -INT $worker' USR1  # before the time limit",
        "trap 'kill -INT $worker' TERM  # cancelled, or preempted by a system that queues the job again itself",
        "code=0; wait $worker || code=$?",
        "while kill -0 $worker 2>/dev/null; do code=0; wait $worker || code=$?; done  # a signal ends `wait` early",
        f'if [ $code -eq {REQUEUE} ] && [ "$again" ]; then scontrol requeue "$SLURM_JOB_ID"; fi',
        "exit $code",
        "END_OF_JOB",
        ")",
        f'echo "{entry.run.slug}: job ${name}"',
    ]
