"""Metrics over batches against closed forms, and against a naive computation in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from reproduce.measuring.observer import OutlierObserver, signal_to_noise
from reproduce.measuring.streaming import StreamingSums
from reproduce.metrics.kurtosis import kurtosis_code
from reproduce.metrics.pearson import kurtosis_excess, kurtosis_flat
from reproduce.metrics.table import CHECKPOINT_METRICS, CORRELATION_METRICS
from tests.metrics import naive


def stream(batch: int = 5, length: int = 7, width: int = 6) -> Tensor:
    """A stream with an outlier neuron that is huge at the first position."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(batch, length, width, generator=generator)
    x[:, :, 2] *= 4
    x[:, 0, 2] += 40
    return x


def by_hand(x: Tensor) -> dict[str, float]:
    """Every metric of `x` (B, T, d), with loops over Python floats."""
    rows = naive.rows(x)
    plain = naive.stream(x)
    d = len(rows[0])
    centred = naive.moments(naive.centred(rows))
    normed = [value / naive.mean(centred) for value in centred]
    flat, excess = [], []
    for sequence in x.double():
        values = sequence.flatten().tolist()
        mu = naive.mean(values)
        sigma2 = math.fsum((v - mu) ** 2 for v in values) / (len(values) - 1)
        flat.append(naive.mean([(v - mu) ** 4 for v in values]) / (sigma2**2 + 1e-6))
    for row in rows:
        mu = naive.mean(row)
        excess.append(max(0.0, naive.mean([v**4 for v in row]) / naive.mean([(v - mu) ** 2 for v in row]) ** 2 - 3))
    return plain | {
        "kurtosis_code": math.fsum((value - 1) ** 2 for value in normed) / (d - 1),
        "kurtosis_flat": naive.mean(flat),
        "kurtosis_excess": naive.mean(excess),
    }


def test_single_functions_give_the_same_conventions() -> None:
    x = stream()
    expected = by_hand(x)
    for function in (kurtosis_code, kurtosis_flat, kurtosis_excess):
        assert float(function(x)) == pytest.approx(expected[function.__name__], rel=1e-6)
        assert float(function(x.double())) == pytest.approx(expected[function.__name__], rel=1e-12)


def test_normal_activations_have_a_pearson_kurtosis_of_three_and_no_excess() -> None:
    x = torch.randn(4, 50, 500, generator=torch.Generator().manual_seed(0))
    assert float(kurtosis_flat(x)) == pytest.approx(3, abs=0.05)
    assert float(kurtosis_excess(x)) < 0.2


@pytest.mark.parametrize("skip", [0, 1, 3])
@pytest.mark.parametrize("batches", [1, 2, 5])
def test_both_columns_are_those_of_a_naive_computation(batches: int, skip: int) -> None:
    x = stream()
    sums = StreamingSums(skip, correlations=True)
    for part in x.chunk(batches):
        sums.add(part)
    values = sums.values()
    assert tuple(values["all"]) == (*CHECKPOINT_METRICS, *CORRELATION_METRICS)
    for column, seen in (("all", x), ("skipped", x[:, skip:])):
        expected = by_hand(seen)
        for metric, value in values[column].items():
            assert value == pytest.approx(expected[metric], rel=1e-6, abs=1e-12), (column, metric)


def test_padding_counts_for_nothing_and_the_first_token_is_the_first_position() -> None:
    x = stream()
    padded = torch.cat((1e6 * torch.ones(5, 2, 6), x, -1e6 * torch.ones(5, 3, 6)), 1)
    mask = torch.zeros(5, 12, dtype=torch.long)
    mask[:, 2:9] = 1
    plain, sums = StreamingSums(1, correlations=True), StreamingSums(1, correlations=True)
    plain.add(x)
    sums.add(padded, mask)
    for column, values in sums.values().items():
        assert values == pytest.approx(plain.values()[column], rel=1e-9)


def test_one_neuron_that_carries_all_has_the_kurtosis_of_the_width() -> None:
    x = torch.zeros(2, 3, 8)
    x[..., 5] = 7
    sums = StreamingSums(1)
    sums.add(x)
    values = sums.values()["all"]
    assert values["kurtosis"] == 8
    assert values["activation_rms"] == pytest.approx(7 / math.sqrt(8))
    assert values["mmr_infinite"] == 6
    assert values["input_correlation_mean"] == pytest.approx(1)
    assert values["kurtosis_excess"] == pytest.approx(7**4 / 8 / (49 / 8 - 49 / 64) ** 2 - 3)


def test_equal_neurons_have_none() -> None:
    sums = StreamingSums(1)
    sums.add(torch.tensor([1.0, -1.0]).repeat(2, 3, 4))
    for values in sums.values().values():
        assert values["kurtosis"] == values["kurtosis_centred"] == values["mmr_mean"] == 1
        assert values["kurtosis_code"] == values["kurtosis_excess"] == 0


def test_what_is_kept_does_not_grow_with_the_number_of_tokens() -> None:
    sums = StreamingSums(1, correlations=True)

    def size() -> int:
        kept = [value for value in vars(sums).values() if isinstance(value, Tensor)]
        return sum(value.numel() for value in [*kept, *vars(sums._sums).values()])

    sums.add(stream())
    first = size()
    for _ in range(5):
        sums.add(stream())
    assert size() == first


def test_without_any_position_left_the_second_column_is_empty() -> None:
    sums = StreamingSums(7)
    sums.add(stream())
    assert all(math.isnan(value) for value in sums.values()["skipped"].values())
    assert not any(math.isnan(value) for value in sums.values()["all"].values())


def test_activations_that_are_not_finite_give_no_number() -> None:
    x = stream()
    x[1, 2, 3] = torch.inf
    sums = StreamingSums(1)
    sums.add(x)
    values = sums.values()["all"]
    assert math.isnan(values["kurtosis"])
    assert math.isnan(values["mmr_mean"])
    assert math.isnan(values["activation_rms"])


# ---------------------------------------------------------------------------------------------------
# The observer


def test_the_worst_neurons_and_where_they_fire() -> None:
    observer = OutlierObserver()
    x = stream()
    for part in x.split(2):
        observer("stream", "1", part)
        observer("stream", "unembed", torch.ones_like(part))
        observer("attn_out", "1", part)
    reading = observer.reading()
    assert [(one.point, one.layer) for one in reading.layers] == [
        ("stream", "1"), ("stream", "unembed"), ("attn_out", "1")
    ]  # fmt: skip
    worst = reading.neurons[0]
    energy = x.double().square().sum((0, 1))
    assert (worst.layer, worst.neuron) == ("1", 2)
    assert worst.share == pytest.approx(float(energy[2] / energy.sum()))
    assert {firing.input for firing in worst.firing} == {0, 7, 14, 21, 28}, "the first position of each sequence"
    values = [firing.value for firing in worst.firing]
    assert values == sorted((float(x[at // 7, at % 7, 2].abs()) for at in (0, 7, 14, 21, 28)), reverse=True)
    assert reading.moments["1"] == pytest.approx((energy / 35).tolist())
    assert reading.by_layer("kurtosis") == {"1": reading.layers[0].values["all"]["kurtosis"], "unembed": 1.0}


def test_names_for_a_logger() -> None:
    observer = OutlierObserver()
    observer("stream", "1", stream())
    observer("down_in", "1", stream())
    flat = observer.reading().flat("of")
    assert flat["of/kurtosis/1"] == flat["of/down_in/kurtosis/1"]
    assert flat["of/kurtosis_skipped/1"] < flat["of/kurtosis/1"]
    assert len(flat) == 2 * 2 * len(CHECKPOINT_METRICS)


def test_nothing_seen_is_nothing_measured() -> None:
    with pytest.raises(ValueError, match="no forward pass of the model has been observed"):
        OutlierObserver().reading()


def test_the_noise_of_8_bits_has_its_closed_form() -> None:
    """Values spread evenly have the error scale^2 / 12 of rounding."""
    x = torch.linspace(-1, 1, 100_001, dtype=torch.float64)[None]
    expected = 10 * math.log10((1 / 3) / ((1 / 127) ** 2 / 12))
    assert float(signal_to_noise(x, torch.tensor(1.0))) == pytest.approx(expected, abs=0.01)
    # A scale of twice the size costs 6.02 dB.
    assert float(signal_to_noise(x, torch.tensor(2.0))) == pytest.approx(expected - 20 * math.log10(2), abs=0.05)


def test_8_bits_cost_most_where_one_position_sets_the_scale() -> None:
    observer = OutlierObserver()
    observer("stream", "1", torch.randn(5, 70, 6))
    observer("stream", "2", stream(length=70))
    int8 = observer.reading().int8
    assert int8 is not None
    assert int8.layer == "2"
    assert int8.cost_db > 10
