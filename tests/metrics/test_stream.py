import math

import pytest
import torch
from hypothesis import given
from torch.testing import assert_close

from reproduce.metrics.inputs import as_inputs
from reproduce.metrics.mmr import row_ratios
from reproduce.metrics.scale import second_moments
from reproduce.metrics.stream import measure_stream
from reproduce.metrics.sums import StreamSums
from reproduce.metrics.table import STREAM_METRICS

from . import naive
from .singles import SINGLE
from .streams import gaussian, quick, streams, uneven

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@quick
@given(streams)
def test_all_metrics_at_once_are_those_of_the_loops(x):
    measured = {name: value.item() for name, value in measure_stream(x).items()}
    assert tuple(measured) == STREAM_METRICS
    assert measured == pytest.approx(naive.stream(x), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("shape", [(200, 32), (32, 200), (64, 64), (4, 25, 16), (1, 8), (8, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_metrics_at_once_are_those_of_the_single_functions(shape, dtype):
    x = uneven(math.prod(shape[:-1]), shape[-1]).to(dtype).reshape(shape)
    measured = measure_stream(x)
    for name in STREAM_METRICS:
        assert measured[name].shape == ()
        assert measured[name].dtype == dtype
        assert_close(measured[name], SINGLE[name](x), rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", STREAM_METRICS)
def test_leading_axes_are_all_inputs(name):
    x = uneven(24, 10)
    assert torch.equal(SINGLE[name](x.reshape(2, 3, 4, 10)), SINGLE[name](x))


@pytest.mark.parametrize("name", STREAM_METRICS)
def test_a_single_vector_is_one_input(name):
    x = uneven(1, 10)
    assert_close(SINGLE[name](x[0]), SINGLE[name](x), equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_is_upcast_before_anything_else(dtype):
    x = uneven(40, 10).to(dtype)
    assert_close(measure_stream(x), measure_stream(x.float()), rtol=0, atol=0)
    for name in STREAM_METRICS:
        assert SINGLE[name](x).dtype == torch.float32
        assert torch.equal(SINGLE[name](x), SINGLE[name](x.float()))


@pytest.mark.parametrize("name", STREAM_METRICS)
def test_no_part_in_autograd(name):
    x = uneven(20, 10).requires_grad_()
    for value in (SINGLE[name](x), measure_stream(x)[name]):
        assert not value.requires_grad


def test_nor_have_the_vectors_and_sums_behind_the_metrics():
    x = uneven(20, 10).requires_grad_()
    sums = StreamSums.of(x)
    for value in (row_ratios(x), second_moments(x), sums.total, sums.gram, sums.norm_fourth):
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
    for name in STREAM_METRICS:
        SINGLE[name](x)
    assert torch.equal(x, copy)


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_gives_the_same_numbers(device):
    x = uneven(300, 40).float()
    measured = {name: value.cpu() for name, value in measure_stream(x.to(device).T.contiguous().T).items()}
    assert_close(measured, measure_stream(x), rtol=1e-5, atol=1e-6)


def test_a_stream_is_measured_where_it_lies():
    """A meta tensor stands for one of a GPU: it cannot be copied to the CPU, as streams of Apple's GPUs alone are."""
    assert as_inputs(torch.empty(2, 3, 4, device="meta")).shape == (6, 4)


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
