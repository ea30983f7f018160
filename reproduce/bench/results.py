"""All rows of this machine: each job in a process of its own, one after the other, kept in OFE_HOME/bench.json."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from reproduce.bench.rows import JOBS, Job, Row
from reproduce.errors import OfeError
from reproduce.machine import Machine
from reproduce.processes import child_environment
from reproduce.store.atomic import write_json
from reproduce.store.home import ensure_home
from reproduce.versions import installed_version

FILE = "bench.json"
TIMEOUT_S = 1200.0


@dataclass(frozen=True)
class Result:
    """One row and what was measured of it."""

    job: str
    row: Row
    ratio: float | None
    """None if it was not measured."""
    why: str = ""
    """Why it was not measured, or an empty text."""

    def as_json(self) -> dict[str, Any]:
        met = None if self.ratio is None else self.row.met(self.ratio)
        return {
            "job": self.job,
            "what": self.row.what,
            "against": self.row.against,
            "aim": self.row.aim(),
            "measured": self.ratio,
            "met": met,
            "why": self.why or None,
        }


def chosen(names: Iterable[str], device: str) -> list[Job]:
    """The jobs of these names; without names, those of `device` that do not take long.

    Raises:
        OfeError: there is no such job (exit code 2).
    """
    by_name = {job.name: job for job in JOBS}
    names = list(names)
    for name in names:
        if name not in by_name:
            raise OfeError(f"no benchmark {name!r}", hint=f"choose among {', '.join(by_name)}", exit_code=2)
    return [by_name[name] for name in names] or [job for job in JOBS if job.device == device and not job.long]


def measure(job: Job, machine: Machine, precision: str) -> list[Result]:
    """Measure the rows of one job. A job that this machine cannot measure has rows without ratios, and says why."""
    if job.device == "cuda" and machine.device != "cuda":
        return [Result(job.name, row, None, "no CUDA device is at hand") for row in job.rows.values()]
    command = [sys.executable, "-m", "reproduce.bench.measure", job.name, "--device", job.device]
    command += ["--precision", precision]
    environment = child_environment(OMP_NUM_THREADS=str(job.threads))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return [Result(job.name, row, None, f"no result within {TIMEOUT_S:.0f} s") for row in job.rows.values()]
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return [Result(job.name, row, None, last) for row in job.rows.values()]
    ratios: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return [Result(job.name, row, ratios[name]) for name, row in job.rows.items()]


def measure_all(jobs: Iterable[Job], machine: Machine, precision: str, report: Callable[[str], None]) -> list[Result]:
    """Measure jobs one after the other, saying which one is at work, and keep all results."""
    results: list[Result] = []
    for job in jobs:
        report(f"measuring {job.name}, about {job.minutes:g} min")
        results += measure(job, machine, precision)
    keep(results, machine, precision)
    return results


def keep(results: list[Result], machine: Machine, precision: str) -> None:
    """Write results to OFE_HOME/bench.json, with the machine that they are of."""
    content = {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": machine.cpu,
        "gpus": [gpu.name for gpu in machine.gpus],
        "precision": precision,
        "torch": installed_version("torch"),
        "rows": [result.as_json() for result in results],
    }
    write_json(ensure_home() / FILE, content)
