"""What a run takes on each of N devices, and how many devices of a given memory it needs.

With P parameters of which a block's linear layers hold B and everything outside them R = P - L B; O bytes of optimiser
state; p bytes of a number in a product (4, or 2 in mixed precision); A(b) activations of b examples, autocast's copies
of the weights left out; every number else in float32:

    alone, ddp     4 P + 4 P + O + [p P in mixed precision] + A(b)          weights, gradients, state, copies
    fsdp           (4 P + 4 P + O) / N                                      shards
                   + 2 p B + (p + 4) B                                      two blocks gathered, one's gradients
                   + 2 * 4 R + [p R in mixed precision] + A(b)              the rest, gathered all step, its gradients
    checkpointing  A(b) = b n (L 4 d + block + logits) in place of b n (L block + logits)

and a process of its own. b is the micro-batch: the largest of the device's share of the batch, halved as often as it
takes. A probe looks at as many examples at a time and keeps one layer's attention in float32 four times over and one
stream in float64 twice, beside its Gram matrix; where that is more than A(b), it counts. Speed plays no part here: a
micro-batch of 1 fits and is slow.

SOAP and both AdaFactors need whole matrices and train under ddp only. Never imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from reproduce.config import RunConfig
from reproduce.environment import Mode
from reproduce.machine import Machine
from reproduce.models.size import block_matrices, parameters, positions
from reproduce.optim.records import OPTIMIZERS
from reproduce.plan.footprint import (
    FLOAT,
    PROCESS_BYTES,
    activation_bytes,
    footprint,
    measuring_bytes,
    position_bytes,
    product_bytes,
    recomputed_bytes,
    weight_copies,
)

COUNTS = (1, 2, 4, 8, 16, 32)
EXAMPLES = (24 * 10**9, 80 * 10**9)
"""Memory of devices to reckon with where a machine has none: an RTX 3090 or A5000, an A100 or H100."""
USABLE = 0.9
"""Share of a device's memory that tensors can have; the rest is fragments and the driver's."""


@dataclass(frozen=True)
class DeviceLayout:
    """One way to hold a run on N devices, and what each of them then holds."""

    mode: Mode | None
    """None for one device."""
    recompute: bool
    micro_batch: int | None
    """Number of examples that go through the model at once; None stands for all of a device's share of the batch."""
    state_bytes: int
    """Weights, gradients and optimiser state."""
    gathered_bytes: int
    """What fsdp puts together for the moment, or autocast's copies of all weights."""
    activation_bytes: int

    @property
    def device_bytes(self) -> int:
        return PROCESS_BYTES + self.state_bytes + self.gathered_bytes + self.activation_bytes

    def __str__(self) -> str:
        return f"micro-batch {self.micro_batch}{', checkpointing' if self.recompute else ''}"


def layout(config: RunConfig, devices: int, mode: Mode | None, micro_batch: int, *, recompute: bool) -> DeviceLayout:
    """The bytes that `config` takes on each of `devices` when it is held in this way."""
    whole, copies = footprint(config), weight_copies(config)
    state = whole.weights + whole.gradients + whole.optimizer
    kept = recomputed_bytes if recompute else activation_bytes
    activations = max(kept(config, micro_batch, "cuda") - copies, probe_bytes(config, micro_batch, devices))
    if mode == "fsdp":
        block, product = block_matrices(config.model), product_bytes(config)
        rest = parameters(config) - config.model.layers * block
        gathered = (3 * product + FLOAT) * block + 2 * FLOAT * rest + (product * rest if copies else 0)
        return DeviceLayout(mode, recompute, micro_batch, math.ceil(state / devices), gathered, activations)
    return DeviceLayout(mode, recompute, micro_batch, state, copies, activations)


def probe_bytes(config: RunConfig, micro_batch: int, devices: int) -> int:
    """Bytes of a probe's pass through one block, and of the metrics of its stream."""
    return measuring_bytes(config, min(micro_batch, math.ceil(config.probe.batch_size / devices)))


def fit(
    config: RunConfig,
    devices: int,
    memory: int,
    mode: Mode | None,
    *,
    recompute: bool | None = None,
    micro_batch: int | None = None,
) -> DeviceLayout | None:
    """The layout of the largest micro-batch that fits into `memory` bytes a device; None if none does.

    Activations are recomputed only where nothing fits otherwise.

    Args:
        recompute, micro_batch: fixed where they are given.
    """
    if config.batch_size % devices or (mode == "fsdp" and not OPTIMIZERS[config.optimizer.name].elementwise):
        return None
    sizes = [micro_batch] if micro_batch else list(_halves(config.batch_size // devices))
    for again in (False, True) if recompute is None else (recompute,):
        for size in sizes:
            found = layout(config, devices, mode, size, recompute=again)
            if found.device_bytes <= USABLE * memory:
                return found
    return None


def _halves(size: int) -> Iterator[int]:
    while size > 1:
        yield size
        size = math.ceil(size / 2)
    yield 1


def arrange(
    config: RunConfig,
    devices: int,
    memory: int | None,
    *,
    mode: Mode | None = None,
    recompute: bool | None = None,
    micro_batch: int | None = None,
) -> DeviceLayout:
    """The layout in which a run is executed on `devices` of `memory` bytes each: ddp where that fits, else fsdp.

    Where the memory is not known (None), or nothing fits, what was not asked for stays as simple or becomes as lean
    as it can be: the estimate may be wrong, and training is the test.

    Args:
        mode, recompute, micro_batch: fixed where they are given; a single device has no mode.
    """
    modes: tuple[Mode | None, ...] = (None,) if devices == 1 else (mode,) if mode else ("ddp", "fsdp")
    share = max(1, config.batch_size // devices)
    if memory is None:
        found = layout(config, devices, modes[0], micro_batch or share, recompute=bool(recompute))
    else:
        found = next(
            (
                one
                for candidate in modes
                if (one := fit(config, devices, memory, candidate, recompute=recompute, micro_batch=micro_batch))
            ),
            None,
        ) or _leanest(config, devices, modes, recompute, micro_batch)
    # A micro-batch of all of a device's examples is no division of them.
    whole = micro_batch is None and found.micro_batch == share
    return DeviceLayout(**vars(found) | {"micro_batch": None}) if whole else found


def _leanest(
    config: RunConfig, devices: int, modes: tuple[Mode | None, ...], recompute: bool | None, micro_batch: int | None
) -> DeviceLayout:
    mode = modes[-1] if OPTIMIZERS[config.optimizer.name].elementwise else modes[0]
    again = True if recompute is None else recompute
    return layout(config, devices, mode, micro_batch or 1, recompute=again)


@dataclass(frozen=True)
class Needs:
    """The memory of runs that take the same: its parts, and on which numbers of devices it fits."""

    runs: tuple[str, ...]
    """Their names."""
    config: RunConfig
    """Of one of them."""
    memory: int
    """Bytes of a device."""

    def rows(self) -> Iterator[tuple[int, DeviceLayout | None, DeviceLayout | None]]:
        """(devices, ddp or alone, fsdp) for every count that divides the batch."""
        for count in COUNTS:
            if self.config.batch_size % count == 0:
                whole = fit(self.config, count, self.memory, "ddp" if count > 1 else None)
                yield count, whole, fit(self.config, count, self.memory, "fsdp") if count > 1 else None

    @property
    def activations(self) -> tuple[int, int]:
        """Bytes of the activations of one example, without and with checkpointing."""
        copies = weight_copies(self.config)
        return activation_bytes(self.config, 1, "cuda") - copies, recomputed_bytes(self.config, 1, "cuda") - copies

    def as_json(self) -> dict[str, Any]:
        whole, (kept, recomputed) = footprint(self.config), self.activations
        return {
            "runs": list(self.runs),
            "weights_bytes": whole.weights,
            "gradients_bytes": whole.gradients,
            "optimizer_bytes": whole.optimizer,
            "activation_bytes_per_example": kept,
            "activation_bytes_per_example_checkpointing": recomputed,
            "checkpoint_bytes": whole.checkpoint,
            "device_memory_bytes": self.memory,
            "fits": [
                {"devices": count, "ddp": _brief(whole_model), "fsdp": _brief(sharded)}
                for count, whole_model, sharded in self.rows()
            ],
        }


def needs(runs: Iterable[tuple[str, RunConfig]], machine: Machine) -> list[Needs]:
    """What (name, configuration) pairs need, on devices of each memory that `machine` gives us to reckon with."""
    alike: dict[str, tuple[RunConfig, dict[str, None]]] = {}
    for name, config in runs:
        facts = (footprint(config), position_bytes(config), positions(config), config.batch_size, config.optimizer.name)
        alike.setdefault(repr((facts, config.probe.batch_size)), (config, {}))[1][name] = None
    return [
        Needs(tuple(names), config, memory) for config, names in alike.values() for memory in device_memories(machine)
    ]


def _brief(found: DeviceLayout | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "micro_batch": found.micro_batch,
        "activation_checkpointing": found.recompute,
        "device_bytes": found.device_bytes,
    }


def device_memories(machine: Machine) -> tuple[int, ...]:
    """Memory in bytes of the smallest accelerator of `machine`; examples where it has none."""
    return EXAMPLES if machine.gpu_memory_bytes is None else (machine.gpu_memory_bytes,)
