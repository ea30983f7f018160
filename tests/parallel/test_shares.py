"""Who takes which examples, and that tallies of parts are those of the whole."""

from __future__ import annotations

from functools import reduce
from operator import add

import pytest
import torch
from torch import Tensor

from reproduce.measuring.tallies import MeanTally, StreamTally
from reproduce.metrics.scale import second_moments
from reproduce.metrics.stream import measure_stream
from reproduce.parallel import group
from reproduce.parallel.shares import shared_parts


def as_if(monkeypatch: pytest.MonkeyPatch, rank: int, size: int) -> None:
    monkeypatch.setattr(group, "rank", lambda: rank)
    monkeypatch.setattr(group, "size", lambda: size)


def test_alone_everything_is_ours() -> None:
    batch = torch.arange(5)
    assert [part.tolist() for part in shared_parts(batch, None)] == [batch.tolist()]
    assert [part.tolist() for part in shared_parts(batch, 2)] == [[0], [1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("examples", "size", "micro_batch"), [(5, 2, 2), (5, 4, None), (3, 4, 1), (64, 4, 7), (1, 1, 3), (8, 4, None)]
)
def test_parts_cover_the_batch_once_in_equally_many_passes(
    examples: int, size: int, micro_batch: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Tensor] = []
    passes = set()
    for rank in range(size):
        as_if(monkeypatch, rank, size)
        parts = shared_parts(torch.arange(examples), micro_batch)
        passes.add(len(parts))
        taken += parts
        assert max(map(len, parts)) <= (micro_batch or examples)
    assert len(passes) == 1
    assert torch.cat(taken).tolist() == list(range(examples))


def test_one_part_is_measured_to_the_last_bit_and_many_nearly_so() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 6, 16) * torch.rand(16) * 3
    whole, parts = StreamTally.of(x), reduce(add, [StreamTally.of(part) for part in (x[:2], x[2:2], x[2:])])
    for name, value in measure_stream(x).items():
        assert torch.equal(whole.metrics()[name], value), name
        torch.testing.assert_close(parts.metrics()[name], value, rtol=1e-6, atol=1e-6)
    assert torch.equal(whole.moments, second_moments(x))
    torch.testing.assert_close(parts.moments, whole.moments, rtol=1e-12, atol=0)


def test_a_mean_over_parts_counts_examples_and_forgives_an_empty_one() -> None:
    x = torch.tensor([1.0, 2.0, 6.0])
    both = reduce(add, [MeanTally(part.mean(), len(part)) for part in (x[:1], x[1:1], x[1:])])
    assert (float(both.value), both.examples) == (3.0, 3)
    broken = MeanTally(torch.tensor(torch.nan), 1) + MeanTally(x.mean(), 3)
    assert torch.isnan(broken.value)
