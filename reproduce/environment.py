"""The environment variables that say how runs are executed. None of them changes a run's numbers beyond rounding.

    OFE_DEVICE                     cpu | cuda
    OFE_PARALLEL                   ddp | fsdp
    OFE_ACTIVATION_CHECKPOINTING   0 | 1
    OFE_MICRO_BATCH                examples that go through the model at once
    OFE_CHECKPOINT_S               seconds between two checkpoints

Beside these, a launcher sets OMP_NUM_THREADS and tells each process of a group its place (`reproduce.parallel.group`).
A variable that is empty counts as not set. Never imports torch.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Literal, cast

from reproduce.errors import OfeError

VARIABLES = ("OFE_DEVICE", "OFE_PARALLEL", "OFE_ACTIVATION_CHECKPOINTING", "OFE_MICRO_BATCH", "OFE_CHECKPOINT_S")

Device = Literal["cpu", "cuda"]
Mode = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Environment:
    """What the variables say; None where they leave the choice to what fits."""

    device: Device | None
    parallel: Mode | None
    recompute: bool | None
    micro_batch: int | None
    checkpoint_s: float


def environment() -> Environment:
    """The variables as they stand.

    Raises:
        OfeError: one has a value that means nothing (exit code 2).
    """
    recompute = _one_of("OFE_ACTIVATION_CHECKPOINTING", "0", "1")
    return Environment(
        device=cast("Device | None", _one_of("OFE_DEVICE", "cpu", "cuda")),
        parallel=cast("Mode | None", _one_of("OFE_PARALLEL", "ddp", "fsdp")),
        recompute=None if recompute is None else recompute == "1",
        micro_batch=_micro_batch(),
        checkpoint_s=_checkpoint_s(),
    )


def threads() -> int | None:
    """What OMP_NUM_THREADS says of the threads of one process; None where it is not set.

    OpenMP lets it be a list, one number for each level of nested parallel regions. Only the first matters here.

    Raises:
        OfeError: it does not begin with a number of threads (exit code 2).
    """
    value = os.environ.get("OMP_NUM_THREADS") or None
    if value is None:
        return None
    first = value.partition(",")[0].strip()
    if not (first.isdecimal() and int(first) > 0):
        raise _meaningless("OMP_NUM_THREADS", value, "set it to a number of threads, or leave it unset")
    return int(first)


def launched(variable: str) -> int | None:
    """The number that a launcher set `variable` to, such as RANK or WORLD_SIZE; None where it is not set.

    Raises:
        OfeError: it is not a number (exit code 2).
    """
    value = os.environ.get(variable) or None
    if value is None:
        return None
    if not value.isdecimal():
        raise _meaningless(variable, value, "start the processes with torchrun, or leave it unset")
    return int(value)


def _one_of(variable: str, *values: str) -> str | None:
    value = os.environ.get(variable) or None
    if value is not None and value not in values:
        raise _meaningless(variable, value, f"set it to {' or '.join(values)}, or leave it unset")
    return value


def _micro_batch() -> int | None:
    value = os.environ.get("OFE_MICRO_BATCH") or None
    if value is None:
        return None
    if not (value.isdecimal() and int(value) > 0):
        raise _meaningless("OFE_MICRO_BATCH", value, "set it to a number of examples")
    return int(value)


def _checkpoint_s() -> float:
    value = os.environ.get("OFE_CHECKPOINT_S") or "60"
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        raise _meaningless("OFE_CHECKPOINT_S", value, "set it to a number of seconds")
    return seconds


def _meaningless(variable: str, value: str, hint: str) -> OfeError:
    return OfeError(f"{variable} is {value!r}", hint=hint, exit_code=2)
