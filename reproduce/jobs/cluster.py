"""Runs as jobs of a cluster, submitted with submitit: `ofe reproduce ID --launcher slurm`.

What is submitted is the path of a run folder, never the state of a run, so that a job may be queued for days and
restarted on any machine. `RunJob` starts the worker as a process of its own and passes on to it the signal to stop:

    SIGUSR2             submitit's signal, which Slurm sends before the time limit and when it preempts. The worker
                        saves and ends with exit code 75, and the job is queued again, as often as it takes.
    SIGTERM, SIGUSR1    The job was cancelled or is preempted by the system's own requeueing. The worker saves, and the
                        job ends with exit code 75. Queueing it again is left to the system.

submitit itself would count the time limits that a job has reached and give up after some, and it passes over SIGTERM.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from reproduce.errors import OfeError
from reproduce.jobs.batch import WARNING_S, Entry, Site
from reproduce.jobs.executor import worker_command
from reproduce.processes import REQUEUE, child_environment
from reproduce.store.atomic import write_json
from reproduce.store.json_text import loads
from reproduce.store.regular import text_of
from reproduce.store.runs import RunFolder
from reproduce.store.seal import is_sealed

SUBMITTED = "submitted.json"
"""The file of a run folder that names the job which was submitted for it: {"cluster": "slurm", "job": "12"}."""
LIVING = ("PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "COMPLETING")
"""States of a job of Slurm that may still seal its run."""
_QUEUE_TIMEOUT_S = 30
_PREEMPTION_S = 2.0
"""Seconds in which SIGUSR2 may follow SIGTERM: Slurm sends both when it preempts, and SIGTERM alone on `scancel`."""


class SubmitExecutor(Protocol):
    """As much of `submitit.Executor` as is used: `AutoExecutor` and the local and debug executors have it."""

    def update_parameters(self, **parameters: Any) -> None: ...

    def submit(self, fn: Callable[..., Any], /) -> Any: ...


@dataclass(frozen=True)
class RunJob:
    """What a job of the cluster does: the worker of one run, from wherever the run is to its seal.

    It holds plain values alone, as it waits in the queue in pickled form.
    """

    folder: str
    command: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]

    def __call__(self) -> str:
        """Do the run, and return "sealed".

        Raises:
            RuntimeError: the run has failed; the message is the worker's.
            SystemExit: the run was stopped and saved (exit code 75).
        """
        environment = child_environment(**dict(self.variables))
        heard: list[int] = []
        with subprocess.Popen(self.command, env=environment, start_new_session=True) as worker:

            def stop(number: int, frame: object) -> None:
                heard.append(number)
                worker.send_signal(signal.SIGINT)

            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, stop)
            code = worker.wait()
            if code == REQUEUE and signal.SIGUSR2 not in heard:
                time.sleep(_PREEMPTION_S)
        if code == 0:
            return "sealed"
        if code == REQUEUE:
            if signal.SIGUSR2 in heard:
                requeue()
            sys.exit(REQUEUE)
        progress = RunFolder(Path(self.folder)).progress() or {}
        raise RuntimeError(progress.get("error") or f"the worker ended with exit code {code}")


def requeue() -> None:
    """Queue the job that this process is again, by the means of the cluster that runs it."""
    from submitit import JobEnvironment

    JobEnvironment()._requeue(1)  # `scontrol requeue` on Slurm; the number is written to a log and not counted


def run_job(entry: Entry, *, devices: int, variables: Mapping[str, str]) -> RunJob:
    """The job of one run."""
    return RunJob(str(entry.folder), tuple(worker_command(entry.folder, devices)), tuple(sorted(variables.items())))


def slurm_executor(logs: Path) -> SubmitExecutor:
    """submitit's executor for Slurm, which keeps its files in `logs`.

    Raises:
        OfeError: submitit is not installed, or this is not a machine of a Slurm cluster (exit code 2).
    """
    try:
        from submitit import SlurmExecutor
    except ImportError as error:
        hint = "`pip install submitit`, or let `ofe plan --sbatch` print batch scripts"
        raise OfeError("--launcher slurm needs the package submitit", hint=hint, exit_code=2) from error
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        hint = "start the command on a login node; `ofe plan --sbatch` prints batch scripts on any machine"
        raise OfeError("--launcher slurm finds neither sbatch nor srun here", hint=hint, exit_code=2)
    return SlurmExecutor(logs)


def slurm_parameters(entry: Entry, site: Site, parents: Sequence[str]) -> dict[str, Any]:
    """What submitit's executor for Slurm is told of one run.

    Args:
        parents: the jobs that have to end well before this one starts.
    """
    asked = entry.request
    parameters: dict[str, Any] = {
        "job_name": entry.run.slug,
        "time": site.minutes or asked.minutes,
        "mem": f"{asked.memory_gb}GB",
        "cpus_per_task": asked.cores,
        "signal_delay_s": WARNING_S,
        "additional_parameters": {"requeue": True},
    }
    if site.partition:
        parameters["partition"] = site.partition
    if site.gres:
        parameters["gres"] = site.gres
    elif asked.gpus:
        parameters["gpus_per_node"] = asked.gpus
    if parents:
        parameters["dependency"] = f"afterok:{':'.join(parents)}"
    return parameters


def submit(
    entries: Sequence[Entry],
    executor: SubmitExecutor,
    site: Site,
    *,
    devices: int,
    variables: Mapping[str, str],
    parameters: Callable[[Entry, Site, Sequence[str]], dict[str, Any]] = slurm_parameters,
    cluster: str = "slurm",
) -> dict[str, Any]:
    """Submit one job for each run, parents first, and note it in the run's folder.

    The folders have to exist. A run for which a job is queued already is passed over.

    Returns:
        The jobs, by the key of their run.
    """
    jobs: dict[str, Any] = {}
    for entry in _parents_first(entries):
        if is_queued(entry.folder):
            continue
        parent = None if entry.run.parent is None else entry.run.parent.key
        before = [jobs[parent].job_id] if parent in jobs else []
        executor.update_parameters(**parameters(entry, site, before))
        job = executor.submit(run_job(entry, devices=devices, variables=variables))
        jobs[entry.run.key] = job
        write_json(entry.folder / SUBMITTED, {"cluster": cluster, "job": str(job.job_id)})
    return jobs


def _parents_first(entries: Sequence[Entry]) -> list[Entry]:
    """`entries` in their order, each after the one that it starts from."""
    keys = {entry.run.key for entry in entries}
    roots = [entry for entry in entries if entry.run.parent is None or entry.run.parent.key not in keys]
    return roots + [entry for entry in entries if entry not in roots]


def submitted(folder: Path) -> dict[str, Any] | None:
    """The job that was submitted for the run in `folder`, or None."""
    try:
        content = loads(text_of(folder / SUBMITTED))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"cluster", "job"} <= content.keys() else None


def is_queued(folder: Path) -> bool:
    """Whether a job was submitted for the run in `folder` that may still do it, as far as the cluster can be asked."""
    job = submitted(folder)
    if job is None or job["cluster"] != "slurm" or is_sealed(folder):
        return False
    program = shutil.which("squeue")
    if program is None:
        return True
    query = [program, "--noheader", "--format=%T", f"--jobs={job['job']}"]
    with suppress(OSError, subprocess.TimeoutExpired):
        answer = subprocess.run(query, capture_output=True, text=True, timeout=_QUEUE_TIMEOUT_S, check=False)
        if answer.returncode == 0:
            return any(state in answer.stdout for state in LIVING)
        return "Invalid job id" not in answer.stderr  # Slurm forgets jobs some minutes after they have ended
    return True
