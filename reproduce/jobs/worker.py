"""Trains the run of one folder, from wherever it stands to its seal: `python -m reproduce.jobs.worker FOLDER`.

    torchrun --nproc-per-node 4 -m reproduce.jobs.worker FOLDER      the same run on four devices (`reproduce.parallel`)

A worker knows nothing of figures. It is given a folder with a run.yaml and leaves it sealed; it reports through
progress.json and its exit code.

    0   sealed
    1   an error, told in progress.json and on stderr
    3   stopped by SIGINT or SIGTERM, its state saved: the same command continues

Of the processes of a group, one holds the lock and writes. A signal to any of them stops all; an error in any ends
all, and the first to fail says why. All need the same OFE_HOME.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from reproduce.config import RunConfig
from reproduce.environment import environment, threads
from reproduce.errors import OfeError
from reproduce.machine import this_machine
from reproduce.parallel import group
from reproduce.store.runs import RunFolder
from reproduce.store.seal import seal
from reproduce.training.tasks import build_task
from reproduce.training.train import Execution, Interrupted, Outcome, Task, Training

SEALED, FAILED, STOPPED = 0, 1, 3
_PACKAGES = ("ofe", "torch", "numpy", "tokenizers", "datasets")


def keep_large_blocks() -> None:
    """Tell glibc to reuse large freed blocks: giving them back costs a page fault each time they are needed again."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library: slower, nothing else
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 1 << 30)
    mallopt(m_trim_threshold, (1 << 31) - 1)


def pick_device() -> torch.device:
    """OFE_DEVICE, else the accelerator if there is one.

    Raises:
        OfeError: OFE_DEVICE names a device that is not there.
    """
    name = environment().device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise OfeError("OFE_DEVICE is cuda, but torch sees no CUDA device", hint="unset it to train on the CPU")
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device("cpu")


def plan_execution(config: RunConfig, device: torch.device) -> Execution:
    """How the run is to be executed: as the environment says, and where it says nothing so that it fits the device.

    Raises:
        OfeError: a variable has a value that means nothing (exit code 2).
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


def provenance(
    run: Mapping[str, Any],
    config: RunConfig,
    task: Task,
    data: Mapping[str, Any],
    outcome: Outcome,
    execution: Execution,
) -> dict[str, Any]:
    """All that may differ between two equal runs, and what plots and claims ask of a finished one."""
    from reproduce.specs.load import load_setting

    facts = this_machine()
    return {
        "failed": outcome.failed_step is not None,
        "failed_step": outcome.failed_step,
        "substitute": config.data.source not in load_setting(run["setting"]).paper_data,
        "data": dict(data),
        "seconds": outcome.seconds,
        "trained_steps": outcome.trained_steps,
        "tokens_per_s": outcome.trained_steps * task.tokens_per_step / max(outcome.seconds, 1e-9),
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "precision": config.precision,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if execution.device.type == "cuda" else facts.cpu,
        "devices": group.size(),
        "parallel": execution.mode,
        "micro_batch": execution.micro_batch,
        "activation_checkpointing": execution.recompute,
        "machine": {"cpu": facts.cpu, "cores": facts.cores, "os": facts.os, "host": socket.gethostname()},
        "packages": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


class StopFlag:
    """Set by SIGINT or SIGTERM; the loop looks at it between two steps."""

    def __init__(self) -> None:
        self.set = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._raise)

    def _raise(self, number: int, frame: object) -> None:
        self.set = True

    def __call__(self) -> bool:
        return self.set


def train(folder: RunFolder, stop: StopFlag) -> int:
    """Train the run in `folder` to its seal and say how it ended.

    Raises:
        OfeError: told in progress.json too, unless another process is training the run: that file is then its own.
    """
    run, config = folder.read_run_yaml(), folder.config()
    with folder.lock() if group.chief() else nullcontext():
        if group.from_chief(folder.sealed):
            return SEALED
        started = datetime.now(UTC).isoformat(timespec="seconds")
        if group.chief():  # how an earlier attempt ended is over
            now = {"state": "running", "error": None, "host": socket.gethostname(), "pid": os.getpid()}
            folder.write_progress((folder.progress() or {}) | now | {"launcher": os.getppid(), "started": started})
        try:
            execution = plan_execution(config, pick_device())
            on_meta = execution.mode == "fsdp" and not group.chief()
            task, data = build_task(config, execution.device, micro_batch=execution.micro_batch, on_meta=on_meta)
            outcome = Training(config, task, folder, execution).run(stop)
            if group.chief():
                seal(folder.path, provenance(run, config, task, data, outcome, execution) | {"started": started})
            group.wait()
        except Interrupted:
            if group.chief():
                folder.write_progress((folder.progress() or {}) | {"state": "interrupted", "error": None})
            return STOPPED
        except OfeError as error:
            if group.first_to_fail():
                folder.write_progress((folder.progress() or {}) | {"state": "failed", "error": error.message})
            raise
    return SEALED


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reproduce.jobs.worker", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="run folder with a run.yaml")
    folder = RunFolder(parser.parse_args(arguments).folder)
    stop = StopFlag()
    keep_large_blocks()
    try:
        if (count := threads()) is not None:
            torch.set_num_threads(count)
        with group.joined():
            return _in_group(folder, stop)
    except OfeError as error:
        return _told(error)


def _in_group(folder: RunFolder, stop: StopFlag) -> int:
    """Train; of several processes that fail, the first is heard."""
    try:
        return train(folder, stop)
    except OfeError as error:
        return _told(error) if group.first_to_fail() else FAILED
    except Exception as error:
        if group.first_to_fail():
            traceback.print_exc()
            print(f"error: {''.join(traceback.format_exception_only(error)).strip()}", file=sys.stderr)
        return FAILED


def _told(error: OfeError) -> int:
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"\nhint: {error.hint}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
