"""The processes that train one run together, and what they tell each other.

Tensors on a CUDA device travel by NCCL, all others by gloo. What steers the loop (losses, whether to stop) is on the
CPU, so that a process that fails is noticed at the next step rather than by a device that waits forever. Functions
that exchange something have to be called by all processes, in the same order.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from reproduce.environment import launched
from reproduce.errors import OfeError

T = TypeVar("T")

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What a launcher tells each process."""
PATIENCE = timedelta(hours=2)
"""How long a process waits for the others: one of them may be preparing data."""
_FAILURES = "ofe/failures"
_stores: list[dist.Store] = []
"""The group's common notes, where there is a group."""
_answers: list[bool] = []
"""What `first_to_fail` has said."""


@contextmanager
def joined() -> Iterator[None]:
    """Take part in the group that the environment describes; alone where it describes none.

    Raises:
        OfeError: the launcher did not say everything, or what it said is not a number (exit code 2).
    """
    if launched("WORLD_SIZE") in (None, 1):
        yield
        return
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if missing:
        raise OfeError(
            f"WORLD_SIZE is set, {' and '.join(missing)} not", hint="start the processes with torchrun", exit_code=2
        )
    places = {name: launched(name) for name in ("RANK", "LOCAL_RANK", "MASTER_PORT")}  # torch reads them as numbers too
    if torch.cuda.is_available():
        torch.cuda.set_device((places["LOCAL_RANK"] or 0) % torch.cuda.device_count())
    store, rank, size = next(dist.rendezvous("env://"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(
        backend, store=dist.PrefixStore("group", store), rank=rank, world_size=size, timeout=PATIENCE
    )
    _stores.append(store)
    try:
        yield
    finally:
        _stores.clear()
        _answers.clear()
        gc.collect()  # a DDP model holds on to the group, whose threads must have ended before Python does
        dist.destroy_process_group()


def size() -> int:
    """Number of processes, each with a device of its own."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def chief() -> bool:
    """Whether this is the one process that writes the trace and the live state."""
    return rank() == 0


def total(x: Tensor) -> Tensor:
    """The sum of `x` (any shape, the same everywhere) over all processes."""
    if size() == 1:
        return x
    x = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(x)
    return x


def added(value: float) -> float:
    """The sum of `value` over all processes, in float64."""
    return value if size() == 1 else float(total(torch.tensor(value, dtype=torch.float64)))


def concatenation(x: Tensor) -> Tensor:
    """The vectors `x` (n,) of all processes one after another, (sum of n,); n may differ between them."""
    if size() == 1:
        return x
    lengths = torch.zeros(size(), dtype=torch.int64)
    lengths[rank()] = len(x)
    counts = total(lengths).tolist()
    padded = x.new_zeros(max(counts))
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def anyone(*flags: bool) -> tuple[bool, ...]:
    """For each flag, whether any process has raised it."""
    return flags if size() == 1 else tuple(total(torch.tensor(flags, dtype=torch.int64)).bool().tolist())


def from_chief(value: T) -> T:
    """The chief's `value`, on every process."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def gathered(value: T) -> list[T]:
    """The values of all processes, in the order of their ranks, on every process."""
    if size() == 1:
        return [value]
    values = [value] * size()
    dist.all_gather_object(values, value)
    return values


def wait() -> None:
    """Go on when all processes have come this far."""
    anyone(False)


def first_to_fail() -> bool:
    """Whether no other process of the group has failed before; for one that ends in an error to ask.

    The others fail at their next exchange with it. Theirs is a consequence, and only the first one says why.
    """
    if not _stores:
        return True
    if not _answers:
        _answers.append(_stores[0].add(_FAILURES, 1) == 1)
    return _answers[0]
