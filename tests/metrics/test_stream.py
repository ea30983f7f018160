import math

import pytest
import torch
from hypothesis import given
from torch.testing import assert_close

from reproduce import metrics
from reproduce.metrics import measure_stream, mmr

from . import naive
from .streams import gaussian, quick, streams, uneven

NAMES = [
    "kurtosis",
    "kurtosis_centred",
    "mmr_mean",
    "mmr_median",
    "mmr_max",
    "mmr_infinite",
    "input_correlation_mean",
    "input_correlation_rms",
    "feature_correlation_rms",
    "activation_rms",
    "eq5_residual",
]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def single(x, name):
    aggregate = name.removeprefix("mmr_")
    return mmr(x, aggregate) if aggregate in ("mean", "median", "max") else getattr(metrics, name)(x)


@quick
@given(streams)
def test_all_metrics_at_once_are_those_of_the_loops(x):
    measured = {name: value.item() for name, value in measure_stream(x).items()}
    assert list(measured) == NAMES
    assert measured == pytest.approx(naive.stream(x), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("shape", [(200, 32), (32, 200), (64, 64), (4, 25, 16), (1, 8), (8, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_metrics_at_once_are_those_of_the_single_functions(shape, dtype):
    x = uneven(math.prod(shape[:-1]), shape[-1]).to(dtype).reshape(shape)
    measured = measure_stream(x)
    for name in NAMES:
        assert measured[name].shape == ()
        assert measured[name].dtype == dtype
        assert_close(measured[name], single(x, name), rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_leading_axes_are_all_inputs(name):
    x = uneven(24, 10)
    assert torch.equal(single(x.reshape(2, 3, 4, 10), name), single(x, name))


@pytest.mark.parametrize("name", NAMES)
def test_a_single_vector_is_one_input(name):
    x = uneven(1, 10)
    assert_close(single(x[0], name), single(x, name), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_upcast_before_anything_else(dtype):
    x = uneven(40, 10).to(dtype)
    assert_close(measure_stream(x), measure_stream(x.float()), rtol=0, atol=0)
    for name in NAMES:
        assert single(x, name).dtype == torch.float32
        assert torch.equal(single(x, name), single(x.float(), name))


@pytest.mark.parametrize("name", NAMES)
def test_no_part_in_autograd(name):
    x = uneven(20, 10).requires_grad_()
    for value in (single(x, name), measure_stream(x)[name]):
        assert not value.requires_grad


def test_nor_have_the_vectors_and_sums_behind_the_metrics():
    x = uneven(20, 10).requires_grad_()
    sums = metrics.StreamSums.of(x)
    for value in (metrics.row_ratios(x), metrics.second_moments(x), sums.total, sums.gram, sums.norm_fourth):
        assert not value.requires_grad


def test_autocast_leaves_the_precision_alone():
    x = uneven(40, 12).float()
    expected = measure_stream(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(measure_stream(x), expected, rtol=0, atol=0)


def test_the_stream_is_left_as_it_was():
    x = uneven(20, 10)
    copy = x.clone()
    measure_stream(x)
    for name in NAMES:
        single(x, name)
    assert torch.equal(x, copy)


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_gives_the_same_numbers(device):
    x = uneven(300, 40).float()
    measured = {name: value.cpu() for name, value in measure_stream(x.to(device).T.contiguous().T).items()}
    assert_close(measured, measure_stream(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_no_float32_overflows_or_vanishes(scale):
    x = uneven(40, 12).float()
    expected, measured = measure_stream(x), measure_stream(x * scale)
    measured["activation_rms"] = measured["activation_rms"] / scale
    assert_close(measured, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_one_activation_that_is_not_finite_makes_every_metric_nan(value):
    x = gaussian(6, 5)
    x[1, 2] = value
    assert all(metric.isnan() for metric in measure_stream(x).values())


def test_zero_activations():
    measured = {name: value.item() for name, value in measure_stream(torch.zeros(6, 5)).items()}
    defined = {"mmr_mean": 1, "mmr_median": 1, "mmr_max": 1, "mmr_infinite": 0, "activation_rms": 0}
    assert {name: value for name, value in measured.items() if not math.isnan(value)} == defined


def test_infinite_ratios_are_counted():
    x = torch.ones(4, 5)
    x[:2, :3] = 0
    measured = measure_stream(x)
    assert measured["mmr_infinite"] == 2
    assert measured["mmr_mean"] == 1
    assert measured["mmr_max"] == math.inf


def test_the_public_names():
    assert metrics.__all__ == sorted(metrics.__all__)
    assert all(getattr(metrics, name).__doc__ for name in metrics.__all__)
