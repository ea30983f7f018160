"""Partial results of metrics, which are added up over the parts of a probe batch and over processes.

A metric of a whole batch is not the mean of the metrics of its parts: kurtosis, for one, is a ratio of means. So a
tally keeps what can be combined exactly, which are the sums that the metrics follow from and the max-median ratios of
single inputs. With one part in one process, every metric is equal to the last bit to that of its own function.

n is the number of inputs in a part (examples times positions), d the number of neurons.
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
    """Partial result of all metrics of one stream, over the parts of the batch seen so far."""

    sums: StreamSums
    """The sums over inputs from which the metrics follow, the Gram matrix (d, d) among them."""
    ratios: Tensor
    """Max-median ratio of each input, (n,). Its median and maximum need every one of them."""
    moments: Tensor
    """Second moment of each neuron, (d,) float64."""
    dtype: torch.dtype
    """Type to which the metrics are rounded: float32, or float64 for a float64 stream."""

    @classmethod
    def of(cls, x: Tensor) -> StreamTally:
        """The tally of one part, from the stream `x` (..., d)."""
        return cls(StreamSums.of(x), row_ratios(x), second_moments(x), upcast(x).dtype)

    def __add__(self, other: StreamTally) -> StreamTally:
        """The tally of two parts together."""
        both = self.sums + other.sums
        # The diagonal of the Gram matrix has the second moments too, but rounds them in another way. A trace keeps the
        # vector that `second_moments` computes, to the last bit.
        squares = _weighted(self.moments, self.sums.n) + _weighted(other.moments, other.sums.n)
        return StreamTally(both, torch.cat([self.ratios, other.ratios]), squares / both.n, self.dtype)

    def together(self) -> StreamTally:
        """The tally over all processes, which all have to call this."""
        if group.size() == 1:
            return self  # exact: turning means into sums and back would move the last bit
        sums = self.sums.over(group.total)
        moments = group.total(_weighted(self.moments, self.sums.n)) / sums.n
        # The ratios of all inputs are gathered, since neither a median nor a count of infinities is a sum of parts.
        return StreamTally(sums, group.concatenation(self.ratios), moments, self.dtype)

    def metrics(self) -> dict[str, Tensor]:
        """Every metric of the stream by name, each (). One part in one process gives what `measure_stream` gives."""
        # The sums are float64, and the metrics are rounded only here, once.
        return {name: value.to(self.dtype) for name, value in stream_metrics(self.sums, self.ratios).items()}


@dataclass(eq=False)
class MeanTally:
    """A mean over the examples of the parts seen so far, such as that of attention entropy."""

    value: Tensor
    """The mean, (). It is NaN over no examples."""
    examples: int
    """Number of examples that the mean is taken over."""

    def __add__(self, other: MeanTally) -> MeanTally:
        """The mean over the examples of both."""
        examples = self.examples + other.examples
        value = _weighted(self.value, self.examples) + _weighted(other.value, other.examples)
        return MeanTally(value / examples, examples)

    def together(self) -> MeanTally:
        """The mean over the examples of all processes, which all have to call this."""
        if group.size() == 1:
            return self
        examples = int(group.total(torch.tensor(self.examples)))
        return MeanTally(group.total(_weighted(self.value, self.examples)) / examples, examples)


def _weighted(mean: Tensor, count: int) -> Tensor:
    """The sum, in float64, of which `mean` is the mean over `count`. An empty part has mean NaN and adds 0."""
    return mean.double() * count if count else torch.zeros_like(mean, dtype=torch.float64)
