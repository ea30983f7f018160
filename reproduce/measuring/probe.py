"""Where a run is looked at: the residual stream of every block, the attention of every layer.

The training step knows nothing of metrics. A probe runs the model once more, without gradients, on a batch that
stays the same over the run, and reduces what the model shows at its named points (`reproduce.models`) to numbers
on the spot, so that no two layers' activations are held at once.

The batch may be spread over processes and, in each, over several passes; `reproduce.measuring.tallies` is what is kept
of a pass until the metrics are taken of all of them together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from operator import add

import torch
from torch import Tensor

from reproduce.measuring.tallies import MeanTally, StreamTally
from reproduce.metrics import attention_entropy_from_logits, moment_updates
from reproduce.parallel import group

ByLayer = dict[str, float]


@dataclass
class Reading:
    """What one probe saw: metric -> layer -> value, and layer -> second moment of each neuron."""

    values: dict[str, ByLayer] = field(default_factory=dict)
    moments: dict[str, Tensor] = field(default_factory=dict)

    def add(self, metric: str, layer: str, value: Tensor) -> None:
        self.values.setdefault(metric, {})[layer] = float(value)

    @property
    def peak_kurtosis(self) -> float:
        """Largest kurtosis over the layers, nan for a model that has shown none."""
        return max(self.values.get("kurtosis", {}).values(), default=float("nan"))


@dataclass
class Probe:
    """Turns the points a model shows into a `Reading`.

    Args:
        point: which point stands for a layer's stream; `unembed` has only one.
        passes: how often every point is going to be shown, each time of other examples.
    """

    point: str
    passes: int = 1
    reading: Reading = field(default_factory=Reading)
    _streams: dict[str, list[StreamTally]] = field(default_factory=dict)
    _entropies: dict[str, list[MeanTally]] = field(default_factory=dict)

    def __call__(self, point: str, layer: str, x: Tensor) -> None:
        if point == "attention-logits":
            entropies = self._entropies.setdefault(layer, [])
            entropies.append(MeanTally(attention_entropy_from_logits(x), len(x)))
            if len(entropies) == self.passes:
                entropy = reduce(add, self._entropies.pop(layer)).together()
                self.reading.add("attention_entropy", layer, entropy.value)
        elif point == self.point or layer == "unembed":
            streams = self._streams.setdefault(layer, [])
            streams.append(StreamTally.of(x))
            if len(streams) == self.passes:
                stream = reduce(add, self._streams.pop(layer)).together()
                for metric, value in stream.metrics().items():
                    self.reading.add(metric, layer, value)
                self.reading.moments[layer] = stream.moments


@torch.no_grad()
def read(encode: Callable[[Probe], object], point: str, passes: int = 1) -> Reading:
    """Run `encode`, which shows its points to the probe it is given `passes` times, and return what the probe saw."""
    probe = Probe(point, passes)
    encode(probe)
    return probe.reading


@dataclass
class MomentUpdates:
    """Order-by-order contributions of one step to the moments of one layer's activations (v1 App D).

    `before` is kept from the step before, so that each step costs one partial forward pass. The pass is done in
    float32: the difference of two steps is smaller than a bfloat16's rounding.
    """

    layer: int
    encode: Callable[[], Tensor]
    before: Tensor | None = None

    @torch.no_grad()
    def step(self) -> dict[str, ByLayer]:
        """The contributions of the step just taken; nothing before the first."""
        after = self.encode()
        before, self.before = self.before, after
        if before is None:
            return {}
        updates = moment_updates(before, after, group.total)
        return {metric: {str(self.layer): float(value)} for metric, value in updates.items()}
