"""Measure a model: run it on some batches and reduce what it shows at its named points to the paper's metrics.

    reading = measure(subject, batches, Probe("residual"))
    reading.values["kurtosis"]["2"]        Eq (1) at the input of block 2
    reading.moments["2"]                   mean square of each neuron there, (d,)

No trainer is needed: a subject is anything that can run its model on a batch and show named points on the way
(`reproduce.models` says which). A training uses the same function between two of its steps.

Activations are reduced on the spot, so no two layers' activations are held at once. The batches may be spread over
processes. The metrics are not averaged over batches or processes: `reproduce.measuring.tallies` keeps the sums that
they follow from.
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

Batch_contra = TypeVar("Batch_contra", contravariant=True)
Batch = TypeVar("Batch")


class Subject(Protocol[Batch_contra]):
    """What can be measured."""

    def encode(self, batch: Batch_contra, observe: Callable[[str, str, Tensor], None], /) -> object:
        """Run the model on `batch` and call `observe(point, layer, tensor)` at each named point on the way."""
        ...


@dataclass(frozen=True)
class Probe:
    """What is looked at in each layer."""

    point: str = "residual"
    """The named point that stands for a layer's stream: `residual` or `attention-input`. `unembed` has only one."""


@dataclass
class Reading:
    """What a measurement saw."""

    values: dict[str, ByLayer] = field(default_factory=dict)
    """Metric -> layer -> value. Layers count from "1", the input of the first block; the last one is "unembed"."""
    moments: dict[str, Tensor] = field(default_factory=dict)
    """Layer -> mean square of each neuron, (d,)."""

    def add(self, metric: str, layer: str, value: Tensor) -> None:
        self.values.setdefault(metric, {})[layer] = float(value)

    @property
    def peak_kurtosis(self) -> float:
        """Largest kurtosis over the layers, nan for a model that has shown none."""
        return max(self.values.get("kurtosis", {}).values(), default=float("nan"))


@torch.no_grad()
def measure(subject: Subject[Batch], batches: Sequence[Batch], probe: Probe) -> Reading:
    """Every metric of every layer that `subject` shows on `batches`, taken of all batches together.

    The subject runs once for each batch, without gradients. In a group of processes each passes equally many batches
    of its own, and all get the reading of the whole.

    Args:
        batches: at least one; each is passed to `subject.encode` as it is.

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
    """The observer of one measurement: it turns the points that a model shows into a reading."""

    probe: Probe
    passes: int
    """How often every point is going to be shown, each time for other examples."""
    reading: Reading = field(default_factory=Reading)
    _streams: dict[str, list[StreamTally]] = field(default_factory=dict)
    _entropies: dict[str, list[MeanTally]] = field(default_factory=dict)

    def __call__(self, point: str, layer: str, x: Tensor) -> None:
        if point == "attention-logits":
            entropies = self._entropies.setdefault(layer, [])
            entropies.append(MeanTally(attention_entropy_from_logits(x), len(x)))
            if len(entropies) == self.passes:
                self.reading.add("attention_entropy", layer, _all(self._entropies.pop(layer)).value)
        elif point == self.probe.point or layer == "unembed":
            streams = self._streams.setdefault(layer, [])
            streams.append(StreamTally.of(x))
            if len(streams) == self.passes:
                stream = _all(self._streams.pop(layer))
                for metric, value in stream.metrics().items():
                    self.reading.add(metric, layer, value)
                self.reading.moments[layer] = stream.moments


def _all(tallies: list[Any]) -> Any:
    """The tally of all passes and all processes."""
    return reduce(add, tallies).together()
