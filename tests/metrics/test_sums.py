import functools
import operator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from reproduce.metrics.kurtosis import kurtosis_centred
from reproduce.metrics.mmr import row_ratios
from reproduce.metrics.scale import second_moments
from reproduce.metrics.stream import measure_stream, stream_metrics
from reproduce.metrics.sums import StreamSums
from reproduce.metrics.table import STREAM_METRICS

from .singles import SINGLE
from .streams import gaussian, quick, streams, uneven

NAMES = [name for name in SINGLE if hasattr(StreamSums, name)]
"""The metrics that sums over inputs give, which are all but the ratios of single inputs."""


def test_every_metric_comes_from_sums_or_from_ratios_of_single_inputs():
    assert set(NAMES) == set(STREAM_METRICS) - {name for name in STREAM_METRICS if name.startswith("mmr_")}
    assert set(SINGLE) == set(STREAM_METRICS)


@quick
@given(streams)
def test_each_property_is_the_metric_of_its_name(x):
    sums = StreamSums.of(x)
    for name in NAMES:
        assert_close(getattr(sums, name), SINGLE[name](x), rtol=1e-9, atol=1e-12)
    assert_close(sums.second_moments, second_moments(x))


@quick
@given(streams, st.data())
def test_sums_of_parts_are_the_sums_of_the_whole(x, data):
    cut = data.draw(st.integers(1, len(x) - 1))
    whole, parts = StreamSums.of(x), StreamSums.of(x[cut:]) + StreamSums.of(x[:cut])
    assert (parts.n, parts.d) == tuple(x.shape)
    for name in NAMES:
        assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_all_metrics_from_parts_of_any_size(shape):
    x = uneven(*shape)
    parts = x.split([1, 3, 8, len(x) - 12]) if len(x) > 12 else x.split(5)
    sums = functools.reduce(operator.add, map(StreamSums.of, parts))
    ratios = torch.cat([row_ratios(part) for part in parts])
    assert_close(stream_metrics(sums, ratios), measure_stream(x), rtol=1e-9, atol=1e-12)


def test_a_mean_of_parts_would_be_another_number():
    x = uneven(40, 12)
    mean = (StreamSums.of(x[:20]).kurtosis + StreamSums.of(x[20:]).kurtosis) / 2
    assert abs(mean - StreamSums.of(x).kurtosis) > 0.01


def test_float32_is_summed_in_float64():
    x = uneven(40, 12).float()
    sums = StreamSums.of(x * 1e30)
    assert {field.dtype for field in (sums.total, sums.gram, sums.norm_fourth)} == {torch.float64}
    assert_close(sums.kurtosis, StreamSums.of(x).kurtosis, rtol=1e-6, atol=0)


def test_centring_survives_a_common_value_in_all_neurons():
    x = (1e4 + gaussian(50, 8)).float()
    assert_close(StreamSums.of(x).kurtosis_centred.float(), kurtosis_centred(x), rtol=1e-4, atol=0)


def test_sums_are_fixed_once_taken():
    with pytest.raises(AttributeError):
        StreamSums.of(torch.ones(2, 2)).n = 3
