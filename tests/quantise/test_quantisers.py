"""Grids, blocks, ranges and their compositions against hand-written values and against torch's own quantisers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reproduce.quantise.blocks import blocked, scales_per_weight
from reproduce.quantise.grids import asymmetric_grid, symmetric_grid, unsigned_grid
from reproduce.quantise.quantisers import Scheme, StaticQuantiser, sqnr
from reproduce.quantise.ranges import RunningRange, least_squares_limit


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_symmetric_grid_by_hand() -> None:
    """4 bits have the levels -8 to 7; the limit is level 7, and -8 is used."""
    grid = symmetric_grid(torch.tensor(7.0), 4)
    numbers = torch.tensor([-9.0, -8.0, -7.4, -0.5, 0.5, 1.5, 6.6, 7.0, 9.0])
    assert grid.integers(numbers).tolist() == [-8, -8, -7, 0, 0, 2, 7, 7, 7]  # ties to even
    assert float(grid.scale) == 1


def test_unsigned_grid_by_hand() -> None:
    grid = unsigned_grid(torch.tensor(15.0), 4)
    assert grid.integers(torch.tensor([-1.0, 0.4, 14.6, 20.0])).tolist() == [0, 0, 15, 15]


def test_asymmetric_grid_by_hand() -> None:
    """[-1, 2] in 2 bits: a step of 1, zero at level 1."""
    grid = asymmetric_grid(torch.tensor(-1.0), torch.tensor(2.0), 2)
    assert (float(grid.scale), float(grid.zero_point)) == (1, 1)
    assert grid(torch.tensor([-3.0, -0.6, 0.0, 1.4, 5.0])).tolist() == [-1, -1, 0, 1, 2]


@pytest.mark.parametrize(("low", "high"), [(2.0, 5.0), (-5.0, -2.0), (0.0, 0.0)])
def test_asymmetric_range_contains_zero(low: float, high: float) -> None:
    grid = asymmetric_grid(torch.tensor(low), torch.tensor(high), 8)
    assert float(grid(torch.tensor(0.0))) == 0


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_as_torch_quantises(bits: int) -> None:
    """`torch.fake_quantize_per_tensor_affine` rounds before it adds the zero point, as we do: no element differs."""
    x = gaussian(50, 7) * 3 + 1
    grid = asymmetric_grid(x.min(), x.max(), bits)
    theirs = torch.fake_quantize_per_tensor_affine(x, float(grid.scale), int(grid.zero_point), grid.low, grid.high)
    assert torch.equal(Scheme(bits, "asymmetric")(x), theirs)
    rows = Scheme(bits, granularity="channel")
    scales = x.abs().amax(1) / (2 ** (bits - 1) - 1)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    zeros = torch.zeros(50, dtype=torch.int32)
    assert torch.equal(rows(x), torch.fake_quantize_per_channel_affine(x, scales, zeros, 0, low, high))


@pytest.mark.parametrize("bits", [1, 17])
def test_bits_out_of_range(bits: int) -> None:
    with pytest.raises(ValueError, match="from 2 to 16 bits"):
        Scheme(bits)


def test_a_tensor_of_zeros_stays_zero() -> None:
    for grid in ("symmetric", "asymmetric"):
        assert torch.equal(Scheme(8, grid)(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_blocks_share_scales() -> None:
    """An entry that is enlarged changes the grid of its own block and of no other."""
    weight, changed = gaussian(4, 6), gaussian(4, 6)
    changed[1, 2] *= 50
    shared = {"tensor": torch.ones(4, 6, dtype=torch.bool)}
    shared["channel"] = torch.zeros(4, 6, dtype=torch.bool)
    shared["channel"][1] = True
    shared["group"], shared["group-out"] = torch.zeros(2, 4, 6, dtype=torch.bool)
    shared["group"][1, 2:4] = True
    shared["group-out"][0:2, 2] = True
    for granularity, block in shared.items():
        scheme = Scheme(4, granularity=granularity, size=2)
        assert torch.equal(scheme(weight) != scheme(changed), (scheme(weight) != scheme(changed)) & block)
        others = block.clone()
        others[1, 2] = False
        assert (scheme(weight) != scheme(changed))[others].any()


@pytest.mark.parametrize("granularity", ["tensor", "token", "channel", "group", "group-out"])
def test_blocks_are_restored(granularity: str) -> None:
    x = gaussian(6, 4)
    blocks = blocked(x, granularity, 2)
    assert torch.equal(blocks.restore(blocks.rows), x)
    assert len(blocks.rows) == round(24 * scales_per_weight((6, 4), granularity, 2))


def test_groups_must_divide_their_axis() -> None:
    with pytest.raises(ValueError, match="no multiple"):
        Scheme(4, granularity="group", size=4)(gaussian(4, 6))


def test_least_squares_search_is_the_best_candidate() -> None:
    """Against the plain loop over all candidates, on a tensor with an outlier that is worth clipping."""
    weight = gaussian(1, 400)
    weight[0, 0] = 20
    limit, signed = least_squares_limit(weight, 4)
    candidates = [20.5 / 100 * k for k in range(1, 101)]
    errors = [float((symmetric_grid(torch.tensor(c), 4)(weight) - weight).square().sum()) for c in candidates]
    assert signed
    assert float(limit) == pytest.approx(candidates[errors.index(min(errors))])
    assert float(limit) < 20


def test_running_range() -> None:
    """As `torch`'s MovingAverageMinMaxObserver with averaging constant 0.1: the first batch starts it."""
    running = RunningRange()
    running.update(torch.tensor([-1.0, 2.0]))
    low, high = running.update(torch.tensor([-2.0, 1.0]))
    assert (float(low), float(high)) == pytest.approx((-1.1, 1.9))


def test_static_quantiser_uses_the_updated_range_in_the_same_pass() -> None:
    quantiser = StaticQuantiser(8)
    x = gaussian(5, 5)
    assert torch.equal(quantiser(x), Scheme(8, "asymmetric")(x))
    quantiser.calibrating = False
    assert quantiser(100 * x).abs().max() <= x.abs().max() * 1.01
    fresh = StaticQuantiser(8)
    fresh.calibrating = False
    with pytest.raises(ValueError, match="before it has seen"):
        fresh(x)


def test_sqnr_of_uniform_noise() -> None:
    """A full-scale uniform signal in b bits has about 6.02 b dB."""
    x = 2 * torch.rand(200_000, generator=torch.Generator().manual_seed(0)) - 1
    assert sqnr(x, Scheme(8, "asymmetric")(x)) == pytest.approx(6.02 * 8, abs=0.1)
    assert sqnr(x, x) == float("inf")
