"""The work of a measurement: it measures weights that a training has kept, and writes a trace of one step.

A measurement on a text of the user's choice, of a training or of any checkpoint, is in `reproduce.jobs.checkpoint`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from reproduce.environment import environment
from reproduce.errors import OfeError
from reproduce.job_config import MeasureConfig, RunParent
from reproduce.jobs import checkpoint
from reproduce.jobs.device import as_many_threads_as, pick_device
from reproduce.jobs.lineage import parent_folder
from reproduce.measuring.probe import ByLayer, Probe, measure
from reproduce.parallel.shares import shared_parts
from reproduce.processes import StopAsked
from reproduce.store.runs import RunFolder
from reproduce.store.weights import read_weights
from reproduce.training.tasks import build_task
from reproduce.training.train import Interrupted, Task, autocast, open_trace
from reproduce.training.weights import load_weights


@dataclass(frozen=True)
class TrainedModel:
    """The model of a task as a `reproduce.measuring.probe.Subject`."""

    task: Task

    def encode(self, batch: Any, observe: Callable[[str, str, Tensor], None]) -> object:
        return self.task.encode(batch, observe)


def work(folder: RunFolder, config: MeasureConfig, stop: StopAsked) -> dict[str, Any]:
    """Measure the model that `config` names, write the trace to `folder`, and return its provenance.

    Raises:
        Interrupted: `stop` returned True. No state is saved, since a measurement takes little time.
        OfeError: the parent is not in the store, or has not kept the weights that are to be measured.
    """
    if config.text is not None:
        return checkpoint.work(folder, config, stop)
    begin = time.perf_counter()
    assert isinstance(config.parent, RunParent), "a checkpoint from elsewhere is measured on a text"
    parent = parent_folder(folder, config.parent)
    as_many_threads_as(parent)
    weights = parent.weights_file(config.parent.step)
    trained = parent.training()
    probe = trained.probe.model_copy(update={"batch_size": config.examples, "on": "held-out"})
    # The parent's task, except that the probe batch and the precision are those of the measurement.
    training = trained.model_copy(update={"probe": probe, "precision": config.precision})

    device = pick_device()
    task, data = build_task(training, device)
    task.model.to(device)
    load_weights(weights, task.model)
    if stop():
        raise Interrupted(config.parent.step)
    parts = shared_parts(task.probe_batch(0), environment().micro_batch)
    with autocast(training, device):
        reading = measure(TrainedModel(task), parts, Probe(config.point))
        later = _later(task, parts, config)

    step, kept = config.parent.step, read_weights(parent.path)
    writer = open_trace(folder.path, None)
    writer.record(step, "probe", reading.values)
    if later:
        writer.record(step, "skipped", later)
    for layer, moment in reading.moments.items():
        writer.moments(step, layer, moment.tolist())
    writer.close()
    # A measurement takes no steps and cannot diverge, but plots and claims read these fields of every trace.
    return {
        "data": data,
        "seconds": time.perf_counter() - begin,
        "trained_steps": 0,
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "precision": config.precision,
        "parent": {
            "name": parent.path.name,
            "step": step,
            "weights": kept.files[step][1],
            "same_trace": kept.same_trace,
        },
    }


def _later(task: Task, parts: Sequence[Any], config: MeasureConfig) -> dict[str, ByLayer]:
    """The metrics of the stream without its first positions, if they are wanted and its inputs have positions."""
    if config.skip_first == 0:
        return {}

    class WithoutFirst(TrainedModel):
        def encode(self, batch: Any, observe: Callable[[str, str, Tensor], None]) -> object:
            def show(point: str, layer: str, x: Tensor) -> None:
                if point != "attention-logits" and x.ndim == 3:
                    if x.shape[1] <= config.skip_first:
                        message = f"--skip-first {config.skip_first} leaves nothing of {x.shape[1]} positions"
                        raise OfeError(message, hint="pass a smaller one", exit_code=2)
                    observe(point, layer, x[:, config.skip_first :])

            return self.task.encode(batch, show)

    return measure(WithoutFirst(task), parts, Probe(config.point)).values
