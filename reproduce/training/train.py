"""The training loop of one run, from its first step to its complete trace. It can stop and resume at any step.

Everything that decides a number is a function of the configuration and the step. A batch depends on the seed and the
step, the learning rate on the step, and the held-out probe batch on neither. A checkpoint therefore needs no position
in the data. It holds the weights, the optimiser, torch's generator, the divergence rule and the length of the trace's
files. A resumed run writes the same trace as an uninterrupted one, bit for bit on a CPU with the same number of
threads.

The same loop runs in every process of a group (`reproduce.parallel`). Each process computes on its share of the batch,
the losses of the shares are added up to that of the batch, and one process writes the trace. In a single process the
share is the whole batch.
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
from reproduce.machine import this_machine
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
    """What a kind of training consists of: an initialised model, batches, a loss and an evaluation.

    A batch is a `reproduce.parallel.shares.Batch`: it can be counted and sliced along its examples.
    """

    @property
    def model(self) -> nn.Module:
        """The model, initialised from the run's seed."""
        ...

    @property
    def tokens_per_step(self) -> int:
        """Number of tokens, or positions of images, in the batch of one step."""
        ...

    def batch(self, step: int) -> Any:
        """The whole training batch of update number `step`, the same in all processes."""
        ...

    def loss(self, batch: Any) -> Tensor:
        """The mean loss over the examples of `batch`, -> ()."""
        ...

    def train_metrics(self) -> dict[str, float]:
        """Metrics of the training batches since the last call, over all processes. The loss is not among them."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Metrics on held-out data, the same in all processes."""
        ...

    def probe_batch(self, step: int) -> Any:
        """The batch on which the activations are measured after `step` steps."""
        ...

    def encode(self, batch: Any, observe: Any = None, blocks: int | None = None) -> Tensor:
        """Run the model on `batch` without its last layer, and show `observe` the named points on the way."""
        ...


@dataclass(frozen=True)
class Execution:
    """How a run is executed. Nothing here may change its numbers beyond rounding, so that its key leaves it out."""

    device: torch.device
    micro_batch: int | None = None
    """Number of examples in one forward pass, over which gradients are accumulated. None: the whole batch."""
    mode: Mode | None = None
    """How the processes of a group hold the model, see `reproduce.parallel.distributed_model`. None for one process."""
    recompute: bool = False
    """Activation checkpointing: the backward pass recomputes each block's activations, which are then not kept."""
    checkpoint_s: float = 60.0
    """Least number of seconds between two checkpoints."""
    progress_s: float = 0.5
    """Least number of seconds between two updates of progress.json."""


class Interrupted(Exception):
    """The run was asked to stop and has saved its state at `step`."""

    def __init__(self, step: int) -> None:
        super().__init__(f"interrupted at step {step}")
        self.step = step


@dataclass
class Outcome:
    """How a training ended."""

    failed_step: int | None
    """Number of the update that failed the run and was not taken, or None for a run that trained to its end.

    The last records of the trace in the train and the probe split are at this step.
    """
    step: int
    """Number of optimiser steps taken in total."""
    trained_steps: int
    """Number of steps taken by this process. It is smaller than `step` after a resumption."""
    seconds: float
    """Time that this process spent on them, in seconds."""


def autocast(config: RunConfig, device: torch.device) -> AbstractContextManager[None]:
    """A context in which matrix products have the run's precision. Weights, stream and reductions stay float32."""
    return torch.autocast(device.type, dtype=PRODUCT_TYPE[config.precision], enabled=config.precision != "fp32")


class Training:
    """A training in progress: the state that a checkpoint holds, and the loop that advances it.

    Args:
        folder: the run folder. Training resumes from its checkpoint if it has one.

    Raises:
        OfeError: the checkpoint is damaged or does not fit this version of the code, or the devices cannot divide the
            optimiser or the batch among them.
    """

    def __init__(self, config: RunConfig, task: Task, folder: RunFolder, execution: Execution) -> None:
        self.config, self.task, self.folder, self.execution = config, task, folder, execution
        self.model = DistributedModel(
            task.model, config, execution.device, execution.mode, recompute=execution.recompute
        )
        self.optimizer = build_optimizer(config.optimizer, task.model)
        # The scaler keeps float16 gradients from underflowing. In other precisions it is off and changes nothing.
        self.scaler = torch.amp.GradScaler(execution.device.type, enabled=config.precision == "fp16")
        self.divergence = Divergence(config.last_step)  # of the steps that are trained, which may be fewer than planned
        self.step = 0  # optimiser steps taken, and so the number of the next update
        self.window: list[dict[str, float]] = []  # the steps whose means the next train record will hold
        layer = config.probe.moment_updates_layer
        self.updates = None if layer is None else MomentUpdates(layer, self._encode_for_updates)
        # The chief reads the file for all: writing weights takes all processes, so they have to agree on the steps.
        self.keep = group.from_chief(wanted_steps(folder.path))
        with checkpoint.of_this_version(folder.path):
            state = checkpoint.load(folder.path, task.model, self.optimizer, execution.device, execution.mode)
            self.resumed = state is not None
            if state is not None:
                self._restore(state)
            position = None if state is None else state["trace"]
        # Records after the checkpoint are dropped here. The steps that they belong to are taken again.
        self.writer = open_trace(folder.path, position)

    # -- state -------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint, from which training resumes before its next step."""
        rest = {
            "step": self.step,
            "scaler": self.scaler.state_dict(),
            "generator": torch.get_rng_state(),
            "divergence": vars(self.divergence),
            "window": self.window,
            "trace": self.writer.position(),  # waits for the disk: a trace must not lag behind its checkpoint
            "threads": torch.get_num_threads(),
        }
        checkpoint.save(self.folder.path, self.task.model, self.optimizer, rest, self.execution.mode)

    def _restore(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        if state["scaler"]:  # empty for a scaler that is off
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["generator"].cpu())
        self.divergence = Divergence(**state["divergence"])
        self.window = state["window"]
        if self.execution.device.type == "cpu":  # rounding depends on the number of threads
            threads = state.get("threads", torch.get_num_threads())  # checkpoints of earlier versions do not say
            torch.set_num_threads(min(threads, this_machine().cores))
        if self.updates is not None:
            self.updates.step()  # computes the activations before the next step again, which no checkpoint holds

    # -- parts of a step ---------------------------------------------------------------------------

    def _encode_for_updates(self) -> Tensor:
        """The stream (..., d) at the input of the block `moment_updates_layer`, on this process's probe examples.

        There is no autocast here: `MomentUpdates` needs float32.
        """
        assert self.updates is not None
        (mine,) = shared_parts(self.task.probe_batch(0), None)
        blocks = self.updates.layer - 1  # layers count from 1, and the input of block l is the output of block l - 1
        return self.model.look(lambda: self.task.encode(mine, blocks=blocks))

    def _differentiate(self) -> dict[str, float]:
        """Compute the clipped gradients of the next step's batch into `.grad`, and return the values of its record."""
        config, step = self.config, self.step
        # The schedule spans `steps`, even if training ends before, at `last_step`.
        rate = learning_rate(config.schedule, step, config.steps, config.optimizer.lr)
        set_learning_rate(self.optimizer, rate)
        batch = self.task.batch(step)
        parts = shared_parts(batch, self.execution.micro_batch)
        loss_so_far = torch.zeros((), dtype=torch.float64, device=self.execution.device)
        for number, part in enumerate(parts, start=1):
            with self.model.accumulating(more=number < len(parts)):
                with autocast(config, self.execution.device):
                    # A part's mean loss is weighted by its share of the batch, so that losses and gradients of all
                    # parts and processes add up to those of the batch, whatever the sizes of the parts.
                    loss = self.model.train(partial(self.task.loss, part)) * (len(part) / len(batch))
                self.scaler.scale(loss).backward()
            loss_so_far += loss.detach()  # before the scaler's factor
        self.model.sum_gradients()
        self.scaler.unscale_(self.optimizer)  # before clipping: the threshold is meant for unscaled gradients
        norm = self.model.clip(config.grad_clip or math.inf)  # the norm before clipping
        # A GPU is waited for once a step: here.
        total, norm = torch.stack((loss_so_far, norm.double())).tolist()
        total = group.added(total)  # all processes get the same loss, and so agree on whether the run fails
        return {"loss": total, "grad_norm": norm, **self.task.train_metrics(), "lr": rate}

    def encode(self, part: Any, observe: Any) -> None:
        """Show `observe` the model's named points on a part of a batch (see `reproduce.measuring.probe.Subject`)."""
        self.model.look(partial(self.task.encode, part, observe))

    def _fails(self, taken: dict[str, float]) -> bool:
        """Whether the run fails at the step with the record `taken`. A failing step must not be taken."""
        # Only the gradient scaler of float16 skips steps, and it does where a gradient is not finite.
        skipped = self.scaler.is_enabled() and not math.isfinite(taken["grad_norm"])
        return self.divergence.update(taken["loss"], skipped=skipped)

    def _take(self) -> None:
        """Take the optimiser step. The gradient scaler skips it if the gradients are not finite."""
        self.scaler.step(self.optimizer)
        self.scaler.update()  # adapts the scale, which becomes smaller after a skipped step
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def probe(self, keep_moments: bool) -> float:
        """Measure and record the metrics of every layer, and return the largest kurtosis among them."""
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
        """Add a step to the window over which one train record averages, and write the window if it is complete.

        A step that fails the run gets a record of its own. The trace then ends with it, and a loss that is not finite
        does not spoil the mean of the losses before it.
        """
        if failed:
            self._write_window(end=self.step)
        self.window.append(taken)
        if failed or len(self.window) == log_every(self.config.last_step) or self.step + 1 == self.config.last_step:
            self._write_window(end=self.step + 1)

    def _write_window(self, end: int) -> None:
        """Record the means over the window and its last learning rate, at the step where it begins, and empty it.

        Args:
            end: the step after the window's last one.
        """
        if self.window:
            count, last = len(self.window), self.window[-1]
            means = {name: sum(step[name] for step in self.window) / count for name in last}
            self.writer.record(end - count, "train", means | {"lr": last["lr"]})
            self.window = []

    def advance(self) -> tuple[float, bool]:
        """Take one step, unless the run fails at it, and record it.

        Returns:
            The loss of the step's batch, and whether the run failed.
        """
        taken = self._differentiate()
        failed = self._fails(taken)
        self._log(taken, failed=failed)
        if not failed:
            self._take()
            if self.updates is not None:
                self.writer.record(self.step, "probe", self.updates.step())
        return taken["loss"], failed

    # -- the loop ----------------------------------------------------------------------------------

    def run(self, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Train to the end. Probe, evaluate and save on the way, at the steps of `reproduce.cadence`.

        Args:
            stop: is called before each step. When it returns True in any process, all save the state and end there.

        Raises:
            Interrupted: `stop` returned True.
            OfeError: the disk is full or cannot be written.
        """
        config, last = self.config, self.config.last_step
        probes, moments = set(probe_steps(last, config.probe.every)), set(moment_steps(last, config.probe.every))
        evaluations = set(evaluation_steps(last, config.eval.every))
        display = _Display(self)
        begin, started, saved_at = self.step, time.perf_counter(), time.perf_counter()
        failed = False
        if self.updates is not None and not self.resumed:
            self.updates.step()  # keeps the activations before the first step; `_restore` does so after a resumption
        while True:
            # Look at the weights after `self.step` steps. What belongs to the step of a checkpoint was recorded before
            # the checkpoint was written, so a resumed run must not record it twice.
            if not (self.resumed and self.step == begin):
                if self.step in probes:
                    display.peak(self.probe(self.step in moments))
                if self.step in evaluations:
                    self._evaluate()
                if self.step in self.keep:
                    keep_weights(self.folder.path, self.task.model, self.step, last)
            if self.step == last:
                break

            # Save, if it is time. The processes decide together, since all have to take part in a checkpoint.
            due = time.perf_counter() - saved_at > self.execution.checkpoint_s and self.step > begin
            stopped, due = group.anyone(stop(), due)
            if stopped:
                self.save()
                raise Interrupted(self.step)
            if due:
                self.save()
                saved_at = time.perf_counter()

            loss, failed = self.advance()
            if failed:
                if self.step not in probes:  # the weights that gave the failing loss have not been measured yet
                    self.probe(keep_moments=False)
                break
            display.update(loss)
        self.writer.close()
        return Outcome(self.step if failed else None, self.step, self.step - begin, time.perf_counter() - started)


class NoTrace:
    """The trace of the processes that write none. It discards every record."""

    def record(self, step: int, split: str, values: Values) -> None: ...
    def moments(self, step: int, layer: str, second_moment: Sequence[float]) -> None: ...
    def close(self) -> None: ...

    def position(self) -> dict[str, int]:
        return {}


def open_trace(folder: Path, position: Mapping[str, int] | None) -> TraceWriter | NoTrace:
    """The trace that this process appends to. All but the chief have one that discards everything.

    Args:
        position: the position that a checkpoint holds, or None to begin a new trace.

    Raises:
        OfeError: the trace is shorter than `position` says, or cannot be written.
    """
    if not group.chief():
        return NoTrace()
    return TraceWriter(folder) if position is None else TraceWriter.resume(folder, position)


class _Display:
    """Updates the run folder's progress.json, which displays read, at most every `progress_s` seconds."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.begin, self.began = training.step, time.perf_counter()
        self.written, self.highest = 0.0, float("nan")

    def peak(self, kurtosis: float) -> None:
        """Take in the largest kurtosis of a probe. The largest so far is shown."""
        self.highest = kurtosis if math.isnan(self.highest) else max(self.highest, kurtosis)

    def update(self, loss: float) -> None:
        """Write the state after the step just taken, whose loss was `loss`, if the last update is old enough."""
        training, now = self.training, time.perf_counter()
        if not group.chief() or now - self.written < training.execution.progress_s:
            return
        self.written = now
        pace = (training.step - self.begin) / (now - self.began)  # steps per second since this process began
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
