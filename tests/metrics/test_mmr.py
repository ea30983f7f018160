import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from reproduce.metrics.mmr import lower_median, mmr, mmr_infinite, row_ratios

from . import naive
from .streams import gaussian, generator, quick, seeds, streams, uneven


@quick
@given(streams)
def test_ratios_are_equation_2(x):
    expected = naive.ratios(naive.rows(x))
    assert row_ratios(x).tolist() == pytest.approx(expected, rel=1e-12)
    assert mmr(x).item() == pytest.approx(naive.mean(expected), rel=1e-12)
    assert mmr(x, "median").item() == pytest.approx(sorted(expected)[(len(expected) - 1) // 2], rel=1e-12)
    assert mmr(x, "max").item() == pytest.approx(max(expected), rel=1e-12)


@quick
@given(streams, seeds, st.floats(1e-6, 1e6))
def test_it_ignores_scale_and_the_order_of_inputs_and_neurons(x, seed, factor):
    n, d = x.shape
    shuffled = x[torch.randperm(n, generator=generator(seed))][:, torch.randperm(d, generator=generator(seed))]
    for aggregate in ("mean", "median", "max"):
        assert_close(mmr(-factor * shuffled, aggregate), mmr(x, aggregate))


@quick
@given(st.integers(1, 40), st.integers(1, 9), seeds)
def test_the_median_is_torchs_also_between_equals(n, d, seed):
    magnitude = torch.randint(0, 4, (n, d), generator=generator(seed)).float()
    assert torch.equal(lower_median(magnitude), magnitude.median(1).values)


def test_off_the_cpu_the_median_is_taken_of_each_row_without_numpy():
    """A meta tensor has a shape alone, and no path to NumPy: what a GPU would do but for the values."""
    assert lower_median(torch.empty(3, 5, device="meta")).shape == (3,)


def test_the_lower_middle_value_for_even_width():
    assert mmr(torch.tensor([[1.0, -8.0, 2.0, 4.0]])) == 4
    assert mmr(torch.tensor([[1.0, -8.0, 2.0, 4.0, 4.0]])) == 2


def test_equal_magnitudes_give_1():
    x = gaussian(30, 16).sign()
    assert mmr(x) == mmr(x, "median") == mmr(x, "max") == 1


def test_one_neuron_gives_1():
    assert mmr(gaussian(5, 1)) == 1


def test_a_zero_median_gives_an_infinite_ratio_and_zeros_throughout_give_1():
    x = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 7.0], [1.0, 1.0, 3.0]])
    assert row_ratios(x).tolist() == [1, math.inf, 3]
    assert mmr(x) == 2, "the mean is over the finite ratios"
    assert mmr(x, "median") == 3, "an infinite ratio has its place in the order"
    assert mmr(x, "max") == math.inf
    assert mmr_infinite(x) == 1


def test_without_a_finite_ratio_the_mean_is_nan():
    x = torch.tensor([[0.0, 0.0, 7.0]])
    assert mmr(x).isnan()
    assert mmr(x, "median") == mmr(x, "max") == math.inf


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_nan_if_an_activation_is_not_finite(value):
    x = torch.ones(4, 5)
    x[1, 2] = value
    assert row_ratios(x).isnan().tolist() == [False, True, False, False]
    assert all(mmr(x, aggregate).isnan() for aggregate in ("mean", "median", "max"))
    assert mmr_infinite(x).isnan()


def test_large_float32():
    x = uneven(20, 12).float()
    assert_close(mmr(x * 1e30), mmr(x))


def test_an_unknown_aggregate_is_named():
    with pytest.raises(ValueError, match="not 'sum'"):
        mmr(torch.ones(2, 2), "sum")
