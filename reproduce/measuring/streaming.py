"""Metrics of a stream that is seen in any number of batches, with and without the first positions of each sequence.

    sums = StreamingSums(skip_first=1)
    for batch in batches:
        sums.add(x)                        x (B, T, d)
    sums.values()                          {"all": {"kurtosis": ...}, "skipped": {"kurtosis": ...}}

On a model that was trained long enough, the first position alone often decides: models use it as a place where nothing
happens, and a few of its neurons are huge. Therefore each metric has two columns, and the sums are kept for the first
positions and for the others apart. What is kept does not grow with the number of tokens. Sums are float64, and nothing
waits for the device until values are asked for.

B sequences, T positions, d neurons; the first axis of sums counts the two parts: first positions, others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from reproduce.metrics.kurtosis import code_form, kurtosis_of_moments
from reproduce.metrics.mmr import row_ratios
from reproduce.metrics.pearson import excess_of_powers, flat_of_powers
from reproduce.metrics.scale import rms_of_moments
from reproduce.metrics.sums import StreamSums
from reproduce.metrics.table import CHECKPOINT_METRICS, CORRELATION_METRICS

Column = Literal["all", "skipped"]
COLUMNS: tuple[Column, ...] = ("all", "skipped")
"""all: every position. skipped: those after the first `skip_first` of each sequence."""

CANDIDATES = 16
"""Neurons of each stream whose largest activations are remembered: those with the largest share of the first batch."""
FIRING = 5
"""Activations that are remembered of each of them."""
SAMPLE = 64
"""Inputs of each stream that are kept for the error of quantising it."""
AT_ONCE = 2**24
"""Activations that are turned to float64 at once on an accelerator, at most, if a sequence has no more."""
CORRELATED = 4096
"""Inputs from which the RMS correlations are computed, at most."""


@dataclass
class _Sums:
    """What is kept of one stream. Tensors with a first axis of 2 are of the first positions and of the others."""

    n: Tensor
    """Number of inputs, (2,)."""
    total: Tensor
    """sum_a x_a, (2, d)."""
    squares: Tensor
    """sum_a x_aj^2, (2, d)."""
    centred: Tensor
    """sum_a (x_aj - mean_k x_ak)^2, (2, d)."""
    ratios: Tensor
    """Sum of the finite max-median ratios, their number, and the number of infinite ones, (2, 3)."""
    largest_ratio: Tensor
    """(2,)."""
    excess: Tensor
    """Sum over inputs of their excess kurtosis, (2,)."""
    flat: Tensor
    """Sum over sequences of their kurtosis, whole and without the first positions, (2,)."""
    sequences: Tensor
    """Number of sequences that have such a kurtosis, (2,)."""
    largest: Tensor
    """Largest absolute activation, (2,)."""


@dataclass
class StreamingSums:
    """The sums of one stream from which its metrics follow."""

    skip_first: int = 1
    correlations: bool = False
    """Whether the RMS correlations are computed too, which takes a matrix d x d."""
    candidates: Tensor | None = None
    """Neurons whose largest activations are remembered, (C,)."""
    firing: Tensor | None = None
    """Largest absolute activations of each candidate, (C, F), the largest first."""
    where: Tensor | None = None
    """Index of the input of each of them, counted over all batches, (C, F)."""
    sample: Tensor | None = None
    """Some inputs of the first batch, (s, d)."""
    _sums: _Sums | None = None
    _inputs: int = 0
    """Number of positions seen, padding included."""
    _grams: list[StreamSums] = field(default_factory=list)

    @torch.no_grad()
    def add(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Add the stream `x` (B, T, d) of one batch.

        Args:
            mask: (B, T), true where there is a token. The first position of a sequence is that of its first token.
        """
        x = x.detach()
        if x.device.type == "mps":
            x = x.cpu()  # Apple's GPUs lack float64
        x = x.float()
        seen = torch.ones(x.shape[:2], device=x.device, dtype=torch.bool) if mask is None else mask.to(x.device).bool()
        place = seen.cumsum(1) - 1  # (B, T): index of each token in its sequence
        parts = torch.stack((seen & (place < self.skip_first), seen & (place >= self.skip_first)))  # (2, B, T)
        # On a CPU a sequence fits into its cache. Elsewhere many go together, as far as float64 leaves them memory.
        step = 1 if x.device.type == "cpu" else max(1, AT_ONCE // (x.shape[1] * x.shape[2]))
        for start in range(0, len(x), step):
            one = slice(start, start + step)
            self._add_sums(x[one], parts[:, one])
        self._add_firing(x, seen)
        if self.correlations and sum(gram.n for gram in self._grams[::2]) < CORRELATED:
            rows = x.flatten(0, 1)[: CORRELATED - sum(gram.n for gram in self._grams[::2])]
            later = parts[1].flatten()[: len(rows)]
            self._grams += [StreamSums.of(rows[seen.flatten()[: len(rows)]]), StreamSums.of(rows[later])]
        self._inputs += x.shape[0] * x.shape[1]

    def _add_sums(self, single: Tensor, parts: Tensor) -> None:
        """Add a part of a batch, `single` (b, T, d), of which `parts` (2, b, T) belong to the two parts."""
        d = single.shape[-1]
        weight = parts.flatten(1).double()  # (2, n)
        x, squares, cubes = _scratch(single.shape[0] * single.shape[1], d, single.device)  # (n, d) each
        x.copy_(single.flatten(0, 1))
        torch.mul(x, x, out=squares)
        torch.mul(squares, x, out=cubes)
        first, second, third = x.sum(1), squares.sum(1), cubes.sum(1)  # (n,): sums over the neurons of each input
        fourth = torch.linalg.vector_norm(squares, dim=1).square()
        mean = first / d
        # sum_a (x_aj - m_a)^2 = sum_a x_aj^2 - 2 sum_a m_a x_aj + sum_a m_a^2
        of_squares = weight @ squares  # (2, d)
        of_inputs = torch.cat((weight, weight * mean)) @ x  # (4, d)
        centred = of_squares - 2 * of_inputs[2:] + (weight @ mean.square())[:, None]
        ratios = row_ratios(single)  # (n,)
        finite = torch.where(ratios.isinf(), 0.0, ratios).double()  # NaN stays, and makes the mean NaN
        counts = torch.stack((finite, (~ratios.isinf()).double(), ratios.isinf().double()))  # (3, n)
        largest = torch.where(parts.flatten(1), single.flatten(0, 1).abs().amax(1), -torch.inf).amax(1)  # (2,)
        powers = torch.stack((first, second, third, fourth)).view(4, *parts.shape[1:])  # (4, b, T)
        whole = torch.stack((parts.any(0), parts[1]))  # (2, b, T): of the two columns
        length = whole.sum(2) * d  # (2, b)
        flat = flat_of_powers(length, *((powers[:, None] * whole).sum(3) / length))  # (2, b)
        counted = length > 1
        new = _Sums(
            n=weight.sum(1),
            total=of_inputs[:2],
            squares=of_squares,
            centred=centred.clamp(min=0),
            ratios=torch.where(parts.flatten(1)[:, None], counts, 0.0).sum(2),
            largest_ratio=torch.where(parts.flatten(1), ratios, -torch.inf).amax(1),
            excess=torch.where(parts.flatten(1), excess_of_powers(mean, second / d, fourth / d), 0.0).sum(1),
            flat=torch.where(counted, flat, 0.0).sum(1),
            sequences=counted.sum(1).double(),
            largest=largest,
        )
        self._sums = new if self._sums is None else _added(self._sums, new)

    def _add_firing(self, x: Tensor, seen: Tensor) -> None:
        rows = x.flatten(0, 1)  # (n, d)
        if self.candidates is None:
            assert self._sums is not None
            self.candidates = self._sums.squares.sum(0).topk(min(CANDIDATES, x.shape[-1])).indices
            self.sample = rows[torch.linspace(0, len(rows) - 1, min(SAMPLE, len(rows)), device=x.device).long()].clone()
            self.firing = torch.full((len(self.candidates), FIRING), -1.0, device=x.device)
            self.where = torch.full((len(self.candidates), FIRING), -1, device=x.device)
        assert self.firing is not None
        assert self.where is not None
        values = torch.where(seen.flatten()[:, None], rows[:, self.candidates].abs(), -1.0).T  # (C, n)
        best = values.topk(min(FIRING, values.shape[1]), dim=1)
        both = torch.cat((self.firing, best.values), 1)
        places = torch.cat((self.where, best.indices + self._inputs), 1)
        order = both.argsort(dim=1, descending=True, stable=True)[:, :FIRING]
        self.firing, self.where = both.gather(1, order), places.gather(1, order)

    # -- results -----------------------------------------------------------------------------------

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics in the order of `tensor`."""
        return (*CHECKPOINT_METRICS, *(CORRELATION_METRICS if self.correlations else ()))

    def tensor(self) -> Tensor:
        """Every metric in both columns, (2, metrics), float64 on the device. NaN where there is no input."""
        assert self._sums is not None, "nothing was added"
        return torch.stack([self._column(self._sums, column) for column in COLUMNS])

    def values(self) -> dict[Column, dict[str, float]]:
        """Every metric by column and name. This waits for the device, once."""
        return named(self.metrics, self.tensor().cpu())

    @property
    def moments(self) -> Tensor:
        """Mean square of each neuron over all positions, (d,) float64."""
        assert self._sums is not None
        return self._sums.squares.sum(0) / self._sums.n.sum()

    @property
    def largest(self) -> Tensor:
        """Largest absolute activation of all positions, ()."""
        assert self._sums is not None
        return self._sums.largest.amax()

    def _column(self, sums: _Sums, column: Column) -> Tensor:
        """The metrics of one column, (metrics,)."""

        def of(parts: Tensor) -> Tensor:
            return parts.sum(0) if column == "all" else parts[1]

        index, n, d = COLUMNS.index(column), of(sums.n), sums.total.shape[1]
        squares, ratios = of(sums.squares), of(sums.ratios)
        centred = kurtosis_of_moments(of(sums.centred))
        pairs = of(sums.total).square().sum() - squares.sum()
        largest_ratio = sums.largest_ratio.amax() if column == "all" else sums.largest_ratio[1]
        values = {
            "kurtosis": kurtosis_of_moments(squares),
            "kurtosis_centred": centred,
            "kurtosis_code": code_form(centred, d),
            "kurtosis_flat": sums.flat[index] / sums.sequences[index],
            "kurtosis_excess": of(sums.excess) / n,
            "mmr_mean": ratios[0] / ratios[1],
            "mmr_max": torch.where(n > 0, largest_ratio, torch.nan),
            "mmr_infinite": torch.where(ratios[0].isnan() | (n == 0), torch.nan, ratios[2]),
            "activation_rms": rms_of_moments(squares / n),
            # 0 / 0 where there is but one input
            "input_correlation_mean": pairs / (n * (n - 1)) / (squares.sum() / n),
        }
        if self.correlations:
            grams = self._grams[index::2]
            gram = grams[0]
            for more in grams[1:]:
                gram = gram + more
            values["input_correlation_rms"] = gram.input_correlation_rms
            values["feature_correlation_rms"] = gram.feature_correlation_rms
        assert tuple(values) == self.metrics
        return torch.stack([value.double() for value in values.values()])


def named(metrics: tuple[str, ...], values: Tensor) -> dict[Column, dict[str, float]]:
    """`values` (2, metrics) by column and name."""
    return {column: dict(zip(metrics, row, strict=True)) for column, row in zip(COLUMNS, values.tolist(), strict=True)}


@lru_cache(maxsize=4)
def _scratch(n: int, d: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Memory for intermediate results, which is used again: on a CPU, fresh memory costs more than the arithmetic."""
    x, squares, cubes = (torch.empty(n, d, dtype=torch.float64, device=device) for _ in range(3))
    return x, squares, cubes


def _added(left: _Sums, right: _Sums) -> _Sums:
    """The sums of two parts together. The largest of both are taken where a field is a maximum."""
    joined = {
        name: torch.maximum(mine, theirs) if name in ("largest", "largest_ratio") else mine + theirs
        for (name, mine), theirs in zip(vars(left).items(), vars(right).values(), strict=True)
    }
    return _Sums(**joined)
