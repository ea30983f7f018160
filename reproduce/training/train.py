"""One run from its first step to its sealed trace: a flat loop that can be stopped and continued anywhere.

Everything that decides a number is a function of the configuration and the step. A batch depends on the seed and the
step, the learning rate on the step, and the held-out probe batch on neither. A checkpoint therefore holds the weights,
the optimiser, torch's generator, the divergence rule and the length of the trace's files. A resumed run writes the same
trace as an uninterrupted one, bit for bit on a CPU with the same number of threads.

The same loop runs in every process of a group (`reproduce.parallel`). Each process takes its share of the batch, losses
are averaged over all of them, and one of them writes the trace. A single process does the same with a share that is the
whole batch.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from reproduce.cadence import evaluation_steps, log_every, moment_steps, probe_steps
from reproduce.config import RunConfig
from reproduce.environment import Mode
from reproduce.measuring.moment_updates import MomentUpdates
from reproduce.measuring.probe import Probe, measure
from reproduce.optim import build_optimizer, learning_rate
from reproduce.optim.groups import set_learning_rate
from reproduce.parallel import group
from reproduce.parallel.distributed_model import PRODUCT_TYPE, DistributedModel
from reproduce.parallel.shares import shared_parts
from reproduce.store.runs import RunFolder
from reproduce.store.sinks import Values
from reproduce.store.trace import TraceWriter
from reproduce.store.weights import wanted_steps
from reproduce.training import checkpoint
from reproduce.training.divergence import Divergence
from reproduce.training.weights import keep_weights


class Task(Protocol):
    """What a kind of training brings: its model as the seed draws it, batches, loss and evaluation.

    A batch is a `reproduce.parallel.shares.Batch`. A loss is the mean over the examples it is given. An evaluation
    gives the same in all processes of a group: it averages over each one's share, or is done by all of them alike.
    """

    @property
    def model(self) -> nn.Module: ...
    @property
    def tokens_per_step(self) -> int: ...

    def batch(self, step: int) -> Any: ...
    def loss(self, batch: Any) -> Tensor: ...
    def train_metrics(self) -> dict[str, float]: ...
    def evaluate(self) -> dict[str, float]: ...
    def probe_batch(self, step: int) -> Any: ...
    def encode(self, batch: Any, observe: Any = None, blocks: int | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Execution:
    """How a run is executed: nothing here may change its numbers beyond rounding."""

    device: torch.device
    micro_batch: int | None = None
    """Examples in one forward pass; gradients of a batch are accumulated over its parts. None: the whole batch."""
    mode: Mode | None = None
    """How the devices of a group hold the model. None in a single process."""
    recompute: bool = False
    """Whether the backward pass computes each block's activations again instead of keeping them."""
    checkpoint_s: float = 60.0
    """Seconds between two checkpoints."""
    progress_s: float = 0.5
    """Seconds between two updates of the live state."""


class Interrupted(Exception):
    """The run was asked to stop and has saved its state at `step`."""

    def __init__(self, step: int) -> None:
        super().__init__(f"interrupted at step {step}")
        self.step = step


@dataclass
class Outcome:
    """How a training ended."""

    failed_step: int | None
    """Number of the update whose loss failed, which was not taken, or None for a run that trained to its end.

    The last records of the trace, of the train and of the probe split, are at this step.
    """
    step: int
    trained_steps: int
    """Steps taken by this process; fewer than `step` after a resumption."""
    seconds: float
    """Time this process spent on them."""


def autocast(config: RunConfig, device: torch.device) -> AbstractContextManager[None]:
    """Matrix products in the run's precision; weights, residual stream and reductions stay float32."""
    return torch.autocast(device.type, dtype=PRODUCT_TYPE[config.precision], enabled=config.precision != "fp32")


class Training:
    """A run in progress: the state that a checkpoint holds, and the loop over it."""

    def __init__(self, config: RunConfig, task: Task, folder: RunFolder, execution: Execution) -> None:
        self.config, self.task, self.folder, self.execution = config, task, folder, execution
        self.model = DistributedModel(
            task.model, config, execution.device, execution.mode, recompute=execution.recompute
        )
        self.optimizer = build_optimizer(config.optimizer, task.model)
        self.scaler = torch.amp.GradScaler(execution.device.type, enabled=config.precision == "fp16")
        self.divergence = Divergence(config.last_step)
        self.step = 0
        self.window: list[dict[str, float]] = []
        layer = config.probe.moment_updates_layer
        self.updates = None if layer is None else MomentUpdates(layer, self._encode_for_updates)
        self.keep = group.from_chief(wanted_steps(folder.path))
        with checkpoint.of_this_version(folder.path):
            state = checkpoint.load(folder.path, task.model, self.optimizer, execution.device, execution.mode)
            self.resumed = state is not None
            if state is not None:
                self._restore(state)
            position = None if state is None else state["trace"]
        self.writer = open_trace(folder.path, position)

    # -- state -------------------------------------------------------------------------------------

    def save(self) -> None:
        """Make this very step the one that training continues from."""
        rest = {
            "step": self.step,
            "scaler": self.scaler.state_dict(),
            "generator": torch.get_rng_state(),
            "divergence": vars(self.divergence),
            "window": self.window,
            "trace": self.writer.position(),
        }
        checkpoint.save(self.folder.path, self.task.model, self.optimizer, rest, self.execution.mode)

    def _restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["generator"].cpu())
        self.divergence = Divergence(**state["divergence"])
        self.window = state["window"]
        if self.updates is not None:
            self.updates.step()

    # -- parts of a step ---------------------------------------------------------------------------

    def _encode_for_updates(self) -> Tensor:
        assert self.updates is not None
        (mine,) = shared_parts(self.task.probe_batch(0), None)
        blocks = self.updates.layer - 1
        return self.model.look(lambda: self.task.encode(mine, blocks=blocks))

    def _differentiate(self) -> dict[str, float]:
        """Leave the clipped gradients of the step's batch on the parameters, and return what its train record holds."""
        config, step = self.config, self.step
        rate = learning_rate(config.schedule, step, config.steps, config.optimizer.lr)
        set_learning_rate(self.optimizer, rate)
        batch = self.task.batch(step)
        parts = shared_parts(batch, self.execution.micro_batch)
        total = 0.0
        for number, part in enumerate(parts, start=1):
            with self.model.accumulating(more=number < len(parts)):
                with autocast(config, self.execution.device):
                    loss = self.model.train(partial(self.task.loss, part)) * (len(part) / len(batch))
                self.scaler.scale(loss).backward()
            total += float(loss.detach())
        total = group.added(total)
        self.model.sum_gradients()
        self.scaler.unscale_(self.optimizer)  # norm and clipping are of the gradients as they are
        norm = self.model.clip(config.grad_clip or math.inf)
        return {"loss": total, "grad_norm": norm, **self.task.train_metrics(), "lr": rate}

    def encode(self, part: Any, observe: Any) -> None:
        """Show the model's named points on a part of a batch, which makes a training a subject of measurements."""
        self.model.look(partial(self.task.encode, part, observe))

    def _fails(self, taken: dict[str, float]) -> bool:
        """Whether the run has failed with the step of the record `taken`, which is then not to be taken."""
        skipped = self.scaler.is_enabled() and not math.isfinite(taken["grad_norm"])
        return self.divergence.update(taken["loss"], skipped=skipped)

    def _take(self) -> None:
        """Take the optimiser step along the gradients; the gradient scaler skips it where they are not finite."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def _probe(self, keep_moments: bool) -> float:
        """Measure every layer and record it; the largest kurtosis among them."""
        parts = shared_parts(self.task.probe_batch(self.step), self.execution.micro_batch)
        with autocast(self.config, self.execution.device):
            reading = measure(self, parts, Probe(self.config.probe.point))
        self.writer.record(self.step, "probe", reading.values)
        if keep_moments:
            for layer, moment in reading.moments.items():
                self.writer.moments(self.step, layer, moment.tolist())
        return reading.peak_kurtosis

    def _evaluate(self) -> None:
        with torch.no_grad(), autocast(self.config, self.execution.device):
            self.writer.record(self.step, "eval", self.model.look(self.task.evaluate))

    def _log(self, taken: dict[str, float], *, failed: bool) -> None:
        """Add a step to the window of steps that one record averages, and write the window once it is complete.

        A step that fails the run gets a record of its own, so that the trace ends with it and a loss that is not
        finite does not spoil the mean of those before.
        """
        if failed:
            self._write_window(end=self.step)
        self.window.append(taken)
        if failed or len(self.window) == log_every(self.config.last_step) or self.step + 1 == self.config.last_step:
            self._write_window(end=self.step + 1)

    def _write_window(self, end: int) -> None:
        """Record the means over the window, and its last learning rate, at the step where it begins; empty it."""
        if self.window:
            count, last = len(self.window), self.window[-1]
            means = {name: sum(step[name] for step in self.window) / count for name in last}
            self.writer.record(end - count, "train", means | {"lr": last["lr"]})
            self.window = []

    # -- the loop ----------------------------------------------------------------------------------

    def run(self, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Train to the end, probing, evaluating and saving on the way.

        Args:
            stop: called before each step. When it returns True, the state is saved and training ends there.

        Raises:
            Interrupted: `stop` returned True.
        """
        config, last = self.config, self.config.last_step
        probes, moments = set(probe_steps(last, config.probe.every)), set(moment_steps(last, config.probe.every))
        evaluations = set(evaluation_steps(last, config.eval.every))
        display = _Display(self)
        begin, started, saved_at = self.step, time.perf_counter(), time.perf_counter()
        failed = False
        if self.updates is not None and not self.resumed:
            self.updates.step()
        while True:
            # What belongs to the step of a checkpoint was recorded before it was written.
            if not (self.resumed and self.step == begin):
                if self.step in probes:
                    display.peak(self._probe(self.step in moments))
                if self.step in evaluations:
                    self._evaluate()
                if self.step in self.keep:
                    keep_weights(self.folder.path, self.task.model, self.step, last)
            if self.step == last:
                break
            due = time.perf_counter() - saved_at > self.execution.checkpoint_s and self.step > begin
            stopped, due = group.anyone(stop(), due)
            if stopped:
                self.save()
                raise Interrupted(self.step)
            if due:
                self.save()
                saved_at = time.perf_counter()
            taken = self._differentiate()
            failed = self._fails(taken)
            self._log(taken, failed=failed)
            if failed:
                if self.step not in probes:  # one more look at the weights that the loss was computed with
                    self._probe(keep_moments=False)
                break
            self._take()
            if self.updates is not None:
                self.writer.record(self.step, "probe", self.updates.step())
            display.update(taken["loss"])
        self.writer.close()
        return Outcome(self.step if failed else None, self.step, self.step - begin, time.perf_counter() - started)


class NoTrace:
    """The sink of the processes that do not write the trace: it discards everything."""

    def record(self, step: int, split: str, values: Values) -> None: ...
    def moments(self, step: int, layer: str, second_moment: Sequence[float]) -> None: ...
    def close(self) -> None: ...

    def position(self) -> dict[str, int]:
        return {}


def open_trace(folder: Path, position: Mapping[str, int] | None) -> TraceWriter | NoTrace:
    """The trace to append to, from its beginning or from the `position` that a checkpoint kept."""
    if not group.chief():
        return NoTrace()
    return TraceWriter(folder) if position is None else TraceWriter.resume(folder, position)


class _Display:
    """Keeps the run folder's progress.json current, at most every `progress_s` seconds."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.begin, self.began = training.step, time.perf_counter()
        self.written, self.highest = 0.0, float("nan")

    def peak(self, kurtosis: float) -> None:
        self.highest = kurtosis if math.isnan(self.highest) else max(self.highest, kurtosis)

    def update(self, loss: float) -> None:
        training, now = self.training, time.perf_counter()
        if not group.chief() or now - self.written < training.execution.progress_s:
            return
        self.written = now
        pace = (training.step - self.begin) / (now - self.began)
        training.folder.write_progress(
            {
                "state": "running",
                "step": training.step,
                "steps": training.config.last_step,
                "loss": loss,
                "tokens_per_s": pace * training.task.tokens_per_step,
                "peak_kurtosis": self.highest,
                "eta_s": (training.config.last_step - training.step) / pace,
                "started": self.started,
                "updated": datetime.now(UTC).isoformat(timespec="seconds"),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "launcher": os.getppid(),
                "error": None,
            }
        )
