"""The queue, which does many jobs on an executor, several at the same time. No failure of a job ends the queue.

Each job is done by one worker (`reproduce.jobs.worker`), which takes the lock of the run, resumes it, does the work and
seals it. This module decides which job starts when, reads their progress.json, and informs a watcher. It knows nothing
of figures and displays, nor of how a worker is started (`reproduce.jobs.executor`), and it never imports torch.

    waiting      -> running, as soon as there is a free place and the parent is sealed
    running      -> sealed | failed | interrupted | elsewhere
    elsewhere    -> sealed | running: another process does the job, and the queue waits for it. If that process stops
                    before the job is sealed, the queue takes the job over.

A job whose parent is in the same queue waits until the parent is sealed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from reproduce.errors import OfeError
from reproduce.jobs.executor import Executor, Handle
from reproduce.processes import REQUEUE, STOP_SIGNALS, handle, stop_code
from reproduce.store.runs import RunFolder, Store

if TYPE_CHECKING:
    from reproduce.specs.runs import ResolvedRun

JobState = Literal["waiting", "running", "elsewhere", "sealed", "failed", "interrupted"]
Watcher = Callable[[Sequence["Job"]], None]

SEALED_EXIT, STOPPED_EXIT = 0, REQUEUE
"""Exit codes of a worker that sealed its run, and of one that was asked to stop and saved the state."""
_POLL_S = 0.25
"""Seconds between two looks at the workers."""
_ELSEWHERE_POLL_S = 1.0
"""The same while all remaining jobs are done by other processes, where a look costs a lock of each run folder."""
_SLEEP_S = 0.05
"""Longest time for which a signal goes unnoticed, in seconds."""


@dataclass
class Job:
    """One job of the queue, and its state."""

    run: ResolvedRun
    folder: RunFolder
    state: JobState = "waiting"
    error: str | None = None
    """Why it failed."""
    hint: str | None = None
    """What the user can do about it, where that is known."""
    progress: Mapping[str, Any] = field(default_factory=dict)
    """The last progress.json of its worker."""
    says: str = ""
    """The last line that its worker has written to stderr while it runs."""
    stopped_by: int | None = None
    """The signal that the queue was stopped with, if that is why the job is interrupted."""
    worker: Handle | None = None
    place: int | None = None
    """The place of the executor that it has while it runs."""

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in ("sealed", "failed", "interrupted")


def execute(
    runs: Sequence[ResolvedRun],
    store: Store,
    executor: Executor,
    *,
    keep: Mapping[str, Iterable[int]] | None = None,
    watch: Watcher = lambda jobs: None,
) -> list[Job]:
    """Do the jobs of `runs`, as many at a time as the executor has places, and return them in their final states.

    Jobs start in the order of `runs`. A job that fails does not stop the others, except those that start from it.
    A stop signal is passed on to the workers, which save their state and stop. No further job starts then, and jobs
    that are not finished are "interrupted". The same signal once more kills the workers. Another one does not: a batch
    system warns with one signal and stops with the next.

    Args:
        keep: key of a run -> steps whose weights it is to keep.
        watch: is called with all jobs after each look at the workers, and once more at the end.

    Raises:
        OfeError: a run folder cannot be created.
    """
    keep = keep or {}
    # All folders are created before the first job starts, so that a full disk is reported at once.
    queue = [_created(run, store, keep.get(run.key, ())) for run in runs]
    with _stop_requests() as requests:
        while not all(job.ended for job in queue):
            # Ended workers are settled before new ones start, so that their places are free and parents are sealed.
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
    for job in queue:
        if job.state == "interrupted":
            job.stopped_by = requests.first
    watch(queue)
    return queue


def _created(run: ResolvedRun, store: Store, keep: Iterable[int]) -> Job:
    """The job of `run` with its folder. One whose folder is there and cannot be used has failed, and alone fails."""
    folder = store.folder(run)
    try:
        return Job(run, store.create(run, keep))
    except OfeError as error:
        if not os.path.isdir(folder.path):
            raise
        return Job(run, folder, "failed", error.message, error.hint)


def stopped_code(jobs: Sequence[Job]) -> int | None:
    """The exit code of a command whose jobs were interrupted; None if none was."""
    interrupted = [job for job in jobs if job.state == "interrupted"]
    if not interrupted:
        return None
    # Jobs that something else than the queue has stopped can be continued, and so the command can be requeued.
    return next((stop_code(job.stopped_by) for job in interrupted if job.stopped_by), REQUEUE)


def _start(queue: list[Job], executor: Executor) -> None:
    """Start workers in the free places, on jobs that nobody works on and whose parents are sealed."""
    taken = {job.place for job in queue if job.state == "running"}
    free = [place for place in range(executor.places) if place not in taken]
    by_key = {job.run.key: job for job in queue}
    for job in queue:
        if not free:
            return
        if job.state not in ("waiting", "elsewhere") or not _has_parent(job, by_key):
            continue
        # The folder may have changed since it was created: other queues may work on the same runs.
        try:
            complete = job.folder.complete
        except OfeError as error:  # a damaged folder ends its own job, not those of others
            _fail(job, error.message, error.hint)
            continue
        if complete:
            job.state = "sealed"
        elif job.folder.state == "running":
            job.state, job.progress = "elsewhere", job.folder.progress() or {}
        else:
            job.state, job.place = "running", free.pop(0)
            job.worker = executor.submit(job.folder, job.place)


def _has_parent(job: Job, by_key: Mapping[str, Job]) -> bool:
    """Whether the job has no parent in the queue, or a sealed one.

    A job whose parent has failed fails with it. One whose parent was stopped, be it by a signal that did not come from
    this queue, is interrupted with it: nothing would ever seal the parent.
    """
    parent = None if job.run.parent is None else by_key.get(job.run.parent.key)
    if parent is None or parent.state == "sealed":
        return True
    if parent.state == "failed":
        _fail(job, f"it starts from {parent.run.slug}, which failed")
    elif parent.state == "interrupted":
        job.state = "interrupted"
    return False


def _fail(job: Job, error: str, hint: str | None = None) -> None:
    job.state, job.error, job.hint = "failed", error, hint


def _follow(job: Job, *, stopping: bool) -> None:
    """Read the progress of a running worker. If the worker has ended, find the new state of its job.

    Args:
        stopping: whether the workers were asked to stop.
    """
    assert job.worker is not None
    code = job.worker.poll()
    job.progress = job.folder.progress() or job.progress
    if code is None:
        job.says = job.worker.says()
        return
    said = job.worker.messages()
    try:
        complete = job.folder.complete
    except OfeError as error:
        _fail(job, error.message, error.hint)
        return
    # The folder is asked first: a worker that was killed after it had sealed its run has done its job.
    if complete:
        job.state = "sealed"
    elif _stopped(code, job.progress) or (stopping and job.progress.get("state") != "failed"):
        job.state = "interrupted"  # also if the signal came while the worker was still starting, whatever its exit code
    elif job.folder.state == "running":  # another process took the lock before our worker did
        job.state = "elsewhere"
    else:
        told = code > 0 and job.progress.get("state") == "failed"
        _fail(job, _why(code, job.progress, said), job.progress.get("hint") if told else None)
        # An error of the job itself is kept in the folder, where `ofe status` reads it. A worker that was killed by a
        # signal leaves a folder that can be resumed, and that must not be marked as failed.
        if code > 0:
            with suppress(OfeError):  # the disk may be full, which is what the worker failed of
                job.folder.write_progress({**job.progress, "state": "failed", "error": job.error, "hint": job.hint})


def _stopped(code: int, progress: Mapping[str, Any]) -> bool:
    """Whether the worker has saved its state and stopped as it was asked to.

    Under torchrun only progress.json tells, since torchrun does not pass on the exit code of its workers.
    """
    return code == STOPPED_EXIT or (code > 0 and progress.get("state") == "interrupted")


def _why(code: int, progress: Mapping[str, Any], said: str) -> str:
    """Why a worker did not finish, in words for the user.

    Args:
        code: its exit code, where -N stands for signal N.
        progress: its last progress.json, whose error is preferred to `said`.
        said: what it wrote to stderr.
    """
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", perhaps because the memory was full" if name == "SIGKILL" else ""
        return f"its process was killed by {name}{memory}"
    if progress.get("state") == "failed" and progress.get("error"):
        return str(progress["error"])
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("hint:")]
    if code == SEALED_EXIT:
        return "its process ended without sealing it"
    lines = [line for line in lines if line.startswith("error: ")][:1] or lines  # torchrun adds long reports after it
    return lines[-1].removeprefix("error: ") if lines else f"its process ended with exit code {code}"


# ---------------------------------------------------------------------------------------------------
# Stop requests


class _Requests:
    """The handler of stop signals: it counts those received, and those that have been passed on to the workers."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.count = 0
        self.passed_on = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.first = self.first or number
        self.count += number == self.first

    def wait(self, seconds: float) -> None:
        """Sleep for some seconds, or until a signal comes that has not been passed on."""
        deadline = time.monotonic() + seconds
        while self.count == self.passed_on and time.monotonic() < deadline:
            time.sleep(_SLEEP_S)


@contextmanager
def _stop_requests() -> Iterator[_Requests]:
    """A context in which stop signals are counted and do not end this process."""
    requests = _Requests()
    if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main thread only
        yield requests
        return
    before = handle(STOP_SIGNALS, requests)
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(queue: list[Job], requests: _Requests) -> None:
    """End the jobs that have not started, and pass new signals on to the workers.

    The first signal asks the workers to save their state and stop. The same one once more kills them.
    """
    for job in queue:
        if job.state in ("waiting", "elsewhere"):
            job.state = "interrupted"
    if requests.count > requests.passed_on:
        for job in queue:
            if job.state == "running" and job.worker is not None:
                job.worker.stop(kill=requests.passed_on > 0)
        requests.passed_on = requests.count
