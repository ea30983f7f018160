"""Trains runs in worker processes, several side by side, and survives whatever becomes of them.

Each run is one process, `python -m reproduce.jobs.worker FOLDER`, which takes its lock, resumes, trains and seals; on
several devices it is one such process a device, started by torchrun. This
module starts them, reads their progress.json, and tells an observer. It knows nothing of figures or displays and
never imports torch.

    waiting -> running -> sealed | failed | interrupted
    elsewhere -> sealed, or waiting: another process trains the run; it is waited for, and taken over if it stops
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Literal

from reproduce.store.runs import RunFolder, Store

if TYPE_CHECKING:
    from reproduce.specs.resolve import ResolvedRun

JobState = Literal["waiting", "running", "elsewhere", "sealed", "failed", "interrupted"]
Command = Callable[[Path], list[str]]
Observer = Callable[[Sequence["Job"]], None]

SEALED_EXIT, STOPPED_EXIT = 0, 3
"""Exit codes of a worker that finished its run, and of one that was told to stop and saved it."""
_POLL_S = 0.25
_ELSEWHERE_POLL_S = 1.0
_SLEEP_S = 0.05
_STOP_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def worker_command(folder: Path, devices: int = 1) -> list[str]:
    """What trains the run in `folder` on `devices` devices."""
    worker = ["-m", "reproduce.jobs.worker", str(folder)]
    if devices == 1:
        return [sys.executable, *worker]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}", *worker]


@dataclass
class Job:
    """One run on its way to its seal."""

    run: ResolvedRun
    folder: RunFolder
    state: JobState = "waiting"
    error: str | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    """What its worker last said (`progress.json`)."""
    process: subprocess.Popen[bytes] | None = None
    slot: int | None = None
    """Which of the places side by side it holds while it runs."""
    messages: IO[bytes] | None = None
    """What its worker writes to stderr."""

    @property
    def ended(self) -> bool:
        return self.state in ("sealed", "failed", "interrupted")


def execute(
    runs: Sequence[ResolvedRun],
    store: Store,
    *,
    jobs: int,
    threads: int = 1,
    gpus: int = 0,
    devices: int = 1,
    command: Command | None = None,
    observe: Observer = lambda jobs: None,
) -> list[Job]:
    """Train `runs` in their order, `jobs` at a time, and return what became of each.

    A run that fails does not stop the others. SIGINT, SIGTERM or SIGHUP is passed on to the workers, which save
    and stop; no further run starts, and what did not finish is "interrupted". A second signal kills the workers.

    Args:
        threads: of each process. Rounding depends on it, so it takes part in "same machine, same trace".
        gpus: CUDA devices to spread the workers over, where there is more than one.
        devices: of each run, a process on each.
        command: what trains the run in a folder, by default `worker_command`.
        observe: called after each change and each poll.

    Raises:
        OfeError: a run folder cannot be created.
    """
    command = command or (worker_command if devices == 1 else partial(worker_command, devices=devices))
    queue = [Job(run, store.create(run)) for run in runs]
    with _stop_requests() as requests:
        while not all(job.ended for job in queue):
            for job in queue:
                if job.state == "running":
                    _follow(job, stopping=requests.count > 0)
            if requests.count:
                _stop(queue, requests)
            else:
                _start(queue, jobs, _Places(threads, gpus, devices), command)
            observe(queue)
            idle = not any(job.state == "running" for job in queue)
            requests.wait(_ELSEWHERE_POLL_S if idle else _POLL_S)
    observe(queue)
    return queue


@dataclass(frozen=True)
class _Places:
    """What each of the runs side by side may use."""

    threads: int
    gpus: int
    devices: int

    def environment(self, slot: int) -> dict[str, str]:
        """The variables of the run in the place `slot`."""
        environment = dict(os.environ, OMP_NUM_THREADS=str(self.threads))
        if self.gpus > 1:
            visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(self.gpus)))).split(",")
            first = slot * self.devices % max(1, self.gpus // self.devices * self.devices)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(visible[first : first + self.devices])
        return environment


def _start(queue: list[Job], jobs: int, places: _Places, command: Command) -> None:
    """Fill the free places with runs that nobody trains."""
    taken = {job.slot for job in queue if job.state == "running"}
    free = [slot for slot in range(jobs) if slot not in taken]
    for job in queue:
        if not free:
            return
        if job.state not in ("waiting", "elsewhere"):
            continue
        found = job.folder.state
        if found == "sealed":
            job.state = "sealed"
        elif found == "running":
            job.state, job.progress = "elsewhere", job.folder.progress() or {}
        else:
            job.state, job.slot = "running", free.pop(0)
            job.messages = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the worker has ended
            job.process = subprocess.Popen(
                command(job.folder.path),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=job.messages,
                env=places.environment(job.slot),
                start_new_session=True,  # Ctrl-C at the terminal reaches us alone, and we pass it on once
            )


def _follow(job: Job, *, stopping: bool) -> None:
    """Read how far a worker is, and settle its job if it has ended."""
    assert job.process is not None
    assert job.messages is not None
    code = job.process.poll()
    job.progress = job.folder.progress() or job.progress
    if code is None:
        return
    job.messages.seek(0)
    said = job.messages.read().decode(errors="replace").strip()
    job.messages.close()
    found = job.folder.state
    if found == "sealed":
        job.state = "sealed"
    elif _stopped(code, job.progress) or (stopping and job.progress.get("state") != "failed"):
        job.state = "interrupted"  # also when the signal met a worker that was still starting
    elif found == "running":  # another process took the run before our worker could
        job.state = "elsewhere"
    else:
        job.state, job.error = "failed", _why(code, job.progress, said)
        if code > 0:  # a killed worker left a checkpoint that goes on; an error is the run's own
            job.folder.write_progress({**job.progress, "state": "failed", "error": job.error})


def _stopped(code: int, progress: Mapping[str, Any]) -> bool:
    """Whether the worker saved and stopped because it was asked to; torchrun does not pass its exit code on."""
    return code == STOPPED_EXIT or (code > 0 and progress.get("state") == "interrupted")


def _why(code: int, progress: Mapping[str, Any], said: str) -> str:
    """What to tell of a worker that did not finish: its own words, else the last line it wrote."""
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", perhaps because the memory was full" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{memory}"
    if progress.get("state") == "failed" and progress.get("error"):
        return str(progress["error"])
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("hint:")]
    if code == SEALED_EXIT:
        return "its process ended without sealing it"
    lines = [line for line in lines if line.startswith("error: ")][:1] or lines  # torchrun adds pages of its own
    return lines[-1].removeprefix("error: ") if lines else f"its process ended with exit code {code}"


# ---------------------------------------------------------------------------------------------------
# Stopping


class _Requests:
    """Signals received so far, and how many of them have been passed on."""

    def __init__(self) -> None:
        self.count = 0
        self.passed_on = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1

    def wait(self, seconds: float) -> None:
        """Sleep, though not past a signal that has not been passed on."""
        deadline = time.monotonic() + seconds
        while self.count == self.passed_on and time.monotonic() < deadline:
            time.sleep(_SLEEP_S)


@contextmanager
def _stop_requests() -> Iterator[_Requests]:
    """Count the signals that ask us to stop, in place of being ended by them."""
    requests = _Requests()
    if threading.current_thread() is not threading.main_thread():  # only the main thread is sent signals
        yield requests
        return
    before = {number: signal.signal(number, requests) for number in _STOP_SIGNALS}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(queue: list[Job], requests: _Requests) -> None:
    """Pass a new signal on: the first asks the workers to save, a further one kills them."""
    for job in queue:
        if job.state in ("waiting", "elsewhere"):
            job.state = "interrupted"
    if requests.count > requests.passed_on:
        number = signal.SIGKILL if requests.passed_on else signal.SIGINT
        for job in queue:
            if job.state == "running" and job.process is not None:
                _send(job, number)
        requests.passed_on = requests.count


def _send(job: Job, number: int) -> None:
    """Send a signal to the worker; of several under torchrun to the one that speaks for all, once it has spoken.

    torchrun itself would give them half a minute to save; and killed, it would leave them running.
    """
    assert job.process is not None
    if job.progress.get("launcher") == job.process.pid:
        with suppress(ProcessLookupError):
            os.kill(job.progress["pid"], number)
    else:
        job.process.send_signal(number)
