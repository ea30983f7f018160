from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reproduce.config import RunConfig
from reproduce.errors import SpecError
from reproduce.plots.curves import build, depth, steps_per_epoch, window_of
from reproduce.specs.schema import Axis, LinePlot

from .synthetic import KURTOSIS, Case, Run, case, config_of


def curves(one: Case) -> Any:
    plot = one.resolved.experiment.plot
    assert isinstance(plot, LinePlot)
    return build(plot, one.resolved, one.loaded)


def values(one: Case, metric: str, layer: str = "", run: str = "a", seed: int = 0, split: str = "probe") -> np.ndarray:
    frame = one.loaded.frame
    rows = frame[(frame.metric == metric) & (frame.layer == layer) & (frame.run == run) & (frame.seed == seed)]
    return rows[rows.split == split].sort_values("step")["value"].to_numpy()


def plot(y: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"kind": "lines", "y": [y], **rest}


def test_variance_form_is_kurtosis_minus_one() -> None:
    one = case(plot(KURTOSIS, layers=[2]), [Run("a", "A")])
    [curve] = curves(one).curves
    assert curve.layer == "2"
    np.testing.assert_allclose(curve.mean, values(one, "kurtosis", "2") - 1)


def test_eq1_form_is_left_as_recorded() -> None:
    one = case(plot({"metric": "kurtosis"}, layers=["unembed"]), [Run("a", "A")])
    np.testing.assert_allclose(curves(one).curves[0].mean, values(one, "kurtosis", "unembed"))


def test_perplexity_is_the_exponential_of_the_loss() -> None:
    one = case(plot({"metric": "eval_ppl"}), [Run("a", "A")])
    np.testing.assert_allclose(curves(one).curves[0].mean, np.exp(values(one, "loss", split="eval")))


def test_cumulative_sum_of_a_sum_of_two_metrics() -> None:
    axis = {"metric": "m2_update_linear + m2_update_quadratic", "cumulative": True}
    one = case(plot(axis, layers=[2]), [Run("a", "A")])
    both = values(one, "m2_update_linear", "2") + values(one, "m2_update_quadratic", "2")
    [curve] = curves(one).curves
    np.testing.assert_allclose(curve.mean, np.cumsum(both), atol=1e-12)
    assert curve.window == 1, "a cumulative curve is smooth by itself"


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("all", ["1", "2", *[str(i) for i in range(3, 13)], "unembed"]),
        ("blocks", [str(i) for i in range(1, 13)]),
        ([10, 2, "unembed"], ["2", "10", "unembed"]),
        ("mean", ["mean"]),
    ],
)
def test_layers_are_picked_and_ordered_by_depth(layers: Any, expected: list[str]) -> None:
    one = case(plot(KURTOSIS, layers=layers, panels=["layer"]), [Run("a", "A")], layers=12, steps=20)
    assert [curve.layer for curve in curves(one).curves] == expected


def test_mean_is_over_the_blocks_without_the_unembedding() -> None:
    one = case(plot({"metric": "kurtosis"}, layers="mean"), [Run("a", "A")])
    blocks = np.mean([values(one, "kurtosis", str(layer)) for layer in (1, 2, 3)], axis=0)
    np.testing.assert_allclose(curves(one).curves[0].mean, blocks)


def test_a_metric_without_layers_passes_whatever_the_layers() -> None:
    one = case(plot({"metric": "train_loss"}, layers="mean"), [Run("a", "A")])
    assert [curve.layer for curve in curves(one).curves] == [""]


def test_layers_that_a_small_model_lacks_are_named() -> None:
    found = curves(case(plot(KURTOSIS, layers=[2, 5, 6], panels=["layer"]), [Run("a", "A")]))
    assert found.notes == ["no layer 5, 6 in these runs"]


def test_depth_orders_numbers_as_numbers() -> None:
    assert sorted(["unembed", "10", "9", "mean"], key=depth) == ["9", "10", "unembed", "mean"]


def test_seeds_give_mean_and_extremes() -> None:
    one = case(plot(KURTOSIS, layers=[2]), [Run("a", "A", seeds=3)])
    [curve] = curves(one).curves
    each = np.array([values(one, "kurtosis", "2", seed=seed) - 1 for seed in range(3)])
    assert curve.seeds == 3
    np.testing.assert_allclose(curve.mean, each.mean(axis=0))
    np.testing.assert_allclose(curve.low, each.min(axis=0))
    np.testing.assert_allclose(curve.high, each.max(axis=0))


def test_a_diverged_seed_is_a_line_of_its_own_and_not_in_the_mean() -> None:
    one = case(plot(KURTOSIS, layers=[2]), [Run("a", "A", seeds=2, fails_at=120)])
    [curve] = curves(one).curves
    assert curve.seeds == 1
    np.testing.assert_allclose(curve.mean, values(one, "kurtosis", "2", seed=1) - 1)
    [stray] = curve.strays
    assert stray.x[-1] == 120
    np.testing.assert_allclose(stray.y, values(one, "kurtosis", "2", seed=0) - 1)


def test_a_run_that_diverged_altogether_has_only_that_line() -> None:
    [curve] = curves(case(plot({"metric": "train_loss"}), [Run("a", "A", fails_at=200)])).curves
    assert curve.seeds == 0
    assert curve.mean.size == 0
    assert curve.strays[0].x[-1] == 199, "the loss of step 200 is not a number"


def test_a_log_axis_masks_what_it_cannot_show_and_says_how_much() -> None:
    one = case(plot(KURTOSIS, layers=[2]), [Run("a", "A")])
    frame = one.loaded.frame.copy()
    at = frame.index[(frame.metric == "kurtosis") & (frame.layer == "2")]
    frame.loc[at[:3], "value"] = [1.0, 0.5, np.inf]
    found = curves(replace(one, loaded=replace(one.loaded, frame=frame)))
    assert np.isnan(found.curves[0].mean[:3]).all()
    assert np.isfinite(found.curves[0].mean[3:]).all()
    assert found.notes == ["kurtosis: 3 values not drawn (0 or below, or not finite)"]


def test_a_linear_axis_shows_negative_values() -> None:
    one = case(plot({"metric": "kurtosis", "form": "variance"}, layers=[2]), [Run("a", "A")])
    frame = one.loaded.frame.copy()
    at = frame.index[(frame.metric == "kurtosis") & (frame.layer == "2")]
    frame.loc[at[0], "value"] = 0.5
    found = curves(replace(one, loaded=replace(one.loaded, frame=frame)))
    assert found.curves[0].mean[0] == -0.5
    assert found.notes == []


@pytest.mark.parametrize(
    ("axis", "window"),
    [
        (Axis(metric="train_loss"), 1001),
        (Axis(metric="train_accuracy"), 1001),
        (Axis(metric="m4_update_linear"), 1001),
        (Axis(metric="m4_update_linear", cumulative=True), 1),
        (Axis(metric="eval_loss"), 1),
        (Axis(metric="kurtosis"), 1),
    ],
)
def test_what_is_recorded_at_single_steps_is_averaged_over_an_eightieth(axis: Axis, window: int) -> None:
    assert window_of(axis, 80_000) == window


def test_a_short_run_is_not_smoothed() -> None:
    assert window_of(Axis(metric="train_loss"), 20) == 1


def test_running_mean_is_centred_and_keeps_the_raw_line() -> None:
    one = case(plot({"metric": "train_loss"}), [Run("a", "A")], steps=400)
    [curve] = curves(one).curves
    loss = values(one, "loss", split="train")
    assert curve.window == 5
    assert curve.mean[200] == pytest.approx(loss[198:203].mean())
    assert curve.raw is not None
    np.testing.assert_allclose(curve.raw[1], loss)


def test_a_running_mean_may_be_longer_than_the_run() -> None:
    one = case(plot({"metric": "train_loss"}), [Run("a", "A")], steps=400)
    [curve] = build(one.resolved.experiment.plot, one.resolved, one.loaded, smooth=10**30).curves
    np.testing.assert_allclose(curve.mean, values(one, "loss", split="train").mean())


def test_long_traces_are_thinned_without_losing_their_ends_or_peaks() -> None:
    one = case(plot({"metric": "train_loss"}), [Run("a", "A")], steps=6000)
    frame = one.loaded.frame.copy()
    frame.loc[(frame.metric == "loss") & (frame.split == "train") & (frame.step == 3333), "value"] = 50.0
    [curve] = curves(replace(one, loaded=replace(one.loaded, frame=frame))).curves
    assert len(curve.x) <= 1500
    assert (curve.x[0], curve.x[-1]) == (1, 6000)
    assert curve.raw is not None
    assert len(curve.raw[0]) <= 1500
    assert curve.raw[0][curve.raw[1].argmax()] == 3333


def test_epochs() -> None:
    mlp = plot({"metric": "train_accuracy"}, x={"metric": "epoch"})
    [curve] = curves(case(mlp, [Run("a", "A", kind="mlp")], steps=200)).curves
    assert curve.x[-1] == 20, "1,000 images in batches of 100"


def test_an_unknown_x_is_refused() -> None:
    with pytest.raises(SpecError, match="no x axis tokens"):
        curves(case(plot(KURTOSIS, x={"metric": "tokens"}, layers=[2]), [Run("a", "A")]))


def test_x_max_cuts_at_its_scale_only_and_says_so() -> None:
    runs = [Run("a", "A")]
    cut = curves(case(plot(KURTOSIS, layers=[2], x_max={"laptop": 100}), runs))
    assert cut.curves[0].x[-1] == 100
    assert cut.notes == ["shown up to step 100"]
    whole = curves(case(plot(KURTOSIS, layers=[2], x_max={"paper": 100}), runs))
    assert whole.curves[0].x[-1] == 400
    assert whole.notes == []


def test_a_run_that_lacks_the_metric_is_named() -> None:
    runs = [Run("a", "A"), Run("b", "B", without=("attention_entropy",))]
    found = curves(case(plot({"metric": "attention_entropy"}, layers=[2]), runs))
    assert [curve.run for curve in found.curves] == ["a"]
    assert found.notes == ["B: no attention entropy (nats) recorded"]


def images(**data: object) -> RunConfig:
    config = config_of(Run("mlp", "MLP", kind="mlp"), 3, 100, 0)
    return config.model_copy(update={"data": config.data.model_copy(update=data), "batch_size": 2048})


def test_the_paper_s_cifar_epoch_has_25_steps() -> None:
    assert steps_per_epoch(images(source="cifar10", train_images=None)) == 25


def test_a_drawn_epoch_has_as_many_images_as_configured() -> None:
    assert steps_per_epoch(images(train_images=4097)) == 3


def test_images_of_unknown_number_and_text_have_no_epoch() -> None:
    with pytest.raises(SpecError, match="how many images of mine"):
        steps_per_epoch(images(source="mine", train_images=None))
    with pytest.raises(SpecError, match="text has no epochs"):
        steps_per_epoch(config_of(Run("lm", "LM"), 3, 100, 0))
