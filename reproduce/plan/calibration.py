"""How fast this machine trains: a short measurement, kept in `OFE_HOME/calibration.json`.

The file maps a machine (processor, accelerators, torch's version) to its rates by `device/precision/threads`. A
rate is measured by another process (`reproduce.plan.calibrate`), in about ten seconds, and only when asked for.
Whatever in the file cannot be read counts as not measured.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from reproduce.cadence import evaluation_steps, probe_steps
from reproduce.config import RunConfig
from reproduce.errors import OfeError
from reproduce.machine import Machine
from reproduce.models.size import forward_flops, input_flops, preconditioner_flops, step_flops
from reproduce.processes import child_environment
from reproduce.store.atomic import write_json
from reproduce.store.home import ensure_home, ofe_home
from reproduce.store.json_text import loads
from reproduce.store.regular import text_of

FILE = "calibration.json"
SCHEMA = 1
TIMEOUT_S = 60.0

Basis = Literal["measured on this machine", "calibrated", "published rates", "not calibrated"]
"""Where an estimate of time comes from: earlier runs alike, the calibration, the published rates of a named device
(`reproduce.plan.devices`), or a guess at an ordinary machine."""


@dataclass(frozen=True)
class Rate:
    """Seconds of a training step by its FLOPs, the speed of preconditioning, and the time a process takes to start."""

    steps: tuple[tuple[float, float], ...]
    """(FLOPs, seconds) of timed steps, by rising FLOPs."""
    preconditioner_flop_per_s: float
    startup_s: float

    def step_seconds(self, flops: float) -> float:
        """Time of a step: between the timed ones by a power law, beyond them as fast as the nearest.

        Below the smallest, a step takes as long as that: it is all overhead.
        """
        sizes = [size for size, _ in self.steps]
        index = bisect.bisect_left(sizes, flops)
        if index == 0:
            return self.steps[0][1]
        size, seconds = self.steps[index - 1]
        if index == len(sizes):
            return seconds * flops / size
        larger, longer = self.steps[index]
        return seconds * (flops / size) ** (math.log(longer / seconds) / math.log(larger / size))

    def run_seconds(self, config: RunConfig) -> float:
        """Time of a whole run, with its probes and evaluations, once its process has started."""
        training = step_flops(config)
        step = self.step_seconds(training)
        probes = probe_steps(config.last_step, config.probe.every)
        evaluations = evaluation_steps(config.last_step, config.eval.every)
        examples: float = len(probes) * config.probe.batch_size
        examples += len(evaluations) * config.eval.batches * config.batch_size
        if config.probe.moment_updates_layer is not None:  # at every step, as far as that layer
            depth = (config.probe.moment_updates_layer - 1) / config.model.layers
            examples += config.last_step * config.probe.batch_size * depth
        measuring = self.forward_seconds(config, examples)
        step += self.step_seconds(training) * input_flops(config) / training
        return config.last_step * (step + preconditioner_flops(config) / self.preconditioner_flop_per_s) + measuring

    def forward_seconds(self, config: RunConfig, examples: float) -> float:
        """Time of the forward pass of so many examples, as a probe or an evaluation takes it."""
        training = step_flops(config)
        return examples * forward_flops(config) * self.step_seconds(training) / training


def guess(device: str, precision: str, threads: int) -> Rate:
    """The rate of an ordinary machine, for who has not measured."""
    if device == "cuda":
        return Rate(((1e10, 0.01), (1e12, 0.02)), 1e12, 8.0)
    speed = (4e10 if precision == "fp32" else 1e11) * threads
    return Rate(((1e8, 0.005), (1e10, 1e10 / speed)), 4e10 * threads, 4.0)


def threads_per_run(machine: Machine, jobs: int) -> int:
    """Threads that each of `jobs` runs gets when they share the cores of `machine`."""
    return max(1, machine.cores // max(1, jobs))


@dataclass(frozen=True)
class Calibration:
    """The rates that were measured on one machine, or published for it, by `device/precision/threads`."""

    rates: dict[str, Rate]
    basis: Basis = "calibrated"

    def find(self, device: str, precision: str, threads: int) -> Rate | None:
        """The rate for so many threads, or for the most that were measured below; None if there is none."""
        for count in range(threads, 0, -1):
            if (rate := self.rates.get(f"{device}/{precision}/{count}")) is not None:
                return rate
        return None

    def rate(self, device: str, precision: str, threads: int) -> tuple[Rate, Basis]:
        """The rate to reckon with, and whether it was measured."""
        found = self.find(device, precision, threads)
        return (found, self.basis) if found else (guess(device, precision, threads), "not calibrated")


def load(machine: Machine) -> Calibration:
    """What is known of `machine`; empty where nothing is."""
    return _parse(_read().get("machines", {}).get(_identifier(machine), {}))


def calibrate(
    machine: Machine,
    precisions: Iterable[str],
    threads: int = 1,
    *,
    again: bool = False,
    report: Callable[[str], None] | None = None,
) -> Calibration:
    """Measure what is not yet known of this machine, about ten seconds a precision, and keep it.

    A measurement that fails leaves its precision uncalibrated and says so through `report`. Where the home cannot be
    written the result holds for this process alone.

    Args:
        machine: the one that this process runs on, since no other can be measured from here.
        precisions: of the runs to be planned.
        threads: that each run will have.
        again: measure also what is known.
    """
    say = report or (lambda line: None)
    known = load(machine).rates
    fresh: dict[str, Any] = {}
    for precision in sorted(set(precisions)):
        name = f"{machine.device}/{precision}/{threads}"
        if name in known and not again:
            continue
        say(f"timing training steps in {precision}")
        try:
            fresh[name] = _measure(machine.device, precision, threads)
        except OfeError as error:
            say(f"{precision} could not be timed: {error.message}")
    if fresh:
        try:
            _save(machine, fresh)
        except OfeError as error:
            say(f"the calibration is not kept: {error.message}")
    return Calibration(known | _parse(fresh).rates)


def _measure(name: str, precision: str, threads: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "reproduce.plan.calibrate"]
    command += ["--device", name, "--precision", precision, "--threads", str(threads)]
    environment = child_environment(OMP_NUM_THREADS=str(threads))
    begin = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False)
    except subprocess.TimeoutExpired as error:
        raise OfeError(f"no result within {TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise OfeError(last)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured | {"startup_s": time.perf_counter() - begin - measured["measuring_s"]}


# ---------------------------------------------------------------------------------------------------
# The file


def calibration_file() -> Path:
    return ofe_home() / FILE


def _facts(machine: Machine) -> dict[str, Any]:
    """What tells machines apart in the file."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "none"
    return {"cpu": machine.cpu, "gpus": [gpu.name for gpu in machine.gpus], "torch": torch}


def _identifier(machine: Machine) -> str:
    return hashlib.sha256(json.dumps(_facts(machine), sort_keys=True).encode()).hexdigest()[:12]


def _read() -> dict[str, Any]:
    """The file; empty where it is missing, unreadable or of another form, since it can be measured again."""
    try:
        content = loads(text_of(calibration_file()))
    except (OSError, ValueError):
        return {}
    whole = isinstance(content, dict) and content.get("schema") == SCHEMA and isinstance(content.get("machines"), dict)
    return content if whole else {}


def _save(machine: Machine, fresh: dict[str, Any]) -> None:
    machines = _read().get("machines", {})
    name = _identifier(machine)
    earlier = machines.get(name, {}).get("rates", {})
    machines[name] = _facts(machine) | {"rates": earlier | fresh}
    write_json(ensure_home() / FILE, {"schema": SCHEMA, "machines": machines})


def _parse(entry: dict[str, Any]) -> Calibration:
    """Rates from an entry of the file, or straight from a measurement."""
    rates = {}
    for name, measured in entry.get("rates", entry).items():
        try:
            steps = sorted((float(flops), float(seconds)) for flops, seconds in measured["steps"])
            rate = Rate(tuple(steps), float(measured["preconditioner_flop_per_s"]), float(measured["startup_s"]))
        except (KeyError, TypeError, ValueError):
            continue
        if steps and rate.preconditioner_flop_per_s > 0 and all(min(pair) > 0 for pair in steps):
            rates[name] = rate
    return Calibration(rates)
