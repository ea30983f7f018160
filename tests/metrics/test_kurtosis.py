import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from reproduce.metrics.kurtosis import kurtosis, kurtosis_centred, kurtosis_of_moments
from reproduce.metrics.scale import second_moments

from . import naive
from .streams import gaussian, generator, one_outlier, quick, rotation, seeds, streams, uneven


@quick
@given(streams)
def test_kurtosis_is_equation_1(x):
    assert kurtosis(x).item() == pytest.approx(naive.kurtosis(naive.rows(x)), rel=1e-12)
    assert kurtosis_centred(x).item() == pytest.approx(naive.kurtosis(naive.centred(naive.rows(x))), rel=1e-9)


@quick
@given(streams)
def test_kurtosis_lies_between_1_and_the_width(x):
    assert 1 - 1e-12 <= kurtosis(x).item() <= x.shape[1] + 1e-12


@quick
@given(streams, seeds, st.floats(1e-6, 1e6))
def test_kurtosis_ignores_scale_and_the_order_of_inputs_and_neurons(x, seed, factor):
    n, d = x.shape
    shuffled = x[torch.randperm(n, generator=generator(seed))][:, torch.randperm(d, generator=generator(seed))]
    for metric in (kurtosis, kurtosis_centred):
        assert_close(metric(-factor * shuffled), metric(x))


def test_kurtosis_depends_on_the_basis():
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    turned = x @ torch.tensor([[1.0, 1.0], [-1.0, 1.0]]) / math.sqrt(2)
    assert kurtosis(x) == 2
    assert kurtosis(turned).item() == pytest.approx(1)


@pytest.mark.parametrize(("factor", "published"), [(10, 24.2), (30, 55.9), (100, 63.2)])
def test_one_large_neuron_of_64(factor, published):
    d = 64
    expected = d * (factor**4 + d - 1) / (factor**2 + d - 1) ** 2
    assert kurtosis(one_outlier(50, d, factor)).item() == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(published, abs=0.05)
    noisy = gaussian(20_000, d)
    noisy[:, 0] *= factor
    assert kurtosis(noisy).item() == pytest.approx(expected, rel=0.02)


def test_a_hadamard_rotation_removes_the_outlier_and_a_general_one_does_not():
    """Rotated neurons share the outlier by the squares of one row: equal for Hadamard, Gaussian squared for Haar."""
    x = one_outlier(2000, 64, 100)
    hadamard = torch.ones(1, 1, dtype=torch.float64)
    for _ in range(6):
        hadamard = torch.cat([torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)])
    signs = gaussian(64).sign()
    assert kurtosis(x @ (signs[:, None] * hadamard / 8)).item() == pytest.approx(1, abs=0.01)
    general = torch.stack([kurtosis(x @ rotation(64, seed)) for seed in range(50)]).mean()
    assert general.item() == pytest.approx(3 * 64 / 66, rel=0.1)


@pytest.mark.parametrize("rho", [0, 0.5, 1])
def test_gaussian_features_of_inputs_with_correlation_rho(rho):
    """Proposition E.1 of v1: 1 + 2 rho^2."""
    common, own = gaussian(1, 20_000, seed=1, dtype=torch.float32), gaussian(200, 20_000, dtype=torch.float32)
    x = math.sqrt(rho) * common + math.sqrt(1 - rho) * own
    assert kurtosis(x).item() == pytest.approx(1 + 2 * rho**2, rel=0.02)


def test_random_embeddings_of_tokens_with_frequencies_p():
    """At initialisation kurtosis - 1 is 2 sum_k p_k^2."""
    tokens = (gaussian(4096).abs() * 6).long()
    frequencies = tokens.bincount() / len(tokens)
    x = gaussian(int(tokens.max()) + 1, 4096, seed=1, dtype=torch.float32)[tokens]
    assert kurtosis(x).item() - 1 == pytest.approx(2 * frequencies.square().sum().item(), rel=0.1)


def test_the_forms_the_authors_use():
    x = uneven(20, 12)
    s = second_moments(x)
    assert kurtosis(x).item() - 1 == pytest.approx((s / s.mean()).var(correction=0).item(), rel=1e-12)
    s = second_moments(x - x.mean(1, keepdim=True))
    assert 12 / 11 * (kurtosis_centred(x).item() - 1) == pytest.approx((s / s.mean()).var().item(), rel=1e-12)


def test_equal_magnitudes_give_1():
    assert kurtosis(gaussian(30, 16).sign()) == 1


def test_it_is_not_the_pearson_kurtosis_of_the_activations():
    heavy_tailed = gaussian(5000, 16) ** 3
    assert kurtosis(heavy_tailed).item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_no_float32_overflows_or_vanishes(scale):
    x = uneven(20, 12).float()
    assert_close(kurtosis(x * scale), kurtosis(x))
    assert_close(kurtosis_centred(x * scale), kurtosis_centred(x))


def test_moments_summed_over_parts_give_the_kurtosis_of_the_whole():
    x = uneven(20, 12)
    summed = 5 * second_moments(x[:5]) + 15 * second_moments(x[5:])
    assert_close(kurtosis_of_moments(summed), kurtosis(x))


def test_one_neuron():
    x = gaussian(5, 1)
    assert kurtosis(x) == 1
    assert kurtosis_centred(x).isnan()


@pytest.mark.parametrize("metric", [kurtosis, kurtosis_centred])
@pytest.mark.parametrize("value", [0.0, math.inf, -math.inf, math.nan])
def test_nan_without_activations_or_with_infinite_ones(metric, value):
    x = (
        torch.zeros(4, 3)
        if value == 0
        else torch.ones(4, 3).index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(value))
    )
    assert metric(x).isnan()
