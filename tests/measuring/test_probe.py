"""That a probe records what the metrics say of the stream."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from reproduce.config import BlockConfig, TransformerConfig
from reproduce.measuring.moment_updates import MomentUpdates
from reproduce.measuring.probe import Probe, measure
from reproduce.metrics.kurtosis import kurtosis
from reproduce.metrics.scale import second_moments
from reproduce.metrics.stream import measure_stream
from reproduce.models.transformer import Transformer
from reproduce.models.variants import VARIANTS


def model(variant: str = "pre-ln") -> Transformer:
    torch.manual_seed(0)
    block = BlockConfig.model_validate(VARIANTS[variant])
    return Transformer(TransformerConfig(layers=2, width=16, heads=2, block=block), 20, 8)


def test_a_reading_holds_every_metric_of_every_layer() -> None:
    net, ids = model(), torch.randint(0, 20, (3, 8))
    reading = measure(net, [ids], Probe("residual"))
    streams = ["1", "2", "unembed"]
    assert set(reading.values) == {*measure_stream(torch.randn(4, 4)), "attention_entropy"}
    assert list(reading.values["kurtosis"]) == streams
    assert list(reading.values["attention_entropy"]) == ["1", "2"]
    with torch.no_grad():
        stream = net.encode(ids, blocks=1)
    assert reading.values["kurtosis"]["2"] == pytest.approx(float(kurtosis(stream)), rel=1e-5)
    torch.testing.assert_close(reading.moments["2"], second_moments(stream))
    assert reading.peak_kurtosis == max(reading.values["kurtosis"].values())


def test_the_attention_input_is_the_output_of_the_pre_norm_and_the_raw_stream_without_one() -> None:
    ids = torch.randint(0, 20, (3, 8))
    for variant, same in (("op", True), ("pre-ln", False)):
        net = model(variant)
        raw, normed = (
            measure(net, [ids], Probe(point)).values["activation_rms"] for point in ("residual", "attention-input")
        )
        assert (raw["1"] == normed["1"]) is same
        assert raw["unembed"] == normed["unembed"]


def test_the_mlp_input_is_the_stream_between_the_branches() -> None:
    """The last block's MLP is silenced, so that its input is what leaves the model."""
    net, ids = model("pre-ln"), torch.randint(0, 20, (3, 8))
    torch.nn.init.zeros_(net.blocks[-1].mlp.down.weight)
    between = measure(net, [ids], Probe("mlp-input")).values["kurtosis"]
    assert list(between) == ["1", "2", "unembed"]
    assert between["2"] == pytest.approx(between["unembed"], rel=1e-6)
    assert between["1"] != pytest.approx(measure(net, [ids], Probe()).values["kurtosis"]["1"], rel=1e-4)


def test_several_batches_are_measured_as_one() -> None:
    net, ids = model(), torch.randint(0, 20, (6, 8))
    whole, parts = measure(net, [ids], Probe()), measure(net, [ids[:1], ids[1:4], ids[4:]], Probe())
    assert set(whole.values) == set(parts.values)
    for metric, by_layer in whole.values.items():
        assert parts.values[metric] == pytest.approx(by_layer, rel=1e-5, abs=1e-6), metric
    for layer, moments in whole.moments.items():
        torch.testing.assert_close(parts.moments[layer], moments)


def test_a_model_of_ones_own_is_measured_without_a_trainer() -> None:
    stream = torch.randn(5, 3, 12)

    class Mine:
        def encode(self, batch: torch.Tensor, observe: Callable[[str, str, torch.Tensor], None]) -> None:
            assert not torch.is_grad_enabled()
            observe("residual", "1", batch)

    reading = measure(Mine(), [stream], Probe())
    assert {name: by_layer["1"] for name, by_layer in reading.values.items()} == {
        name: float(value) for name, value in measure_stream(stream).items()
    }
    with pytest.raises(ValueError, match="without a batch"):
        measure(Mine(), [], Probe())


def test_moment_updates_add_up_to_the_change_of_the_moments() -> None:
    net, ids = model("op"), torch.randint(0, 20, (3, 8))
    updates = MomentUpdates(2, lambda: net.encode(ids, blocks=1))
    assert updates.step() == {}

    def fourth() -> float:
        with torch.no_grad():
            return float(second_moments(net.encode(ids, blocks=1)).square().mean())

    before = fourth()
    with torch.no_grad():
        net.token_embedding.weight.mul_(1.1)
    taken = updates.step()
    orders = ("linear", "quadratic", "cubic", "quartic")
    total = sum(taken[f"m4_update_{order}"]["2"] for order in orders)
    assert abs(total - (fourth() - before)) < 1e-4 * fourth()
