from __future__ import annotations

import pytest

from reproduce.config import MlpConfig, TransformerConfig
from reproduce.models.variants import VARIANTS
from reproduce.plots.names import axis_label, block_name, common_label, layer_label, metric_label, value_label
from reproduce.plots.theme import BLOCK_COLOURS
from reproduce.specs.schema import Axis


@pytest.mark.parametrize(
    ("axis", "label"),
    [
        (Axis(metric="kurtosis"), "kurtosis"),
        (Axis(metric="kurtosis", form="variance"), "kurtosis − 1"),
        (Axis(metric="kurtosis_centred", form="variance"), "centred kurtosis − 1"),
        (Axis(metric="kurtosis", form="variance", label="Kurtosis, block 2"), "Kurtosis, block 2 (minus 1)"),
        (Axis(metric="kurtosis", form="variance", label="kurtosis - 1"), "kurtosis - 1"),
        (Axis(metric="m4_update_linear", cumulative=True), "cumulative m4 update, linear"),
        (Axis(metric="m2_update_linear + m2_update_quadratic"), "m2 update, linear + quadratic"),
        (Axis(metric="m4_update_cubic - m4_update_quartic"), "m4 update, cubic − quartic"),
        (Axis(metric="attention_entropy"), "attention entropy (nats)"),
    ],
)
def test_axis_labels(axis: Axis, label: str) -> None:
    assert axis_label(axis) == label


def test_a_sum_of_unlike_metrics_names_both() -> None:
    assert metric_label("train_loss + eval_loss") == "train loss + eval loss"
    assert metric_label("eval_loss - train_loss + lr") == "eval loss − train loss + learning rate"
    assert metric_label("m2_update_linear - m4_update_linear") == "m2 update, linear − m4 update, linear"


@pytest.mark.parametrize("metric", ["something_new", "kurtosis + something_new"])
def test_what_the_table_of_metrics_lacks_has_no_label(metric: str) -> None:
    with pytest.raises(ValueError, match="there is no metric something_new"):
        metric_label(metric)


def test_what_labels_share_becomes_the_axis() -> None:
    assert common_label(["m4 update, cubic", "m4 update, quartic"]) == ("m4 update", ["cubic", "quartic"])
    assert common_label(["kurtosis", "train loss"]) == ("value", ["kurtosis", "train loss"])
    assert common_label(["kurtosis"]) == ("kurtosis", ["kurtosis"])


@pytest.mark.parametrize(
    ("layer", "label"), [("2", "layer 2"), ("unembed", "unembedding"), ("mean", "mean over blocks")]
)
def test_layer_labels(layer: str, label: str) -> None:
    assert layer_label(layer) == label


def test_other_words_are_no_layers() -> None:
    with pytest.raises(ValueError, match="there is no layer max"):
        layer_label("max")


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("none", "–"),
        (None, "–"),
        ("srms", "SRMS"),
        (True, "yes"),
        (False, "no"),
        (1e-5, "1e-05"),
        (16.2, "16.2"),
        (3, "3"),
    ],
)
def test_values(value: object, label: str) -> None:
    assert value_label(value) == label


@pytest.mark.parametrize("name", sorted(BLOCK_COLOURS))
def test_the_named_blocks_are_known(name: str) -> None:
    model = {"layers": 2, "width": 8, "heads": 2, "block": VARIANTS[name]}
    assert block_name(TransformerConfig.model_validate(model)) == name


def test_other_arrangements_of_norms_have_no_name() -> None:
    for block in ({"pre_qk": "rms"}, {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln", "post_qk": "rms"}):
        model = {"layers": 2, "width": 8, "heads": 2, "block": block}
        assert block_name(TransformerConfig.model_validate(model)) is None
    assert block_name(MlpConfig(layers=2, width=8, norm="srms")) is None
