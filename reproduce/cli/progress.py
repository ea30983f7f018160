"""How trainings are shown while they run: a live table on a terminal, one line a minute anywhere else."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from reproduce.cli.console import STYLES, Ui
from reproduce.units import duration

if TYPE_CHECKING:
    from rich.table import Table

    from reproduce.jobs.queue import Job, Watcher

PLAIN_EVERY_S = 60.0
"""Seconds between two lines about all runs that are under way."""
_MOST_TOLD = 4
"""Most running jobs that a line names."""
_WIDE = 100
"""Width in characters from which a terminal also shows the speed."""


@contextmanager
def watching(ui: Ui, every_s: float = PLAIN_EVERY_S) -> Iterator[Watcher]:
    """A watcher of jobs that shows them on stderr while the context is open."""
    if not ui.err.is_terminal:
        yield PlainLines(ui, every_s)
        return
    from rich.live import Live

    with Live(console=ui.err, refresh_per_second=4, transient=False) as live:
        yield lambda jobs: live.update(job_table(jobs, ui.err.height - 3, wide=ui.err.width >= _WIDE))


class PlainLines:
    """An observer that prints a line when a run starts or ends, and a line about all of them once a minute."""

    def __init__(self, ui: Ui, every_s: float) -> None:
        self._ui = ui
        self._every_s = every_s
        self._states: dict[str, str] = {}
        self._taken: set[str] = set()
        self._told = time.monotonic()

    def __call__(self, jobs: Sequence[Job]) -> None:
        for number, job in enumerate(jobs, start=1):
            lost = job.progress.get("taken_over_from")
            if lost and job.state == "running" and job.run.key not in self._taken:
                self._taken.add(job.run.key)
                self._ui.tell(f"{job.run.slug} is taken over from {lost}, which has not been heard of for long")
            if job.state != self._states.get(job.run.key, "waiting"):
                self._states[job.run.key] = job.state
                self._ui.tell(f"[{number}/{len(jobs)}] {job.run.slug}: {', '.join(filter(None, words(job)))}")
        now = time.monotonic()
        if now - self._told >= self._every_s and any(job.state == "running" for job in jobs):
            self._told = now
            self._ui.tell(summary(jobs))


def summary(jobs: Sequence[Job]) -> str:
    """One line about all jobs: `1 of 5 sealed; cp-op-laptop-s0 400/3600, loss 3.123; 14 min left for these`."""
    running = [job for job in jobs if job.state == "running"]
    told = []
    for job in running[:_MOST_TOLD]:
        loss = cells(job.progress)[0]
        told.append(" ".join(filter(None, [job.run.slug, position(job.progress), f"loss {loss}" if loss else ""])))
    if len(running) > _MOST_TOLD:
        told.append(f"and {len(running) - _MOST_TOLD} more")
    ended = sum(job.state == "sealed" for job in jobs)
    known = [_number(job.progress.get("eta_s")) for job in running]
    seconds = [left for left in known if left is not None and math.isfinite(left)]
    end = f"; {duration(max(seconds))} left for {'these' if len(running) > 1 else 'it'}" if seconds else ""
    return f"{ended} of {len(jobs)} sealed; {', '.join(told)}{end}"


def words(job: Job) -> list[str]:
    """What is known of a job: its state and, while it runs, step, loss, speed, peak kurtosis and time left.

    A failed job has its error instead, and one that another process trains says which process that is.
    """
    if job.error:
        return [job.state, job.error]
    if job.state == "elsewhere":
        holder = f"process {job.progress.get('pid', '?')} on {job.progress.get('host', 'another machine')}"
        return ["trained by another process", holder, "waiting for it"]
    if job.state != "running":
        return [job.state]
    if "step" not in job.progress and job.says:  # such as why its processes wait for one another
        return [job.state, f"no step yet, its process says: {job.says}"]
    loss, speed, kurtosis, left = cells(job.progress)
    told = [f"loss {loss}", f"{speed} tokens/s", f"peak kurtosis {kurtosis}", f"{left} left"]
    known = [loss, speed, kurtosis, left]
    return [job.state, position(job.progress), *(text for text, value in zip(told, known, strict=True) if value)]


def job_table(jobs: Sequence[Job], rows: int, *, wide: bool = True) -> Table:
    """A table of the jobs that matter now: failed and running ones first, then those to come, then the finished.

    Args:
        rows: how many jobs fit.
        wide: whether there is room for the speed.
    """
    from rich.table import Table
    from rich.text import Text

    order = ("failed", "running", "elsewhere", "interrupted", "waiting", "sealed")
    shown = sorted(jobs, key=lambda job: order.index(job.state))[: max(1, rows)]
    titles = ("run", "step", "loss", *(("tokens/s",) if wide else ()), "peak kurtosis", "left", "state")
    ended = sum(job.state == "sealed" for job in jobs)
    table = Table(*titles, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for job in shown:
        loss, speed, kurtosis, left = cells(job.progress) if job.state in ("running", "sealed") else ("", "", "", "")
        left = left if job.state == "running" else ""
        numbers = (loss, *((speed,) if wide else ()), kurtosis, left)
        where = position(job.progress) if job.state in ("running", "elsewhere", "interrupted", "sealed") else ""
        state = f"{job.state}: {job.error}" if job.error else job.state
        table.add_row(job.run.slug, where, *numbers, Text(state, style=STYLES.get(job.state, "")))
    table.caption = f"{ended} of {len(jobs)} runs sealed; Ctrl-C saves and stops"
    table.caption_justify = "left"
    return table


def position(progress: Mapping[str, Any]) -> str:
    """The step that a run has reached, of how many, `400/2000`; empty before the first step."""
    return f"{progress['step']}/{progress['steps']}" if "step" in progress else ""


def cells(progress: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Loss, tokens per second, peak kurtosis and time left as texts; each is empty where it is not known."""
    loss, speed, kurtosis, left = (
        _number(progress.get(name)) for name in ("loss", "tokens_per_s", "peak_kurtosis", "eta_s")
    )
    return (
        "" if loss is None else f"{loss:.3f}",
        "" if speed is None else f"{speed:,.0f}",
        "" if kurtosis is None else f"{kurtosis:.4g}",
        "" if left is None or not math.isfinite(left) else duration(left),
    )


def _number(value: Any) -> float | None:
    """A number of progress.json, in which a string stands for what is not finite; None where it is missing."""
    return None if value is None else float(value)
