import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from reproduce.metrics.correlation import (
    eq5_gap,
    eq5_residual,
    feature_correlation_rms,
    input_correlation_mean,
    input_correlation_rms,
    rms_over_pairs,
)
from reproduce.metrics.kurtosis import kurtosis

from . import naive
from .streams import gaussian, generator, quick, rotation, seeds, streams, uneven

CORRELATIONS = [input_correlation_mean, input_correlation_rms, feature_correlation_rms]


@quick
@given(streams)
def test_correlations_are_those_of_the_full_gram_matrices(x):
    expected = naive.stream(x)
    for metric in CORRELATIONS:
        assert metric(x).item() == pytest.approx(expected[metric.__name__], rel=1e-9)


@quick
@given(streams, seeds, st.floats(1e-6, 1e6))
def test_they_ignore_scale_and_the_order_of_inputs_and_neurons(x, seed, factor):
    n, d = x.shape
    shuffled = x[torch.randperm(n, generator=generator(seed))][:, torch.randperm(d, generator=generator(seed))]
    for metric in CORRELATIONS:
        assert_close(metric(-factor * shuffled), metric(x))


@quick
@given(streams, seeds)
def test_input_correlations_do_not_depend_on_the_basis(x, seed):
    turned = x @ rotation(x.shape[1], seed)
    assert_close(input_correlation_mean(turned), input_correlation_mean(x))
    assert_close(input_correlation_rms(turned), input_correlation_rms(x))


def test_the_feature_correlation_does():
    x = gaussian(500, 2) * torch.tensor([10.0, 0.1])
    assert feature_correlation_rms(x) < 0.01
    assert feature_correlation_rms(x @ torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=x.dtype)) > 0.9


@quick
@given(streams)
def test_equation_5_is_an_identity(x):
    """Both sides from full matrices, and the terms from the metrics: the two ways of writing it agree."""
    n, d = x.shape
    unit = naive.at_unit_rms(naive.rows(x))
    left = n**2 * d * naive.kurtosis(unit) + math.fsum(
        v**2 for v in naive.off_diagonal(naive.gram(naive.transposed(unit)))
    )
    right = math.fsum(v**2 for row in naive.gram(unit) for v in row)
    assert left == pytest.approx(right, rel=1e-13)
    assert n**2 * d * (kurtosis(x) + (d - 1) * feature_correlation_rms(x) ** 2).item() == pytest.approx(left, rel=1e-12)
    assert abs(eq5_residual(x).item()) < 1e-13


def test_a_gap_in_equation_5_is_relative_to_the_kurtosis():
    """No stream has a gap, so this takes terms that are of no stream: 2 + 2/4 against 3/2 3 + 3 1/2 1/4."""
    terms = (torch.tensor(value, dtype=torch.float64) for value in (2.0, 0.5, 0.5, 3.0))
    assert eq5_gap(*terms, n=2, d=3).item() == pytest.approx((2.5 - 4.875) / 2, rel=1e-14)


@pytest.mark.parametrize("shape", [(4096, 32), (32, 512)])
def test_equation_5_holds_in_float32(shape):
    assert abs(eq5_residual(uneven(*shape).float()).item()) < 1e-5


def test_the_right_side_of_equation_5_under_rank_collapse_and_for_orthogonal_inputs():
    n, d = 6, 8
    for x, right in ((gaussian(1, d).expand(n, d), n**2 * d**2), (rotation(d)[:n], n * d**2)):
        pairs = n * (n - 1) * d**2 * input_correlation_rms(x) ** 2
        own = n * d**2  # inputs of equal norm
        assert (pairs + own).item() == pytest.approx(right, rel=1e-9)


def test_rank_one_with_equal_magnitudes():
    x = gaussian(16).sign().expand(10, 16)
    for metric in CORRELATIONS:
        assert metric(x).item() == pytest.approx(1, rel=1e-12)


def test_orthogonal_inputs_and_features():
    eye = torch.eye(6)
    assert all(metric(eye) == 0 for metric in CORRELATIONS)
    opposite = torch.tensor([[1.0, 2.0], [-1.0, -2.0]])
    assert input_correlation_mean(opposite).item() == pytest.approx(-1)
    assert input_correlation_rms(opposite).item() == pytest.approx(1)


def test_orthogonal_pairs_whose_sum_rounds_to_below_zero_have_rms_0():
    assert rms_over_pairs(torch.tensor(-1e-12, dtype=torch.float64), 3) == 0


def test_they_are_no_cosines():
    """Of three parallel inputs two are long: (S_I)_12 / d = 3/2 and the other pairs are negligible."""
    x = torch.ones(3, 4) * torch.tensor([[1e6], [1e6], [1.0]])
    assert input_correlation_mean(x).item() == pytest.approx(3 / 2 / 3, rel=1e-4)
    assert input_correlation_rms(x).item() == pytest.approx(3 / 2 / math.sqrt(3), rel=1e-4)


@quick
@given(streams)
def test_their_range(x):
    n = len(x)
    assert -1 / (n - 1) - 1e-12 <= input_correlation_mean(x).item() <= 1 + 1e-12
    assert 0 <= input_correlation_rms(x).item() <= 1 + 1e-12
    assert 0 <= feature_correlation_rms(x).item() <= 1 + 1e-12


def test_random_embeddings_of_tokens_with_frequencies_p():
    """At initialisation the mean correlation is the probability that two positions hold the same token."""
    tokens = (gaussian(1000).abs() * 6).long()
    counts = tokens.bincount().double()
    x = gaussian(int(tokens.max()) + 1, 4096, seed=1)[tokens]
    same = (counts * (counts - 1)).sum() / (1000 * 999)
    assert input_correlation_mean(x).item() == pytest.approx(same.item(), rel=0.05)


def test_no_matrix_of_all_pairs_is_formed():
    x = gaussian(300_000, 2, dtype=torch.float32)  # 300,000^2 float32 would take 360 GB
    assert all(abs(metric(x).item()) < 1 for metric in (*CORRELATIONS, eq5_residual))
    assert all(abs(metric(x.T).item()) < 1 for metric in (*CORRELATIONS, eq5_residual))


@pytest.mark.parametrize("metric", CORRELATIONS)
def test_autocast_leaves_the_precision_alone(metric):
    x = uneven(40, 12).float()
    expected = metric(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(metric(x), expected)


def test_one_input_has_no_input_correlation():
    x = gaussian(1, 5)
    assert input_correlation_mean(x).isnan()
    assert input_correlation_rms(x).isnan()
    assert feature_correlation_rms(x) > 0
    assert eq5_residual(x).isnan()


def test_one_neuron_has_no_feature_correlation():
    x = gaussian(5, 1)
    assert feature_correlation_rms(x).isnan()
    assert input_correlation_rms(x) > 0
    assert eq5_residual(x).isnan()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_no_float32_overflows_or_vanishes(scale):
    x = uneven(20, 12).float()
    for metric in CORRELATIONS:
        assert_close(metric(x * scale), metric(x))


@pytest.mark.parametrize("metric", [*CORRELATIONS, eq5_residual])
@pytest.mark.parametrize("value", [0.0, math.inf, -math.inf, math.nan])
def test_nan_without_activations_or_with_infinite_ones(metric, value):
    x = (
        torch.zeros(4, 3)
        if value == 0
        else torch.ones(4, 3).index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(value))
    )
    assert metric(x).isnan()
