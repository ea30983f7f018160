"""One run from its first step to its sealed trace: a flat loop that can be stopped and continued anywhere.

Everything that decides a number is a function of the configuration and the step: batches of (seed, step), the
learning rate of the step, the probe's batch of nothing. A checkpoint therefore holds the weights, the optimiser,
torch's generator, the divergence rule and how long the trace's files were; a resumed run writes the same trace as
an uninterrupted one, bit for bit on CPU with the same number of threads.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from reproduce import checkpoint
from reproduce.config import Precision, RunConfig
from reproduce.optim import build_optimizer, learning_rate
from reproduce.probes import MomentUpdates, moment_steps, probe_steps, read
from reproduce.store.divergence import Divergence
from reproduce.store.runs import RunFolder
from reproduce.store.trace import TraceWriter

_DTYPE: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Task(Protocol):
    """What a kind of training brings: its model, batches, loss and evaluation."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def tokens_per_step(self) -> int: ...

    def batch(self, step: int) -> Any: ...
    def loss(self, batch: Any) -> Tensor: ...
    def evaluate(self) -> dict[str, float]: ...
    def probe_batch(self, step: int) -> Any: ...
    def encode(self, batch: Any, observe: Any = None, blocks: int | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Execution:
    """How a run is executed: nothing here may change its numbers beyond rounding."""

    device: torch.device
    micro_batch: int | None = None
    """Examples in one forward pass; gradients of a batch are accumulated over its parts. None: the whole batch."""
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
    """Step at which it diverged, None for one that trained to its end."""
    step: int
    trained_steps: int
    """Steps taken by this process; fewer than `step` after a resumption."""
    seconds: float
    """Time this process spent on them."""


def autocast(config: RunConfig, device: torch.device) -> AbstractContextManager[None]:
    """Matrix products in the run's precision; weights, residual stream and reductions stay float32."""
    return torch.autocast(device.type, dtype=_DTYPE[config.precision], enabled=config.precision != "fp32")


def log_every(last_step: int) -> int:
    """Steps over which one record of the train split averages: a trace holds at most 4,000 of them."""
    return math.ceil(last_step / 4_000)


def micro_batches(batch: Tensor, size: int | None) -> Iterable[Tensor]:
    """The batch in parts of at most `size` examples."""
    return (batch,) if size is None else batch.split(size)


class Training:
    """A run in progress: the state that a checkpoint holds, and the loop over it."""

    def __init__(self, config: RunConfig, task: Task, folder: RunFolder, execution: Execution) -> None:
        self.config, self.task, self.folder, self.execution = config, task, folder, execution
        self.optimizer = build_optimizer(config.optimizer, task.model)
        self.scaler = torch.amp.GradScaler(execution.device.type, enabled=config.precision == "fp16")
        self.divergence = Divergence(config.last_step)
        self.step = 0
        self.window: list[tuple[float, float]] = []
        layer = config.probe.moment_updates_layer
        self.updates = None if layer is None else MomentUpdates(layer, self._encode_for_updates)
        state = checkpoint.load(folder.path, execution.device)
        self.writer = TraceWriter(folder.path) if state is None else self._restore(state)

    # -- state -------------------------------------------------------------------------------------

    def save(self) -> None:
        """Make this very step the one that training continues from."""
        state = {
            "step": self.step,
            "model": self.task.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generator": torch.get_rng_state(),
            "divergence": (self.divergence.minimum, self.divergence.streak),
            "window": self.window,
            "trace": self.writer.position(),
        }
        checkpoint.save(self.folder.path, state)

    def _restore(self, state: dict[str, Any]) -> TraceWriter:
        self.step = state["step"]
        self.task.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["generator"].cpu())
        self.divergence.minimum, self.divergence.streak = state["divergence"]
        self.window = [tuple(pair) for pair in state["window"]]
        if self.updates is not None:
            self.updates.step()
        return TraceWriter.resume(self.folder.path, state["trace"])

    # -- parts of a step ---------------------------------------------------------------------------

    def _encode_for_updates(self) -> Tensor:
        assert self.updates is not None
        return self.task.encode(self.task.probe_batch(0), blocks=self.updates.layer - 1)

    def _update(self) -> tuple[float, float, float]:
        """Take one optimiser step; the loss and gradient norm before it and the learning rate it used."""
        config, step = self.config, self.step
        rate = learning_rate(config.schedule, step, config.steps, config.optimizer.lr)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.task.batch(step)
        total = 0.0
        for part in micro_batches(batch, self.execution.micro_batch):
            with autocast(config, self.execution.device):
                loss = self.task.loss(part) * (len(part) / len(batch))
            self.scaler.scale(loss).backward()
            total += float(loss.detach())
        self.scaler.unscale_(self.optimizer)
        parameters = list(self.task.model.parameters())
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.grad_clip or math.inf))
        if math.isfinite(total):
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return total, norm, rate

    def _probe(self, keep_moments: bool) -> float:
        """Measure every layer and record it; the largest kurtosis among them."""
        batch = self.task.probe_batch(self.step)
        with autocast(self.config, self.execution.device):
            reading = read(lambda probe: self.task.encode(batch, probe), self.config.probe.point)
        self.writer.record(self.step, "probe", reading.values)
        if keep_moments:
            for layer, moment in reading.moments.items():
                self.writer.moments(self.step, layer, moment.tolist())
        return reading.peak_kurtosis

    def _evaluate(self) -> None:
        with torch.no_grad(), autocast(self.config, self.execution.device):
            self.writer.record(self.step, "eval", self.task.evaluate())

    def _log(self, loss: float, norm: float, rate: float, every: int) -> None:
        """Record the mean of the last `every` losses and gradient norms at the step where they begin."""
        self.window.append((loss, norm))
        if len(self.window) == every or self.step + 1 == self.config.last_step:
            losses, norms = zip(*self.window, strict=True)
            values = {"loss": sum(losses) / len(losses), "grad_norm": sum(norms) / len(norms), "lr": rate}
            self.writer.record(self.step + 1 - len(losses), "train", values)
            self.window = []

    # -- the loop ----------------------------------------------------------------------------------

    def run(self, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Train to the end, probing, evaluating and saving on the way.

        Args:
            stop: asked once a step; when it says so, the state is saved.

        Raises:
            Interrupted: `stop` said so.
        """
        config, last = self.config, self.config.last_step
        probes, moments = set(probe_steps(last, config.probe.every)), moment_steps(last, config.probe.every)
        every, display = log_every(last), _Display(self)
        begin, started, saved_at = self.step, time.perf_counter(), time.perf_counter()
        failed: int | None = None
        if self.updates is not None and self.step == 0:
            self.updates.step()
        while True:
            # What belongs to this step was recorded before its checkpoint was written, if it is one's first step.
            if not (self.step == begin and begin > 0):
                if self.step in probes or failed is not None:
                    display.peak(self._probe(self.step in moments))
                if self.step % config.eval.every == 0 or self.step == last:
                    self._evaluate()
            if self.step == last or failed is not None:
                break
            if stop():
                self.save()
                raise Interrupted(self.step)
            if time.perf_counter() - saved_at > self.execution.checkpoint_s and self.step > begin:
                self.save()
                saved_at = time.perf_counter()
            loss, norm, rate = self._update()
            self._log(loss, norm, rate, every)
            if self.divergence.update(loss):
                failed = self.step
                if not math.isfinite(loss):  # no step was taken: one more look at the weights, and the run is over
                    if self.step not in probes:
                        self._probe(keep_moments=False)
                    break
            self.step += 1
            if self.updates is not None:
                self.writer.record(self.step, "probe", self.updates.step())
            display.update(loss)
        self.writer.close()
        return Outcome(failed, self.step, self.step - begin, time.perf_counter() - started)


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
        if now - self.written < training.execution.progress_s:
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
                "error": None,
            }
        )
