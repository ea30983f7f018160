"""Measure a model: run it on some batches, and reduce the activations at its named points to the paper's metrics.

    reading = measure(subject, batches, Probe("residual"))
    reading.values["kurtosis"]["2"]        Eq (1) at the input of block 2
    reading.moments["2"]                   mean square of each neuron there, (d,)

No trainer is needed. A subject is anything that can run its model on a batch and show its named points on the way
(`reproduce.models` lists them). A training calls the same function between two of its steps.

Activations are reduced as soon as they are shown, so the activations of two layers are never held at once. The batches
may be divided among processes. Metrics are not averaged over batches or processes: `reproduce.measuring.tallies` adds
up the sums from which they follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from reproduce.measuring.tallies import MeanTally, StreamTally
from reproduce.metrics.entropy import attention_entropy_from_logits

ByLayer = dict[str, float]
"""Layer -> value. Layers count from "1", and "unembed" is the input of the last linear layer."""

Batch_contra = TypeVar("Batch_contra", contravariant=True)
Batch = TypeVar("Batch")


class Subject(Protocol[Batch_contra]):
    """A model that can be measured."""

    def encode(self, batch: Batch_contra, observe: Callable[[str, str, Tensor], None], /) -> object:
        """Run the model on `batch`, and call `observe(point, layer, tensor)` at each named point on the way.

        The first axis of each tensor has to count the examples of the batch.
        """
        ...


@dataclass(frozen=True)
class Probe:
    """Where in each layer the metrics are taken."""

    point: str = "residual"
    """The named point whose activations are measured: `residual`, `attention-input` or `mlp-input`.

    The layer "unembed" has the point `residual` only, and is measured there in either case.
    """


@dataclass
class Reading:
    """The result of a measurement."""

    values: dict[str, ByLayer] = field(default_factory=dict)
    """Metric -> layer -> value. Layers count from "1", the input of the first block; the last one is "unembed"."""
    moments: dict[str, Tensor] = field(default_factory=dict)
    """Layer -> mean square of each neuron, (d,)."""

    def add(self, metric: str, layer: str, value: Tensor) -> None:
        self.values.setdefault(metric, {})[layer] = float(value)

    @property
    def peak_kurtosis(self) -> float:
        """Largest kurtosis over the layers. It is NaN if no layer was shown."""
        return max(self.values.get("kurtosis", {}).values(), default=float("nan"))


@torch.no_grad()
def measure(subject: Subject[Batch], batches: Sequence[Batch], probe: Probe) -> Reading:
    """Measure every metric of every layer that `subject` shows, over all `batches` together.

    The subject runs once for each batch, without gradients. In a group of processes, each process passes batches of its
    own, and all get the reading over the batches of all. They have to pass equally many batches, some of which may be
    empty.

    Args:
        batches: at least one. Each is passed to `subject.encode` as it is.

    Raises:
        ValueError: there is no batch.
    """
    if not batches:
        raise ValueError("nothing can be measured without a batch")
    collector = _Collector(probe, len(batches))
    for batch in batches:
        subject.encode(batch, collector)
    return collector.reading


@dataclass
class _Collector:
    """The observer of one measurement. It reduces the activations that it is shown to a reading."""

    probe: Probe
    passes: int
    """Number of batches, and so the number of times that each point is shown."""
    reading: Reading = field(default_factory=Reading)
    _streams: dict[str, list[StreamTally]] = field(default_factory=dict)
    _entropies: dict[str, list[MeanTally]] = field(default_factory=dict)

    def __call__(self, point: str, layer: str, x: Tensor) -> None:
        # A layer is finished, over all processes, when its last batch has come. The processes meet in that exchange, so
        # all of them have to see the same points in the same order.
        if point == "attention-logits":  # (B, H, T, T)
            entropies = self._entropies.setdefault(layer, [])
            # Weighted by examples: each has the same number of heads and queries, over which the entropy is a mean.
            entropies.append(MeanTally(attention_entropy_from_logits(x), len(x)))
            if len(entropies) == self.passes:
                self.reading.add("attention_entropy", layer, _all(self._entropies.pop(layer)).value)
        elif point == self.probe.point or layer == "unembed":  # (B, T, d), or (B, d) in a model without positions
            streams = self._streams.setdefault(layer, [])
            streams.append(StreamTally.of(x))
            if len(streams) == self.passes:
                stream = _all(self._streams.pop(layer))
                for metric, value in stream.metrics().items():
                    self.reading.add(metric, layer, value)
                self.reading.moments[layer] = stream.moments  # (d,)


def _all(tallies: list[Any]) -> Any:
    """The tally over all batches and all processes."""
    return reduce(add, tallies).together()
