import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from reproduce.metrics.scale import activation_rms, second_moments

from . import naive
from .streams import gaussian, generator, quick, rotation, seeds, streams, uneven


@quick
@given(streams)
def test_second_moments_and_rms_are_those_of_the_loops(x):
    expected = naive.moments(naive.rows(x))
    assert second_moments(x).tolist() == pytest.approx(expected, rel=1e-12)
    assert activation_rms(x).item() == pytest.approx(math.sqrt(naive.mean(expected)), rel=1e-12)


@quick
@given(streams, seeds, st.floats(1e-6, 1e6))
def test_the_rms_scales_and_ignores_order_and_basis(x, seed, factor):
    n, d = x.shape
    shuffled = x[torch.randperm(n, generator=generator(seed))] @ rotation(d, seed)
    assert_close(activation_rms(-factor * shuffled), factor * activation_rms(x))


def test_the_rms_is_a_frobenius_norm():
    x = gaussian(30, 16)
    assert activation_rms(x).item() == pytest.approx(torch.linalg.matrix_norm(x).item() / math.sqrt(30 * 16), rel=1e-12)


def test_zero_activations():
    assert activation_rms(torch.zeros(3, 4)) == 0
    assert torch.equal(second_moments(torch.zeros(3, 4)), torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_nan_if_an_activation_is_not_finite(value):
    assert activation_rms(torch.tensor([[1.0, value]])).isnan()


def test_large_float32_have_moments_that_float32_could_not_hold():
    x = uneven(20, 12).float()
    assert_close(second_moments(x * 1e30) / 1e60, second_moments(x))
    assert_close(activation_rms(x * 1e30) / 1e30, activation_rms(x))
