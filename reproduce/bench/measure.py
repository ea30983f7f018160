"""Measures the rows of one job and prints their ratios as JSON: `python -m reproduce.bench.measure laptop`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch

from reproduce.bench.contenders import (
    SIZES,
    alternate,
    bare_products,
    config,
    library_step,
    our_step,
    passes_over_text,
    resident_bytes,
    training,
)
from reproduce.bench.rows import BLOCKS
from reproduce.environment import threads
from reproduce.jobs import worker
from reproduce.jobs.device import set_up
from reproduce.jobs.executor import LocalProcesses
from reproduce.machine import idle_cores, this_machine
from reproduce.plan.footprint import activation_bytes, footprint
from reproduce.processes import child_environment
from reproduce.specs.load import load_experiment
from reproduce.specs.resolve import resolve
from reproduce.store.runs import Store
from reproduce.training.train import Training

Ratios = dict[str, float]
SWEEP = 8
"""Small runs that are trained at once on a GPU, where their time is compared with that of one after the other."""
TRAINING_STEPS = 2_500
"""Of the laptop run whose time outside its steps is measured: about five minutes on one core."""


class Bench:
    """The measurements. Each method is a job of `reproduce.bench.rows`."""

    def __init__(self, device: torch.device, precision: str, folder: Path) -> None:
        self.device, self.precision, self.folder = device, precision, folder

    def _steps(
        self, size: str, blocks: tuple[str, ...], batch_size: int, rounds: int
    ) -> tuple[Ratios, dict[str, float]]:
        """Shares and ratios of `blocks` at one size, and the seconds behind them."""
        runs = {block: config(SIZES[size] | {"batch_size": batch_size}, block, self.precision) for block in blocks}
        first = runs[blocks[0]]
        contenders = {
            "products": bare_products(first, self.device),
            "library": library_step(first, self.device),
            **{block: our_step(run, self.device, self.folder / block) for block, run in runs.items()},
        }
        seconds = alternate(contenders, self.device, rounds)
        ratios = {f"{block} share": seconds["products"] / seconds[block] for block in blocks}
        ratios |= {f"{block} faster": seconds["library"] / seconds[block] for block in blocks}
        return ratios, seconds

    def laptop(self) -> Ratios:
        return self._steps("laptop", tuple(BLOCKS), 4, rounds=15)[0]

    def laptop_1(self) -> Ratios:
        return self._steps("laptop", tuple(BLOCKS), 1, rounds=31)[0]

    def of_130m(self) -> Ratios:
        return self._steps("130m", ("pre-ln",), 8, rounds=3)[0]

    def of_130m_cuda(self) -> Ratios:
        ratios, seconds = self._steps("130m", ("pre-ln",), 32, rounds=50)
        return ratios | {"80,000 steps": 80_000 * seconds["pre-ln"] / 60}

    def of_1_2b_cuda(self) -> Ratios:
        run = config(SIZES["1.2b"], "pre-ln", self.precision)
        contenders = {
            "products": bare_products(run, self.device),
            "ours": our_step(run, self.device, self.folder / "ours"),
        }
        seconds = alternate(contenders, self.device, rounds=20)
        return {"pre-ln share": seconds["products"] / seconds["ours"]}

    def optimizers(self) -> Ratios:
        rotation = {"lr": 1e-3, "max_precond_dim": 512, "precond_freq": 10}
        optimizers = {"adamw": {"lr": 1e-3}} | {
            name: rotation | {"name": name} for name in ("soap", "adafactor-rotated")
        }
        contenders = {
            name: our_step(
                config(SIZES["laptop"], "pre-srms", self.precision, optimizer=optimizer),
                self.device,
                self.folder / name,
            )
            for name, optimizer in optimizers.items()
        }
        # Two periods of the basis, so that its refreshment counts as often as it happens.
        seconds = alternate({name: _ten(step) for name, step in contenders.items()}, self.device, rounds=3, warm_up=1)
        return {name: seconds[name] / seconds["adamw"] for name in ("soap", "adafactor-rotated")}

    def probes(self) -> Ratios:
        plain = training(config(SIZES["laptop"], "pre-ln", self.precision), self.device, self.folder / "plain")
        probe = {"every": 1_000_000, "batch_size": 8, "moment_updates_layer": 2}
        updating = training(
            config(SIZES["laptop"], "pre-ln", self.precision, probe=probe), self.device, self.folder / "updating"
        )
        assert updating.updates is not None
        updating.updates.step()
        contenders = {
            "step": lambda: _done(plain.advance()),
            "probe": lambda: _done(plain.probe(keep_moments=False)),
            "updating": lambda: _done(updating.advance()),
        }
        seconds = alternate(contenders, self.device, rounds=11)
        every = seconds["probe"] / seconds["step"]
        return {
            "every 100": every / 100,
            "every 10": every / 10,
            "moment updates": seconds["updating"] / seconds["step"],
        }

    def measuring(self) -> Ratios:
        run = config(SIZES["130m"] | {"vocab_size": 2048, "batch_size": 8}, "pre-ln", "fp32")
        seconds = alternate(passes_over_text(run, self.device, self.folder / "gpt2"), self.device, rounds=11)
        return {"measured": seconds["measured"] / seconds["plain"]}

    def memory(self) -> Ratios:
        run = config(SIZES["laptop"], "pre-ln", self.precision)
        before = resident_bytes()
        ours = training(run, self.device, self.folder / "run")
        for _ in range(5):
            ours.advance()
        parts = footprint(run)
        needed = parts.weights + parts.gradients + parts.optimizer + activation_bytes(run, run.batch_size)
        return {"peak": (resident_bytes() - before) / needed}

    def jobs(self) -> Ratios:
        steps = 40
        in_turn = 2 * self._at_once(1, 2, steps)
        at_once = self._at_once(2, 1, steps)
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            given = min(2, idle_cores(this_machine()))  # as `ofe reproduce --jobs 1` gives
            one_thread, as_given = self._at_once(1, 1, steps), self._at_once(1, given, steps)
        finally:
            busy.kill()
            busy.wait()
        return {"two at once": in_turn / at_once, "beside a busy core": one_thread / as_given}

    def sweep_cuda(self) -> Ratios:
        return self.sweep(steps=1_000)

    def sweep(self, steps: int) -> Ratios:
        return {"eight at once": SWEEP * self._at_once(1, 1, steps) / self._at_once(SWEEP, 1, steps)}

    def _at_once(self, processes: int, count: int, steps: int) -> float:
        """Seconds of the clock for so many processes at once that take so many steps each, with `count` threads."""
        command = [sys.executable, "-m", "reproduce.bench.measure", "run-steps", "--steps", str(steps)]
        command += ["--precision", self.precision, "--device", self.device.type]
        environment = LocalProcesses(processes, threads=count).environment(0)
        running = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(processes)
        ]
        slowest = max(float(json.loads(process.communicate()[0])["seconds"]) for process in running)
        check_exit(running)
        return slowest

    def training(self) -> Ratios:
        home = self.folder / "home"
        environment = child_environment(OFE_HOME=str(home), OFE_DEVICE=self.device.type)
        run = ["--scale", "laptop", "--set", f"steps={TRAINING_STEPS}", "--set", f"precision={self.precision}"]
        prepare = [sys.executable, "-m", "reproduce", "data", "prepare", "fig2", *run]  # what a run finds there already
        subprocess.run(prepare, env=environment, capture_output=True, check=True)
        resolved = resolve(load_experiment("fig2"), "laptop", overrides=run[3::2], only_runs=["cp-preln"], seeds=1)
        folder = Store(home).create(resolved.runs[0])
        command = [sys.executable, "-m", "reproduce.bench.measure", "one-run", "--folder", str(folder.path)]
        begin = time.perf_counter()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        whole = time.perf_counter() - begin
        return {"outside": 1 - float(json.loads(done.stdout.splitlines()[-1])["in_steps"]) / whole}

    def commands(self) -> Ratios:
        def seconds(*words: str) -> float:
            command = [sys.executable, "-c", "from reproduce.cli.app import main; main()", *words]
            environment = child_environment(
                OFE_HOME=str(self.folder / "home"),
                PYTHONDONTWRITEBYTECODE="",  # where it is set, every start compiles the package, as no user's does
                PYTHONPYCACHEPREFIX=str(self.folder / "bytecode"),
            )
            begin = time.perf_counter()
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            if done.returncode not in (0, 1):  # verify ends with 1 where a claim is not reproduced
                raise RuntimeError(f"ofe {' '.join(words)}: {done.stderr.strip()[-300:]}")
            return time.perf_counter() - begin

        quick = {"list": ("list",), "show": ("show", "fig2"), "verify": ("verify", "fig2")}
        ratios = {name: min(seconds(*words) for _ in range(3)) for name, words in quick.items()}
        return ratios | {"redraw": seconds("plot", "--from-cache", "--out", str(self.folder / "figures"))}


MEASUREMENTS: dict[str, Callable[[Bench], Ratios]] = {
    "laptop": Bench.laptop,
    "laptop-1": Bench.laptop_1,
    "optimizers": Bench.optimizers,
    "probes": Bench.probes,
    "measuring": Bench.measuring,
    "memory": Bench.memory,
    "jobs": Bench.jobs,
    "commands": Bench.commands,
    "training": Bench.training,
    "130m": Bench.of_130m,
    "130m-cuda": Bench.of_130m_cuda,
    "1.2b-cuda": Bench.of_1_2b_cuda,
    "sweep-cuda": Bench.sweep_cuda,
}
"""How each job of `reproduce.bench.rows.JOBS` is measured."""


def check_exit(running: list[subprocess.Popen[str]]) -> None:
    """Raise RuntimeError if a process has failed."""
    if any(process.wait() for process in running):
        raise RuntimeError("a training ended before its time")


def run_steps(steps: int, precision: str, device: torch.device, folder: Path) -> dict[str, float]:
    """Take steps of the laptop's size, and return their seconds of the clock."""
    ours = training(config(SIZES["laptop"], "pre-ln", precision), device, folder / "run")
    ours.advance()
    begin = time.perf_counter()
    for _ in range(steps):
        ours.advance()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return {"seconds": time.perf_counter() - begin}


def one_run(folder: Path) -> dict[str, float]:
    """Do what a worker does with the run in `folder`, and return the seconds that it has spent in steps.

    Raises:
        RuntimeError: the run failed.
    """
    in_steps = 0.0
    advance = Training.advance

    def timed(self: Training) -> tuple[float, bool]:
        nonlocal in_steps
        begin = time.perf_counter()
        taken = advance(self)
        in_steps += time.perf_counter() - begin
        return taken

    with patch.object(Training, "advance", timed):
        code = worker.main([str(folder)])
    if code != worker.SEALED:
        raise RuntimeError("the run failed")
    return {"in_steps": in_steps}


def _done(_: object) -> None:
    """Make a step of a function that returns something."""


def _ten(step: Callable[[], None]) -> Callable[[], None]:
    def steps() -> None:
        for _ in range(10):
            step()

    return steps


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reproduce.bench.measure", description="measures one job's rows")
    parser.add_argument("job")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="of the run that `one-run` does")
    options = parser.parse_args(arguments)
    set_up()
    if threads() is None:
        torch.set_num_threads(1)
    if options.job == "one-run":
        print(json.dumps(one_run(options.folder)))
        return 0
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        if options.job == "run-steps":
            print(json.dumps(run_steps(options.steps, options.precision, device, Path(folder))))
            return 0
        bench = Bench(device, options.precision, Path(folder))
        print(json.dumps(MEASUREMENTS[options.job](bench)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
