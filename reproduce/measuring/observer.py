"""Outlier features of any module from its forward passes: metrics of each layer, the worst neurons, where they fire.

    observer = OutlierObserver(skip_first=1)
    with observing(model, structure, observer):
        for batch in batches:
            model(batch)
    reading = observer.reading()

A reading waits for the device once, however many layers and metrics it has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reproduce.measuring.streaming import COLUMNS, FIRING, Column, StreamingSums, named

STREAM = "stream"
"""The point whose layers are those of the residual stream."""
WORST = 3
"""Neurons of each layer that a reading names."""


class LayerReading(NamedTuple):
    """The metrics of one point in one layer."""

    point: str
    """`stream`, or a place inside a block (`reproduce.checkpoints.points`)."""
    layer: str
    """"1" to "L", and "unembed"."""
    values: dict[Column, dict[str, float]]
    """Metric -> value, over all positions and without the first ones."""


class Firing(NamedTuple):
    """One activation of a neuron."""

    input: int
    """Index of the input among all that were seen: sequence by sequence, position by position."""
    value: float
    """Its absolute value."""


class Neuron(NamedTuple):
    """A neuron of the stream that carries much of its layer."""

    layer: str
    neuron: int
    """Its index in the stream, from 0."""
    share: float
    """Its part of the sum of all second moments of the layer, 0 to 1."""
    firing: tuple[Firing, ...]
    """Its largest activations, the largest first. None are known of a neuron that was not among the worst ones of the
    first batch."""


class Int8(NamedTuple):
    """What one scale for a whole tensor in 8 bits would cost at the layer where it costs most."""

    layer: str
    per_tensor_db: float
    """Signal-to-noise ratio of the median input in dB, with one symmetric scale for the tensor."""
    per_token_db: float
    """The same with a scale for each input."""

    @property
    def cost_db(self) -> float:
        return self.per_token_db - self.per_tensor_db


@dataclass
class OutlierReading:
    """What was seen of a module."""

    layers: list[LayerReading]
    neurons: list[Neuron]
    """The worst neurons of each layer of the stream, worst first within a layer."""
    moments: dict[str, list[float]]
    """Layer of the stream -> mean square of each neuron, (d,)."""
    int8: Int8 | None

    def by_layer(self, metric: str, column: Column = "all", point: str = STREAM) -> dict[str, float]:
        """Layer -> value of one metric.

        Raises:
            KeyError: there is no such metric.
        """
        return {one.layer: one.values[column][metric] for one in self.layers if one.point == point}

    def flat(self, prefix: str = "outliers") -> dict[str, float]:
        """Every value under a name for a logger: `outliers/kurtosis/3`, and `outliers/kurtosis_skipped/3`."""
        suffix: dict[Column, str] = {"all": "", "skipped": "_skipped"}
        return {
            "/".join([prefix, *([] if one.point == STREAM else [one.point]), f"{metric}{suffix[column]}", one.layer]): v
            for one in self.layers
            for column in COLUMNS
            for metric, v in one.values[column].items()
        }


@dataclass
class OutlierObserver:
    """A function to be shown tensors, which keeps the sums that a reading needs.

    Args:
        skip_first: positions at the start of each sequence that the column "skipped" leaves out.
        correlations: whether the RMS correlations are measured too.
    """

    skip_first: int = 1
    correlations: bool = False
    mask: Tensor | None = None
    """(B, T), true where the present batch has a token; None if it has no padding."""
    sums: dict[tuple[str, str], StreamingSums] = field(default_factory=dict)
    """Point and layer -> sums."""

    def __call__(self, point: str, layer: str, x: Tensor) -> None:
        if (point, layer) not in self.sums:
            self.sums[point, layer] = StreamingSums(self.skip_first, self.correlations)
        self.sums[point, layer].add(x, self.mask)

    def reset(self) -> None:
        """Forget what was seen."""
        self.sums.clear()

    def reading(self) -> OutlierReading:
        """What was seen so far.

        Raises:
            ValueError: nothing was.
        """
        if not self.sums:
            raise ValueError("nothing was measured: no forward pass of the model has been observed")
        ordered = sorted(self.sums.items(), key=lambda one: (one[0][0] != STREAM, one[0][0], _order(one[0][1])))
        streams = {layer: sums for (point, layer), sums in ordered if point == STREAM}
        # All results go through one tensor, so that the device is waited for once.
        parts = [sums.tensor() for _, sums in ordered]
        for sums in streams.values():
            parts += [*_worst(sums), *_noise(sums), sums.moments]
        shapes = [part.shape for part in parts]
        device = parts[0].device
        flat = torch.cat([part.double().flatten().to(device) for part in parts]).cpu()
        parts = [part.view(shape) for part, shape in zip(flat.split([s.numel() for s in shapes]), shapes, strict=True)]
        values, rest = parts[: len(ordered)], iter(parts[len(ordered) :])
        layers = [
            LayerReading(point, layer, named(sums.metrics, value))
            for ((point, layer), sums), value in zip(ordered, values, strict=True)
        ]
        neurons, costs, moments = [], [], {}
        for layer in streams:
            shares, indices, candidates, firing, where = (next(rest) for _ in range(5))
            neurons += _neurons(layer, shares, indices, candidates, firing, where)
            costs.append(Int8(layer, float(next(rest)), float(next(rest))))
            moments[layer] = next(rest).tolist()
        known = [cost for cost in costs if math.isfinite(cost.cost_db)]
        return OutlierReading(layers, neurons, moments, max(known, key=lambda cost: cost.cost_db, default=None))


def _order(layer: str) -> tuple[bool, int]:
    return (layer == "unembed", 0 if layer == "unembed" else int(layer))


def _worst(sums: StreamingSums) -> list[Tensor]:
    """Shares and indices of the worst neurons, the candidates, and where and how strongly these fire."""
    moments = sums.moments
    worst = (moments / moments.sum()).topk(min(WORST, len(moments)))
    assert sums.candidates is not None
    assert sums.firing is not None
    assert sums.where is not None
    return [worst.values, worst.indices, sums.candidates, sums.firing, sums.where]


def _neurons(layer: str, shares: Tensor, indices: Tensor, candidates: Tensor, firing: Tensor, where: Tensor) -> Any:
    place = {int(neuron): row for row, neuron in enumerate(candidates.tolist())}
    for share, index in zip(shares.tolist(), indices.tolist(), strict=True):
        row = place.get(int(index))
        fires = () if row is None else zip(where[row].tolist(), firing[row].tolist(), strict=True)
        yield Neuron(layer, int(index), share, tuple(Firing(int(at), value) for at, value in fires if at >= 0)[:FIRING])


def _noise(sums: StreamingSums) -> list[Tensor]:
    """Signal-to-noise ratio in dB of the median input in 8 bits: one scale for the tensor, and one for each input."""
    assert sums.sample is not None
    x = sums.sample.double()  # (s, d)
    return [signal_to_noise(x, sums.largest), signal_to_noise(x, x.abs().amax(1, keepdim=True))]


def signal_to_noise(x: Tensor, largest: Tensor) -> Tensor:
    """10 log10 (||x_a||^2 / ||x_a - q(x_a)||^2) in dB of the median row of `x` (n, d), -> ().

    q rounds to the nearest of the 255 multiples of largest / 127.

    Args:
        largest: () or (n, 1), the value that the largest multiple stands for.
    """
    scale = largest.double() / 127
    error = x - (x / scale).round().clamp(-127, 127) * scale
    return (10 * torch.log10(x.square().sum(1) / error.square().sum(1))).median()
