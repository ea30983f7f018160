"""Every word of a quantity, on curves small enough to read by eye."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from reproduce.claims.quantity import rank_correlation, read
from reproduce.claims.ruling import NotMeasured
from reproduce.metrics.table import METRICS, Metric

from .traces import Traces, quantity


def value(made: Traces, *, variance: bool = False, **fields: Any) -> float:
    """The one number of a quantity that leaves nothing open."""
    table = read(quantity(**fields), made.frame, made.facts, variance=variance)
    assert list(table.columns) == ["value"]
    assert len(table) == 1
    return float(table["value"].iloc[0])


def values(made: Traces, **fields: Any) -> dict[Any, float]:
    """Values by the labels that the quantity leaves open."""
    table = read(quantity(**fields), made.frame, made.facts)
    return table.set_index([name for name in table.columns if name != "value"])["value"].to_dict()


@pytest.fixture
def layered() -> Traces:
    """Kurtosis of one run with three blocks at steps 0, 10 and 20."""
    curves = {"1": [1.0, 2.0, 1.5], "2": [1.0, 9.0, 4.0], "3": [2.0, 3.0, 5.0], "unembed": [1.0, 1.0, 6.0]}
    return Traces().add("a", "kurtosis", curves)


def test_blocks_leave_out_the_unembedding(layered: Traces) -> None:
    assert values(layered, layer="each", over="final").keys() == {"1", "2", "3", "unembed"}
    assert values(layered, layer="each", blocks=True, over="final") == {"1": 1.5, "2": 4.0, "3": 5.0}
    assert (value(layered, layer="max", over="final"), value(layered, layer="argmax", over="final")) == (6.0, 4.0)
    assert value(layered, layer="max", blocks=True, over="final") == 5.0
    assert value(layered, layer="argmax", blocks=True, over="final") == 3.0
    with pytest.raises(ValidationError, match="blocks goes with layer each, some, most, max or argmax"):
        quantity(metric="kurtosis", run="a", layer="mean", blocks=True)


# ---------------------------------------------------------------------------------------------------
# Steps


def test_a_word_that_nothing_is_known_of_is_an_error(layered: Traces) -> None:
    plain = quantity(layer=2)
    for word in ({"over": "median"}, {"layer": "first"}, {"layer": 2.5}):
        with pytest.raises((KeyError, AssertionError)):
            read(plain.model_copy(update=word), layered.frame, layered.facts)


def test_a_fact_that_nothing_is_known_of_is_an_error(layered: Traces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "weight", Metric("weight", "weight", "run", None))
    with pytest.raises(ValueError, match="nothing says how to read the fact weight of a run"):
        read(quantity("weight", over=None), layered.frame, layered.facts)


@pytest.mark.parametrize(
    ("over", "expected"),
    [("init", 1.0), ("final", 4.0), ("peak", 9.0), ("min", 1.0), ("argpeak", 10.0), ("mean", (5.0 + 6.5) / 2)],
)
def test_over_steps(layered: Traces, over: str, expected: float) -> None:
    assert value(layered, layer=2, over=over) == expected


def test_the_mean_is_over_steps_not_over_records() -> None:
    made = Traces().add("a", "kurtosis", {"2": [8.0, 8.0, 0.0, 0.0]}, steps=[0, 1, 2, 102])
    assert value(made, layer=2, over="mean") == pytest.approx((8 + 4) / 102)
    assert value(Traces().add("a", "kurtosis", {"2": [3.0]}), layer=2, over="mean") == 3.0


@pytest.mark.parametrize("over", ["each", "some"])
def test_each_and_some_step_stay_open(layered: Traces, over: str) -> None:
    assert values(layered, layer=2, over=over) == {0: 1.0, 10: 9.0, 20: 4.0}


@pytest.mark.parametrize("metric", ["train_loss", "train_accuracy"])
def test_the_final_value_of_a_single_batch_metric_is_a_mean_over_the_last_eightieth(metric: str) -> None:
    made = Traces().add("a", metric, [float(step) for step in range(1, 161)], steps=range(1, 161))
    assert value(made, metric=metric) == 159.5
    assert value(made, metric=metric, over="peak") == 160.0
    short = Traces().add("a", metric, [1.0, 5.0], steps=[1, 20])
    assert value(short, metric=metric) == 5.0


def test_the_final_value_of_anything_else_is_its_last_record() -> None:
    made = Traces().add("a", "eval_loss", [3.0, 2.0, 1.0], steps=[0, 999, 1000])
    assert value(made, metric="eval_loss") == 1.0
    assert value(made, metric="eval_ppl") == math.e


def test_records_are_read_by_step_whatever_their_order() -> None:
    made = Traces().add("a", "eval_loss", [1.0, 3.0, 2.0], steps=[100, 0, 9])
    assert (value(made, metric="eval_loss", over="init"), value(made, metric="eval_loss")) == (3.0, 1.0)


# ---------------------------------------------------------------------------------------------------
# Layers


def test_a_layer_or_the_unembedding(layered: Traces) -> None:
    assert value(layered, layer=3) == 5.0
    assert value(layered, layer="unembed") == 6.0


def test_a_list_and_each_keep_the_layers(layered: Traces) -> None:
    assert values(layered, layer=[1, 3]) == {"1": 1.5, "3": 5.0}
    for word in ("each", "some"):
        assert values(layered, layer=word, over="peak") == {"1": 2.0, "2": 9.0, "3": 5.0, "unembed": 6.0}


def test_the_mean_is_over_blocks_at_every_step_before_steps_are_reduced(layered: Traces) -> None:
    assert value(layered, layer="mean", over="peak") == pytest.approx((2 + 9 + 3) / 3)
    assert value(layered, layer="mean", over="argpeak") == 10.0


def test_the_maximum_is_over_all_probes_at_every_step(layered: Traces) -> None:
    assert value(layered, layer="max", over="final") == 6.0
    assert value(layered, layer="max", over="min") == 2.0
    assert value(layered, layer="max", over="argpeak") == 10.0


def test_argmax_is_the_probe_index_and_the_unembedding_comes_after_the_last_block(layered: Traces) -> None:
    assert value(layered, layer="argmax", over="peak") == 2.0
    assert value(layered, layer="argmax", over="final") == 4.0
    assert value(layered, layer="argmax", over="init") == 3.0


@pytest.mark.parametrize(
    ("blocks", "early", "late"),
    [
        (6, ["1", "2"], ["5", "6"]),
        (2, ["1"], ["2"]),
        (4, ["1"], ["4"]),
        (12, ["1", "2", "3", "4"], ["9", "10", "11", "12"]),
    ],
)
def test_early_and_late_are_thirds_of_the_blocks(blocks: int, early: list[str], late: list[str]) -> None:
    labels = [*[str(block + 1) for block in range(blocks)], "unembed"]
    made = Traces(blocks).add("a", "kurtosis", {label: [1.0] for label in reversed(labels)})
    assert list(values(made, layer="early")) == early
    assert list(values(made, layer="late")) == late


def test_a_layer_that_the_model_lacks_is_not_measured(layered: Traces) -> None:
    with pytest.raises(NotMeasured, match=r"a has no kurtosis in layer 4, 7"):
        values(layered, layer=[2, 4, 7])


# ---------------------------------------------------------------------------------------------------
# Transformations


def test_variance_form_is_kurtosis_minus_one_and_touches_nothing_else() -> None:
    made = Traces().add("a", "kurtosis", {"2": [3.0]}).add("a", "kurtosis_centred", {"2": [5.0]})
    made.add("a", "mmr_max", {"2": [7.0]})
    found = [value(made, metric=name, layer=2, variance=True) for name in ("kurtosis", "kurtosis_centred", "mmr_max")]
    assert found == [2.0, 4.0, 7.0]
    assert value(made, layer=2) == 3.0
    assert value(made, metric="mmr_max", plus_metric="kurtosis", layer=2, variance=True) == 9.0
    assert value(made, metric="kurtosis_centred - kurtosis", layer=2, variance=True) == 2.0


def test_the_cumulative_sum_is_taken_per_layer_before_the_absolute_value() -> None:
    made = Traces().add("a", "m4_update_linear", {"2": [1.0, -4.0, 1.0], "3": [5.0, 5.0, 5.0]})
    fields = {"metric": "m4_update_linear", "layer": 2, "cumulative": True}
    assert value(made, **fields) == -2.0
    assert value(made, **fields, abs=True) == 2.0
    assert value(made, **fields, abs=True, over="peak") == 3.0


def test_plus_metric_adds_at_equal_steps() -> None:
    made = Traces().add("a", "m2_update_linear", {"2": [1.0, 2.0, 3.0]})
    made.add("a", "m2_update_quadratic", {"2": [10.0, 20.0]}, steps=[10, 20])
    fields = {"metric": "m2_update_quadratic", "plus_metric": "m2_update_linear", "layer": 2}
    assert values(made, **fields, over="each") == {10: 12.0, 20: 23.0}
    assert value(made, **fields, cumulative=True) == 35.0


def test_minus_run_subtracts_the_same_reduced_quantity() -> None:
    made = Traces().add("a", "eval_loss", [5.0, 3.0]).add("b", "eval_loss", [9.0, 1.0], steps=[0, 99])
    assert value(made, metric="eval_loss", minus_run="b") == 2.0
    assert value(made, metric="eval_loss", minus_run="b", over="peak") == -4.0


def test_a_difference_of_two_metrics() -> None:
    made = Traces().add("a", "kurtosis", {"2": [5.0, 6.0]}).add("a", "kurtosis_centred", {"2": [1.0, 3.0]})
    assert value(made, metric="kurtosis - kurtosis_centred", layer=2) == 3.0


# ---------------------------------------------------------------------------------------------------
# Runs


@pytest.fixture
def three_runs() -> Traces:
    made = Traces()
    for run, final in (("b", 4.0), ("a", 8.0), ("c", 3.0)):
        made.add(run, "kurtosis", {"1": [1.0, final / 2], "2": [1.0, final]})
    return made


def test_runs_stay_open_in_the_order_listed(three_runs: Traces) -> None:
    assert list(values(three_runs, runs=["c", "a", "b"], layer=2).items()) == [("c", 3.0), ("a", 8.0), ("b", 4.0)]


@pytest.mark.parametrize(("how", "expected"), [("max", 8.0), ("min", 3.0), ("mean", 5.0)])
def test_reduce_runs(three_runs: Traces, how: str, expected: float) -> None:
    assert value(three_runs, runs=["a", "b", "c"], layer=2, reduce_runs=how) == expected


def test_reduce_runs_layer_by_layer(three_runs: Traces) -> None:
    assert values(three_runs, runs=["a", "b", "c"], layer="each", reduce_runs="max") == {"1": 4.0, "2": 8.0}


def test_facts_as_metrics(three_runs: Traces) -> None:
    three_runs.add("a", "kurtosis", {"2": [1.0]}, seed=1, failed_step=7)
    assert value(three_runs, metric="n_layers", over=None) == 3.0
    assert values(three_runs, metric="failed", runs=["a", "b"]) == {"a": 0.5, "b": 0.0}


def test_rank_correlation_is_over_all_layers_and_runs() -> None:
    made = Traces()
    for run, shift in (("a", 0.0), ("b", 10.0)):
        made.add(run, "kurtosis", {"1": [1.0 + shift], "2": [2.0 + shift], "3": [3.0 + shift]})
        made.add(run, "mmr_max", {"1": [3.0 + shift], "2": [2.0 + shift], "3": [1.0 + shift]})
    ranks = {"metric": "rank_corr(mmr_max,kurtosis)", "layer": "each"}
    assert value(made, **ranks) == pytest.approx(-1.0)
    # Ranks 3 2 1 6 5 4 against 1 2 3 4 5 6: 1 - 6 * 16 / (6 * 35).
    assert value(made, **ranks | {"runs": ["a", "b"]}) == pytest.approx(1 - 96 / 210)


def test_the_start_of_each_run_can_be_left_out() -> None:
    made = Traces().add("a", "kurtosis", {"2": [9.0, 3.0, 2.0]}).add("b", "kurtosis", {"2": [9.0, 8.0, 5.0, 4.0, 1.0]})
    peaks = {"runs": ["a", "b"], "layer": 2, "over": "peak"}
    assert values(made, **peaks) == {"a": 9.0, "b": 9.0}
    assert values(made, **peaks, after=0.5) == {"a": 3.0, "b": 5.0}


def test_rank_at_max_is_the_place_of_one_metric_where_the_other_is_largest() -> None:
    made = Traces().add("a", "kurtosis", {"1": [1.0], "2": [9.0], "3": [3.0], "unembed": [2.0]})
    made.add("a", "input_correlation_mean", {"1": [0.1], "2": [0.5], "3": [0.7], "unembed": [0.5]})
    at_kurtosis = {"metric": "rank_at_max(input_correlation_mean,kurtosis)", "layer": "each"}
    assert value(made, **at_kurtosis) == 2
    assert value(made, **at_kurtosis | {"layer": [1, 2]}) == 1
    assert value(made, metric="rank_at_max(kurtosis,input_correlation_mean)", layer="each") == 2


def test_a_rank_correlation_of_nine_tenths_is_not_a_little_less() -> None:
    """One pair of neighbours changes places among five: 1 - 6 x 2 / (5 x 24)."""
    x = pd.Series([1.0, 2.0, 3.0, 4.0, 5.0])
    assert rank_correlation(x, pd.Series([2.0, 1.0, 3.0, 4.0, 5.0])) == 0.9
    assert rank_correlation(x, -x) == -1
    assert rank_correlation(x, pd.Series([1.0, 1.0, 2.0, 2.0, 2.0])) == pytest.approx(3 / 12**0.5)
    assert math.isnan(rank_correlation(x, pd.Series([1.0, 2.0, math.nan, 4.0, 5.0])))


def test_rank_correlation_needs_three_values_that_differ() -> None:
    made = Traces().add("a", "kurtosis", {"1": [1.0], "2": [2.0], "3": [3.0]})
    made.add("a", "mmr_max", {"1": [1.0], "2": [1.0], "3": [1.0]})
    with pytest.raises(NotMeasured, match="values that differ"):
        value(made, metric="rank_corr(kurtosis,mmr_max)", layer="each")
    with pytest.raises(NotMeasured, match="3 pairs, there are 2"):
        value(made, metric="rank_corr(kurtosis,mmr_max)", layer=[1, 2])


# ---------------------------------------------------------------------------------------------------
# Seeds, failures, gaps


def test_each_seed_is_read_before_seeds_are_averaged() -> None:
    made = Traces().add("a", "kurtosis", {"2": [1.0, 9.0, 1.0]}).add("a", "kurtosis", {"2": [1.0, 1.0, 7.0]}, seed=1)
    assert value(made, layer=2, over="peak") == 8.0  # not the peak of the means, 5
    assert value(made, layer=2, over="argpeak") == 15.0


def test_the_probe_with_the_largest_value_has_the_largest_mean_over_seeds() -> None:
    made = Traces().add("a", "kurtosis", {"1": [2.0], "2": [9.0], "3": [7.0]})
    made.add("a", "kurtosis", {"1": [2.0], "2": [1.0], "3": [8.0]}, seed=1)
    assert value(made, layer="argmax", over="final") == 3.0


def test_a_seed_without_the_metric_is_named() -> None:
    made = Traces().add("a", "eval_loss", [2.0]).add("a", "kurtosis", {"2": [1.0]}, seed=1)
    with pytest.raises(NotMeasured, match="a seed 1 has no eval_loss"):
        value(made, metric="eval_loss")


def test_seeds_are_averaged_at_the_steps_they_share() -> None:
    made = Traces().add("a", "eval_loss", [4.0, 2.0], steps=[0, 50])
    made.add("a", "eval_loss", [6.0, 9.0, 3.0], steps=[0, 25, 50], seed=1)
    assert values(made, metric="eval_loss", over="each") == {0: 5.0, 50: 2.5}


def test_a_failed_seed_is_left_out_while_another_finished() -> None:
    made = Traces().add("a", "kurtosis", {"2": [1.0, 2.0, 3.0]})
    made.add("a", "kurtosis", {"2": [1.0, 50.0]}, seed=1, failed_step=10)
    assert value(made, layer=2, over="peak") == 3.0


def test_a_failed_run_has_no_value_but_at_initialisation() -> None:
    made = Traces().add("a", "kurtosis", {"2": [1.5, 50.0]}, failed_step=13)
    with pytest.raises(NotMeasured, match="a failed at step 13"):
        value(made, layer=2, over="peak")
    assert value(made, layer=2, over="init") == 1.5


@pytest.mark.parametrize("recorded", [[7.0, 3.0], [7.0, math.nan], [7.0, 3.0, math.nan]])
def test_a_failure_counts_as_infinite_where_the_claim_says_so(recorded: list[float]) -> None:
    made = Traces().add("a", "train_loss", recorded, failed_step=20)
    made.add("a", "train_loss", [7.0, 3.0, 2.0, 1.0], seed=1)
    assert value(made, metric="train_loss", nan="counts_as_inf") == math.inf
    assert value(made, metric="train_loss") == 1.0
    assert value(made, metric="train_loss", nan="counts_as_inf", over="init") == 7.0


def test_a_run_that_finished_is_not_infinite() -> None:
    made = Traces().add("a", "train_loss", [7.0, 3.0])
    assert value(made, metric="train_loss", nan="counts_as_inf") == 3.0


def test_a_failed_run_is_read_as_it_stood_where_the_claim_says_so() -> None:
    made = Traces().add("a", "attention_entropy", {"1": [3.0, 0.1, math.nan]}, failed_step=20)
    assert value(made, metric="attention_entropy", layer=1, nan="last_finite") == 0.1


def test_nan_is_no_value() -> None:
    made = Traces().add("a", "kurtosis", {"2": [math.nan, 4.0, 2.0, math.nan]})
    assert value(made, layer=2, over="init") == 4.0
    assert value(made, layer=2) == 2.0
    assert value(made, layer=2, over="peak") == 4.0


def test_infinity_is_a_value() -> None:
    made = Traces().add("a", "mmr_max", {"2": [2.0, math.inf, 3.0]})
    assert value(made, metric="mmr_max", layer=2, over="peak") == math.inf
    assert value(made, metric="mmr_max", layer=2) == 3.0


def test_what_is_not_there_is_not_measured(layered: Traces) -> None:
    with pytest.raises(NotMeasured, match="no trace of b"):
        value(layered, run="b", layer=2)
    with pytest.raises(NotMeasured, match="a has no mmr_max"):
        value(layered, metric="mmr_max", layer=2)
    with pytest.raises(NotMeasured, match="a has no kurtosis"):
        value(Traces().add("a", "kurtosis", {"2": [math.nan]}), layer=2)


def test_the_frame_is_left_as_it_was(layered: Traces) -> None:
    frame = layered.frame
    read(quantity(layer="each", over="each", cumulative=True, abs=True), frame, layered.facts, variance=True)
    pd.testing.assert_frame_equal(frame, layered.frame)


def test_until_leaves_out_the_end() -> None:
    made = Traces().add("a", "eval_loss", [4.0, 3.0, 2.0, 1.0, 5.0])  # at steps 0 to 40
    assert value(made, metric="eval_loss", over="peak", until=0.5) == 4.0
    assert value(made, metric="eval_loss", over="final", until=0.75) == 1.0
    assert value(made, metric="eval_loss", over="min", after=0.25, until=0.5) == 2.0


def test_change_is_the_final_value_less_the_initial_one() -> None:
    made = Traces().add("a", "kurtosis", {"2": [1.0, 9.0, 4.0]})
    assert value(made, layer=2, over="change") == 3.0


def test_blocks_can_be_a_third_of_them() -> None:
    made = Traces(6).add("a", "kurtosis", {str(layer): [float(layer)] for layer in range(1, 7)} | {"unembed": [9.0]})
    assert values(made, layer="some", blocks="early", over="final") == {"1": 1.0, "2": 2.0}
    assert value(made, layer="max", blocks="late", over="final") == 6.0


def test_per_metric_divides_what_both_have_summed_up() -> None:
    made = Traces().add("a", "m4_update_linear", {"2": [1.0, -5.0]}).add("a", "m4_update_quadratic", {"2": [2.0, 6.0]})
    fields = {"metric": "m4_update_linear", "per_metric": "m4_update_quadratic", "layer": 2, "over": "final"}
    assert value(made, **fields, cumulative=True) == -0.5
    assert value(made, **fields) == -5 / 6


def test_the_fourth_moment_is_kurtosis_times_the_square_of_the_second() -> None:
    made = Traces().add("a", "kurtosis", {"2": [1.5, 3.0]}).add("a", "activation_rms", {"2": [1.0, 2.0]})
    assert value(made, metric="fourth_moment", layer=2, over="final") == 48.0
    assert value(made, metric="fourth_moment", layer=2, over="change") == 46.5
