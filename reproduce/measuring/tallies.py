"""What is kept of a part of a probe batch until the other parts are there, in this process and in the others.

Metrics are not averaged over parts: kept are the sums they follow from, which may be added, and the max-median ratios
of single inputs. One part in one process gives each metric to the last bit as its own function does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reproduce.metrics.inputs import upcast
from reproduce.metrics.mmr import row_ratios
from reproduce.metrics.scale import second_moments
from reproduce.metrics.stream import stream_metrics
from reproduce.metrics.sums import StreamSums
from reproduce.parallel import group


@dataclass(eq=False)
class StreamTally:
    """What the passes so far have seen of one stream."""

    sums: StreamSums
    ratios: Tensor
    """Max-median ratio of each input, (n,)."""
    moments: Tensor
    """Second moment of each neuron, (d,)."""
    dtype: torch.dtype
    """Of the values that are recorded."""

    @classmethod
    def of(cls, x: Tensor) -> StreamTally:
        """That of one pass, from the stream `x` (..., d)."""
        return cls(StreamSums.of(x), row_ratios(x), second_moments(x), upcast(x).dtype)

    def __add__(self, other: StreamTally) -> StreamTally:
        both = self.sums + other.sums
        squares = _weighted(self.moments, self.sums.n) + _weighted(other.moments, other.sums.n)
        return StreamTally(both, torch.cat([self.ratios, other.ratios]), squares / both.n, self.dtype)

    def together(self) -> StreamTally:
        """That of all processes."""
        if group.size() == 1:
            return self
        sums = self.sums.over(group.total)
        moments = group.total(_weighted(self.moments, self.sums.n)) / sums.n
        return StreamTally(sums, group.concatenation(self.ratios), moments, self.dtype)

    def metrics(self) -> dict[str, Tensor]:
        """Every metric of the stream; of a single pass in a single process as `measure_stream` gives them."""
        return {name: value.to(self.dtype) for name, value in stream_metrics(self.sums, self.ratios).items()}


@dataclass(eq=False)
class MeanTally:
    """A mean over examples, seen in parts."""

    value: Tensor
    examples: int

    def __add__(self, other: MeanTally) -> MeanTally:
        examples = self.examples + other.examples
        value = _weighted(self.value, self.examples) + _weighted(other.value, other.examples)
        return MeanTally(value / examples, examples)

    def together(self) -> MeanTally:
        if group.size() == 1:
            return self
        examples = int(group.total(torch.tensor(self.examples)))
        return MeanTally(group.total(_weighted(self.value, self.examples)) / examples, examples)


def _weighted(mean: Tensor, count: int) -> Tensor:
    """A mean turned back into a sum; 0 where nothing was counted, whose mean is not a number."""
    return mean.double() * count if count else torch.zeros_like(mean, dtype=torch.float64)
