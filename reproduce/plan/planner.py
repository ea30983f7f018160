"""What reproducing figures takes: every run once, whether it is there and why, and what it costs.

The plan is the one answer to "what would be trained": `ofe plan` prints it and `ofe reproduce` trains its `misses`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reproduce.config import RunConfig
from reproduce.job_config import kind_of
from reproduce.machine import Machine
from reproduce.plan.calibration import Basis, Calibration, calibrate, load, threads_per_run
from reproduce.plan.costs import cost_of
from reproduce.plan.devices import NamedDevice, rates_of
from reproduce.plan.footprint import Footprint
from reproduce.plan.history import TO_TRAIN, History, PlannedState
from reproduce.plan.lineage import Required, with_parents
from reproduce.plan.memory import Needs, needs
from reproduce.specs.load import load_setting
from reproduce.specs.resolve import fingerprint_if_any, resolve
from reproduce.specs.runs import Resolved, ResolvedRun
from reproduce.specs.schema import SCALES, Experiment
from reproduce.store.runs import Store


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan."""

    run: ResolvedRun
    state: PlannedState
    reason: str
    """Why it is in that state, in words for the user."""
    figures: tuple[str, ...]
    """Experiments that read it."""
    params: int
    tokens: int
    flops: float
    """Of the whole run."""
    seconds: float
    """Of the whole run, the start of its process included."""
    basis: Basis
    """Where `seconds` comes from."""
    remaining: float
    """Share of the run that is still to be trained, 0 to 1."""
    footprint: Footprint
    keep: frozenset[int]
    """The steps whose weights it is to keep."""
    download: int = 0
    """Bytes of a checkpoint that have to be fetched, unless they are in the hub's cache or the home already."""

    @property
    def hit(self) -> bool:
        return self.state == "sealed"

    @property
    def to_train(self) -> bool:
        """Whether `ofe reproduce` trains it: neither there nor in the hands of another process."""
        return self.state in TO_TRAIN

    @property
    def remaining_seconds(self) -> float:
        return self.remaining * self.seconds

    @property
    def remaining_flops(self) -> float:
        return self.remaining * self.flops

    def as_json(self) -> dict[str, Any]:
        return {
            "key": self.run.key,
            "slug": self.run.slug,
            "kind": kind_of(self.run.config),
            "name": self.run.name,
            "seed": self.run.seed,
            "state": self.state,
            "reason": self.reason,
            "figures": list(self.figures),
            "params": self.params,
            "tokens": self.tokens,
            "flops": self.flops,
            "seconds": self.seconds,
            "seconds_basis": self.basis,
            "remaining_seconds": self.remaining_seconds,
            "memory_bytes": self.footprint.memory,
            "disk_bytes": self.footprint.trace,
            "download_bytes": self.download,
        }


@dataclass(frozen=True)
class Total:
    """Sums over a plan. Costs are of what is still to be trained."""

    runs: int
    hits: int
    misses: int
    """Runs that `ofe reproduce` trains."""
    running: int
    """Runs that another process trains now."""
    shared: int
    """Runs that more than one figure reads."""
    uses: int
    """Runs if no two figures shared any."""
    tokens: int
    flops: float
    seconds: float
    """Wall time with `jobs` runs side by side."""
    memory_bytes: int
    """Most that the runs side by side hold."""
    disk_bytes: int
    """Most that the folders grow by: all new traces and the working files of the runs side by side."""
    download_bytes: int
    """Size of the checkpoints that have to be fetched, unless they are on this machine already."""

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass(frozen=True)
class Plan:
    """Runs of some figures at one scale, each once, in the order in which figures name them."""

    scale: str
    figures: tuple[str, ...]
    jobs: int
    threads: int
    """Threads of each process."""
    machine: Machine
    """What the runs are to be trained on."""
    runs: tuple[PlannedRun, ...]
    devices: int = 1
    """Devices of each run."""

    @property
    def device(self) -> str:
        return self.machine.device

    @property
    def abreast(self) -> int:
        """How many runs are reckoned to go on at once: of those that share a GPU, one after the other."""
        return side_by_side(self.machine, self.jobs, self.devices)

    @property
    def total(self) -> Total:
        todo = [run for run in self.runs if run.to_train]
        memory = sorted((run.footprint.memory for run in todo), reverse=True)
        working = sorted((run.footprint.working_disk - run.footprint.trace for run in todo), reverse=True)
        return Total(
            runs=len(self.runs),
            hits=sum(run.hit for run in self.runs),
            misses=len(todo),
            running=sum(run.state == "running" for run in self.runs),
            shared=sum(len(run.figures) > 1 for run in self.runs),
            uses=sum(len(run.figures) for run in self.runs),
            tokens=round(sum(run.remaining * run.tokens for run in todo)),
            flops=sum(run.remaining_flops for run in todo),
            seconds=makespan([run.remaining_seconds for run in todo], self.abreast),
            memory_bytes=self.devices * sum(memory[: self.jobs]),
            disk_bytes=sum(run.footprint.trace + len(run.keep) * run.footprint.weights for run in todo)
            + sum(working[: self.jobs]),
            download_bytes=sum(run.download for run in todo),
        )

    @property
    def complete(self) -> bool:
        """Whether every run is sealed."""
        return all(run.hit for run in self.runs)

    def as_json(self) -> dict[str, Any]:
        """The shape of `ofe plan --json`, a public contract."""
        return {
            "scale": self.scale,
            "figures": list(self.figures),
            "jobs": self.jobs,
            "threads": self.threads,
            "device": self.device,
            "runs": [run.as_json() for run in self.runs],
            "total": self.total.as_json(),
            "devices": self.devices,
            "memory": [entry.as_json() for entry in self.memory],
        }

    @property
    def memory(self) -> list[Needs]:
        """What the runs take on a device, and on how many of them they fit."""
        trainings = ((run.run.name, run.run.config) for run in self.runs if isinstance(run.run.config, RunConfig))
        return needs(trainings, self.machine)

    @property
    def keep(self) -> dict[str, frozenset[int]]:
        """The steps whose weights each run is to keep, by key."""
        return {run.run.key: run.keep for run in self.runs if run.keep}


def plan(
    resolveds: Sequence[Resolved],
    store: Store,
    machine: Machine,
    *,
    jobs: int = 1,
    devices: int = 1,
    keep_weights: bool = False,
    calibration: Calibration | None = None,
    measure: bool = False,
    named: NamedDevice | None = None,
    report: Callable[[str], None] | None = None,
) -> Plan:
    """The runs of `resolveds`, each once, with their states and costs. Creates nothing but a calibration.

    Args:
        machine: what the runs are to be trained on; it need not be this one.
        jobs: runs to be trained side by side.
        devices: of each run, see `reproduce.plan.devices` on how much faster than one they are reckoned to be.
        named: the device that the runs are to be trained on, where that is not this machine's. Its published rates
            count, and nothing is measured.
        keep_weights: whether all trainings are to keep their final weights. Those that were sealed without are planned
            again, as are the trainings whose weights a planned measurement needs.
        calibration: speed of `machine`; by default what is kept of it in the home.
        measure: first time the machine where it was not yet, about ten seconds a precision, which is only possible
            for this one. Nothing is measured when no run is left to train, or all have their like among the finished
            runs.
        report: told what takes time.
    """
    scales = {resolved.scale for resolved in resolveds}
    assert len(scales) <= 1, "a plan has one scale"
    uses = [(run, one.experiment.id) for one in resolveds for run in (*one.runs, *one.extra)]
    threads = threads_per_run(machine, devices * jobs)
    history = History(store, machine, threads, devices)
    needed = with_parents(uses, history, keep_weights=keep_weights)
    if named is not None:
        calibration = rates_of(named, threads)
    if calibration is None and measure:
        unknown = {
            one.run.precision for one in needed if one.state.state in TO_TRAIN and history.step_seconds(one.run) is None
        }
        calibration = calibrate(machine, unknown, threads, report=report)
    calibration = calibration or load(machine)
    planned = tuple(_planned(one, history, calibration) for one in needed)
    names = tuple(dict.fromkeys(resolved.experiment.id for resolved in resolveds))
    return Plan(next(iter(scales), ""), names, jobs, threads, machine, planned, devices)


def misses(plan: Plan) -> list[ResolvedRun]:
    """The runs to be trained, in the plan's order."""
    return [planned.run for planned in plan.runs if planned.to_train]


@dataclass(frozen=True)
class Price:
    """What an experiment takes at one scale."""

    scale: str
    total: Total
    basis: Basis | None
    """Least certain source of the runs' times; None without a run to train."""
    because: tuple[str, ...]
    """What the scale is for, in the words of each setting."""

    def as_json(self) -> dict[str, Any]:
        return {"scale": self.scale, "seconds_basis": self.basis, "because": list(self.because)} | self.total.as_json()


def price(
    experiment: Experiment, store: Store, machine: Machine, *, jobs: int = 1, calibration: Calibration | None = None
) -> list[Price]:
    """One row a scale that the experiment's settings have, from the cheapest to the paper's."""
    settings = [load_setting(name) for name in experiment.settings]
    rows = []
    for scale in SCALES:
        if any(scale not in setting.scales for setting in settings):
            continue
        resolved = resolve(experiment, scale, fingerprint=fingerprint_if_any, machine=machine)
        planned = plan([resolved], store, machine, jobs=jobs, calibration=calibration)
        because = tuple(setting.scales[scale].because for setting in settings)
        rows.append(Price(scale, planned.total, basis(planned), because))
    return rows


def basis(plan: Plan) -> Basis | None:
    """The least certain source of the times of the runs to train; None if there is none."""
    used = {planned.basis for planned in plan.runs if planned.to_train}
    doubtful: tuple[Basis, ...] = ("not calibrated", "published rates", "calibrated", "measured on this machine")
    return next((one for one in doubtful if one in used), None)


def side_by_side(machine: Machine, jobs: int, devices: int = 1) -> int:
    """How many of `jobs` runs have an accelerator, or their part of one, to themselves; on a CPU all of them."""
    places = len(machine.gpus) // devices if machine.device == "cuda" and machine.gpus else jobs
    return max(1, min(jobs, places))


def makespan(seconds: Sequence[float], jobs: int) -> float:
    """Wall time of tasks that start in this order, each on the first of `jobs` places to fall free."""
    free = [0.0] * max(1, min(jobs, len(seconds)))
    for task in seconds:
        heapq.heapreplace(free, free[0] + task)
    return max(free)


def _planned(one: Required, history: History, calibration: Calibration) -> PlannedRun:
    run, machine = one.run, history.machine
    rate, source = calibration.rate(machine.device, run.precision, history.threads)
    known = history.step_seconds(run)
    cost = cost_of(run, rate, machine, history.devices, known)
    return PlannedRun(
        run=run,
        state=one.state.state,
        reason=one.state.reason,
        figures=one.figures,
        params=cost.params,
        tokens=cost.tokens,
        flops=cost.flops,
        seconds=rate.startup_s + cost.seconds,
        basis="measured on this machine" if known is not None else source,
        remaining=one.state.remaining,
        footprint=cost.footprint,
        keep=one.keep,
        download=cost.download,
    )
