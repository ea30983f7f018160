"""Works off runs on an executor, several side by side, and survives whatever becomes of them.

Each run is one worker (`reproduce.jobs.worker`), which takes the run's lock, resumes, does the job and seals it. This
module decides which run starts when, follows their progress.json, and tells a watcher. It knows nothing of figures or
displays, nor of how a worker comes to run (`reproduce.jobs.executor`), and never imports torch.

    waiting -> running -> sealed | failed | interrupted
    elsewhere -> sealed, or waiting: another process does the job; it is waited for, and taken over if it stops

A run with a parent among the runs waits until that one is sealed.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from reproduce.jobs.executor import Executor, Handle
from reproduce.processes import STOP_SIGNALS, handle
from reproduce.store.runs import RunFolder, Store

if TYPE_CHECKING:
    from reproduce.specs.resolve import ResolvedRun

JobState = Literal["waiting", "running", "elsewhere", "sealed", "failed", "interrupted"]
Watcher = Callable[[Sequence["Job"]], None]

SEALED_EXIT, STOPPED_EXIT = 0, 3
"""Exit codes of a worker that finished its run, and of one that was told to stop and saved it."""
_POLL_S = 0.25
_ELSEWHERE_POLL_S = 1.0
_SLEEP_S = 0.05


@dataclass
class Job:
    """One run on its way to its seal."""

    run: ResolvedRun
    folder: RunFolder
    state: JobState = "waiting"
    error: str | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    """What its worker last said (`progress.json`)."""
    worker: Handle | None = None
    place: int | None = None
    """Which of the executor's places it holds while it runs."""

    @property
    def ended(self) -> bool:
        return self.state in ("sealed", "failed", "interrupted")


def execute(
    runs: Sequence[ResolvedRun],
    store: Store,
    executor: Executor,
    *,
    keep: Mapping[str, Iterable[int]] | None = None,
    watch: Watcher = lambda jobs: None,
) -> list[Job]:
    """Do the jobs of `runs` in their order, as many at a time as the executor has places; return what became of each.

    A run that fails does not stop the others, except those that start from it. SIGINT, SIGTERM or SIGHUP is passed on
    to the workers, which save and stop; no further run starts, and what did not finish is "interrupted". A second
    signal kills the workers.

    Args:
        keep: the steps whose weights a run is to keep, by its key.
        watch: called after each change and each poll.

    Raises:
        OfeError: a run folder cannot be created.
    """
    keep = keep or {}
    queue = [Job(run, store.create(run, keep.get(run.key, ()))) for run in runs]
    with _stop_requests() as requests:
        while not all(job.ended for job in queue):
            for job in queue:
                if job.state == "running":
                    _follow(job, stopping=requests.count > 0)
            if requests.count:
                _stop(queue, requests)
            else:
                _start(queue, executor)
            watch(queue)
            idle = not any(job.state == "running" for job in queue)
            requests.wait(_ELSEWHERE_POLL_S if idle else _POLL_S)
    watch(queue)
    return queue


def _start(queue: list[Job], executor: Executor) -> None:
    """Fill the free places with runs that nobody works on and that have what they start from."""
    taken = {job.place for job in queue if job.state == "running"}
    free = [place for place in range(executor.places) if place not in taken]
    by_key = {job.run.key: job for job in queue}
    for job in queue:
        if not free:
            return
        if job.state not in ("waiting", "elsewhere") or not _has_parent(job, by_key):
            continue
        if job.folder.complete:
            job.state = "sealed"
        elif job.folder.state == "running":
            job.state, job.progress = "elsewhere", job.folder.progress() or {}
        else:
            job.state, job.place = "running", free.pop(0)
            job.worker = executor.submit(job.folder, job.place)


def _has_parent(job: Job, by_key: Mapping[str, Job]) -> bool:
    """Whether what the job starts from is there; a job whose parent has failed or was interrupted ends with it."""
    parent = None if job.run.parent is None else by_key.get(job.run.parent.key)
    if parent is None or parent.state == "sealed":
        return True
    if parent.state == "failed":
        job.state, job.error = "failed", f"it starts from {parent.run.slug}, which failed"
    return False


def _follow(job: Job, *, stopping: bool) -> None:
    """Read how far a worker is, and settle its job if it has ended."""
    assert job.worker is not None
    code = job.worker.poll()
    job.progress = job.folder.progress() or job.progress
    if code is None:
        return
    said = job.worker.messages()
    if job.folder.complete:
        job.state = "sealed"
    elif _stopped(code, job.progress) or (stopping and job.progress.get("state") != "failed"):
        job.state = "interrupted"  # also when the signal met a worker that was still starting
    elif job.folder.state == "running":  # another process took the run before our worker could
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
    before = handle(STOP_SIGNALS, requests)
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
        for job in queue:
            if job.state == "running" and job.worker is not None:
                job.worker.stop(kill=requests.passed_on > 0)
        requests.passed_on = requests.count
