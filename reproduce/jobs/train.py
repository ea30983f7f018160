"""The work of a training: it writes a complete trace, and the weights that were asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from reproduce.config import RunConfig
from reproduce.environment import environment
from reproduce.jobs.device import as_many_threads_as, pick_device
from reproduce.parallel import group
from reproduce.processes import StopAsked
from reproduce.store.runs import RunFolder
from reproduce.store.weights import read_weights, write_weights
from reproduce.training.tasks import build_task
from reproduce.training.train import Execution, Outcome, Task, Training


def work(folder: RunFolder, config: RunConfig, stop: StopAsked) -> dict[str, Any]:
    """Train the run in `folder` to its end, from its checkpoint if it has one, and return its provenance.

    Raises:
        Interrupted: `stop` returned True, and the state is saved.
        OfeError: the data, the checkpoint or the disk do not allow the run to continue.
    """
    as_many_threads_as(folder)  # a run that is trained once more for its weights should give its trace again
    execution = plan_execution(config, pick_device())
    # Under FSDP2 the chief draws the whole model and sends the others their shards, so they need no memory for it.
    on_meta = execution.mode == "fsdp" and not group.chief()
    task, data = build_task(config, execution.device, micro_batch=execution.micro_batch, on_meta=on_meta)
    training = Training(config, task, folder, execution)
    outcome = training.run(stop)
    if training.keep and group.chief():
        write_weights(folder.path, replace(read_weights(folder.path), end=outcome.step, same_trace=None))
    return provenance(config, task, outcome, execution) | {"data": data}


def plan_execution(config: RunConfig, device: torch.device) -> Execution:
    """How the run is executed. What the environment variables leave open is chosen so that the run fits the device.

    Raises:
        OfeError: an environment variable has an invalid value (exit code 2).
    """
    from reproduce.plan.memory import arrange

    asked = environment()
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    chosen = arrange(
        config,
        group.size(),
        memory,
        mode=asked.parallel,
        recompute=asked.recompute,
        micro_batch=asked.micro_batch,
    )
    return Execution(device, chosen.micro_batch, chosen.mode, chosen.recompute, checkpoint_s=asked.checkpoint_s)


def provenance(config: RunConfig, task: Task, outcome: Outcome, execution: Execution) -> dict[str, Any]:
    """How this training ended, and what may differ between two trainings of the same run."""
    return {
        "failed": outcome.failed_step is not None,
        "failed_step": outcome.failed_step,
        "seconds": outcome.seconds,
        "trained_steps": outcome.trained_steps,
        "tokens_per_s": outcome.trained_steps * task.tokens_per_step / max(outcome.seconds, 1e-9),
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "precision": config.precision,
        "parallel": execution.mode,
        "micro_batch": execution.micro_batch,
        "activation_checkpointing": execution.recompute,
    }
