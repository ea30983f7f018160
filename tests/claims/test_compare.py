"""Comparators, the matching of the two sides, and the pair that decides."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reproduce.claims.compare import Comparison, compare, same_direction, sides
from reproduce.claims.ruling import NotMeasured

from .traces import Traces, claim, quantity

A, B = quantity("eval_loss", "a"), quantity("eval_loss", "b")


def finals(**losses: float) -> Traces:
    """Runs that only have a final eval loss."""
    made = Traces()
    for run, loss in losses.items():
        made.add(run, "eval_loss", [loss])
    return made


def judged(made: Traces, left: Any, cmp: str, right: Any = None, **fields: Any) -> Comparison:
    stated = claim(left, cmp, right, **fields)
    return compare(stated, sides(stated, made.frame, made.facts))


def directed(made: Traces, left: Any, cmp: str, right: Any = None, **fields: Any) -> bool:
    stated = claim(left, cmp, right, **fields)
    return same_direction(stated, sides(stated, made.frame, made.facts))


# ---------------------------------------------------------------------------------------------------
# Comparators


@pytest.mark.parametrize(
    ("cmp", "left", "right", "fields", "holds"),
    [
        ("gt", 3.0, 2.0, {}, True),
        ("gt", 2.0, 2.0, {}, False),
        ("gt", 3.0, 2.0, {"factor": 1.5}, False),
        ("gt", 3.01, 2.0, {"factor": 1.5}, True),
        ("gt", 3.0, 2.0, {"plus": 1.0}, False),
        ("ge", 2.0, 2.0, {}, True),
        ("ge", 1.9, 2.0, {}, False),
        ("ge", 1.9, 2.0, {"tol": 0.2}, True),
        ("ge", 1.7, 2.0, {"tol": 0.2}, False),
        ("lt", 2.0, 2.0, {}, False),
        ("lt", 0.1, 2.0, {"factor": 0.1}, True),
        ("lt", 0.3, 2.0, {"factor": 0.1}, False),
        ("lt", -3.0, -2.0, {}, True),
        ("le", 2.0, 2.0, {}, True),
        ("le", 2.1, 2.0, {"tol": 0.2}, True),
        ("le", 2.1, 2.0, {"rel_tol": 0.1}, True),
        ("le", 2.3, 2.0, {"rel_tol": 0.1}, False),
        ("eq", 2.0, 2.0, {}, True),
        ("eq", 2.0, 2.1, {}, False),
        ("approx", 2.5, 2.0, {"tol": 0.5}, True),
        ("approx", 1.4, 2.0, {"tol": 0.5}, False),
        ("approx", 2.5, 2.0, {"rel_tol": 0.3}, True),
        ("approx", 2.5, 2.0, {"rel_tol": 0.2}, False),
        ("approx", 3.5, 2.0, {"factor": 2.0, "tol": 0.5}, True),
        ("approx", 2.3, 2.0, {"rel_tol": 0.1, "tol": 0.5}, True),
        ("within_factor", 2.0, 5.0, {"bound": 3.0}, True),
        ("within_factor", 5.0, 2.0, {"bound": 3.0}, True),
        ("within_factor", 2.0, 7.0, {"bound": 3.0}, False),
        ("within_factor", 0.0, 0.0, {"bound": 3.0}, False),
        ("within_factor", -1.0, -1.0, {"bound": 3.0}, False),
        ("gt", math.inf, 2.0, {"factor": 1.5}, True),
        ("lt", math.inf, 2.0, {}, False),
        ("gt", math.inf, math.inf, {}, False),
        ("lt", 2.0, math.inf, {}, True),
        ("approx", math.inf, 2.0, {"tol": 1.0}, False),
        ("within_factor", math.inf, math.inf, {"bound": 3.0}, False),
        ("gt", 0.0, 0.0, {}, False),
        ("ge", 0.0, 0.0, {}, True),
    ],
)
def test_comparators(cmp: str, left: float, right: float, fields: dict[str, float], holds: bool) -> None:
    found = judged(finals(a=left, b=right), A, cmp, B, **fields)
    assert found == Comparison(holds, left, right, {}, int(holds), 1)
    assert judged(finals(a=left), A, cmp, right, **fields) == found


def test_a_comparator_that_nothing_is_known_of_is_an_error() -> None:
    made = finals(a=2.0, b=5.0)
    stated = claim(A, "within_factor", B, bound=3.0).model_copy(update={"cmp": "nearly"})
    tables = sides(stated, made.frame, made.facts)
    with pytest.raises(ValueError, match="the comparator nearly has no margin"):
        compare(stated, tables)
    with pytest.raises(AssertionError, match="nearly"):
        same_direction(stated, tables)


def test_a_comparison_without_a_right_side_is_no_trend() -> None:
    made = finals(a=2.0, b=5.0)
    stated = claim(quantity("eval_loss", runs=["a", "b"]), "gt")
    with pytest.raises(AssertionError, match="gt has a right side"):
        compare(stated, sides(stated, made.frame, made.facts))


def test_a_right_side_in_words_is_the_unembedding_or_an_error() -> None:
    made = finals(a=2.0)
    stated = claim(A, "lt", "the first")
    with pytest.raises(ValueError, match="the first"):
        sides(stated, made.frame, made.facts)


@pytest.mark.parametrize(
    ("cmp", "losses", "allowed", "holds"),
    [
        ("decreasing", [4.0, 3.0, 1.0], 0, True),
        ("decreasing", [4.0, 4.0, 1.0], 0, False),
        ("decreasing", [4.0, 1.0, 3.0], 0, False),
        ("decreasing", [4.0, 1.0, 3.0], 1, True),
        ("decreasing", [1.0, 4.0, 3.0], 1, False),
        ("increasing", [1.0, 3.0, 4.0], 0, True),
        ("increasing", [4.0, 3.0, 1.0], 2, False),
    ],
)
def test_trends_count_the_pairs_out_of_order(cmp: str, losses: list[float], allowed: int, holds: bool) -> None:
    made = finals(**dict(zip("abc", losses, strict=True)))
    found = judged(made, quantity("eval_loss", runs=["a", "b", "c"]), cmp, inversions_allowed=allowed)
    assert found == Comparison(holds, losses, None, {}, int(holds), 1)


def test_a_trend_goes_along_the_runs_as_listed_in_every_layer() -> None:
    made = Traces().add("a", "kurtosis", {"1": [9.0], "2": [9.0]}).add("b", "kurtosis", {"1": [5.0], "2": [12.0]})
    found = judged(made, quantity(runs=["a", "b"], layer="each"), "decreasing")
    assert found == Comparison(False, [9.0, 12.0], None, {"layer": "2"}, 1, 2)
    assert judged(made, quantity(runs=["b", "a"], layer=2), "decreasing").holds


def test_a_trend_needs_every_run_in_every_layer() -> None:
    made = Traces().add("a", "kurtosis", {"1": [9.0], "2": [9.0]}).add("b", "kurtosis", {"1": [5.0]})
    with pytest.raises(NotMeasured, match="not every run"):
        judged(made, quantity(runs=["a", "b"], layer="each"), "decreasing")


@pytest.fixture
def ranked() -> Traces:
    """Two runs whose layers rank alike in a and oppositely in b."""
    made = Traces()
    for run, mmr in (("a", [2.0, 4.0, 8.0]), ("b", [13.0, 12.0, 11.0])):
        made.add(run, "kurtosis", {str(layer + 1): [float(layer)] for layer in range(3)})
        made.add(run, "mmr_max", {str(layer + 1): [value] for layer, value in enumerate(mmr)})
    return made


def test_rank_correlation_across_layers_is_asked_of_every_run(ranked: Traces) -> None:
    runs = ["a", "b"]
    both = quantity(runs=runs, layer="each"), quantity("mmr_max", runs=runs, layer="each")
    found = judged(ranked, both[0], "spearman_ge", both[1], across="layer", bound=0.7)
    assert (found.holds, found.left, found.where, found.agree, found.of) == (
        False,
        pytest.approx(-1),
        {"run": "b"},
        1,
        2,
    )


def test_rank_correlation_across_layers_and_runs_is_one_number(ranked: Traces) -> None:
    both = quantity(runs=["a", "b"], layer="each"), quantity("mmr_max", runs=["a", "b"], layer="each")
    # Kurtosis ranks 1.5 3.5 5.5 twice, mmr 1 2 3 | 6 5 4: covariance of the ranks is 0.
    found = judged(ranked, both[0], "spearman_ge", both[1], across="layer_and_run", bound=-0.1)
    assert (found.holds, found.left, found.of) == (True, pytest.approx(0), 1)


def test_rank_correlation_across_runs(ranked: Traces) -> None:
    ranked.add("c", "kurtosis", {"2": [5.0]}).add("c", "mmr_max", {"2": [20.0]})
    ranked.add("b", "eval_loss", [1.0]).add("a", "eval_loss", [0.5]).add("c", "eval_loss", [2.0])
    runs = ["a", "b", "c"]
    left, right = quantity("mmr_max", runs=runs, layer=2), quantity("eval_loss", runs=runs)
    assert judged(ranked, left, "spearman_ge", right, across="run", bound=0.99).left == pytest.approx(1)


# ---------------------------------------------------------------------------------------------------
# Matching


@pytest.fixture
def two_runs() -> Traces:
    made = Traces()
    made.add("a", "kurtosis", {"1": [1.0, 2.0], "2": [1.0, 30.0], "unembed": [1.0, 4.0]})
    return made.add("b", "kurtosis", {"1": [1.0, 3.0], "2": [1.0, 10.0], "unembed": [1.0, 5.0]})


def test_each_asks_for_all_layers_and_the_worst_decides(two_runs: Traces) -> None:
    found = judged(two_runs, quantity(layer="each"), "gt", quantity(run="b", layer="each"))
    assert found == Comparison(False, 2.0, 3.0, {"layer": "1"}, 1, 3)


def test_some_asks_for_one_matched_layer_and_the_best_decides(two_runs: Traces) -> None:
    found = judged(two_runs, quantity(layer="some"), "gt", quantity(run="b", layer="some"), factor=2)
    assert found == Comparison(True, 30.0, 10.0, {"layer": "2"}, 1, 3)
    # Layer 2 of b is above layer 1 of a, but they are not the same layer.
    assert not judged(two_runs, quantity(run="b", layer="some"), "gt", quantity(layer="some"), factor=4).holds


def test_some_against_one_number(two_runs: Traces) -> None:
    assert judged(two_runs, quantity(layer="some"), "gt", 29).holds
    assert not judged(two_runs, quantity(layer="each"), "gt", 29).holds


def test_the_ratio_decides_not_the_size() -> None:
    made = Traces().add("a", "kurtosis", {"1": [9.0], "2": [900.0]}).add("b", "kurtosis", {"1": [1.0], "2": [800.0]})
    found = judged(made, quantity(layer="some"), "gt", quantity(run="b", layer="some"), factor=10)
    assert (found.holds, found.where) == (False, {"layer": "1"})


def test_steps_are_matched_where_both_sides_have_them() -> None:
    made = Traces().add("a", "kurtosis", {"2": [1.0, 2.0, 9.0]}, steps=[0, 5, 10])
    made.add("b", "kurtosis", {"2": [2.0, 8.0, 1.0]}, steps=[0, 10, 15])
    assert judged(made, quantity(layer=2, over="each"), "lt", quantity(run="b", layer=2, over="each")) == Comparison(
        False, 9.0, 8.0, {"step": 10}, 1, 2
    )
    assert judged(made, quantity(layer=2, over="some"), "lt", quantity(run="b", layer=2, over="some")).holds


def test_each_layer_may_have_its_own_step() -> None:
    made = Traces().add("a", "kurtosis", {"1": [1.0, 5.0], "2": [5.0, 1.0]})
    assert judged(made, quantity(layer="each", over="some"), "gt", 4).holds
    assert not judged(made, quantity(layer="some", over="each"), "gt", 4).holds


def test_every_run_needs_its_own_layer(two_runs: Traces) -> None:
    both = quantity(runs=["a", "b"], layer="some", over="peak")
    found = judged(two_runs, both, "gt", quantity(runs=["a", "b"], layer="some", over="init"), factor=20)
    assert found == Comparison(False, 10.0, 1.0, {"run": "b", "layer": "2"}, 1, 6)


def test_run_lists_are_matched_in_the_order_listed() -> None:
    made = finals(a=1.0, b=2.0, c=1.5, d=2.5)
    left, right = quantity("eval_loss", runs=["a", "b"]), quantity("eval_loss", runs=["c", "d"])
    assert judged(made, left, "lt", right).holds
    assert judged(made, left, "lt", right.model_copy(update={"runs": ["d", "c"]})) == Comparison(
        False, 2.0, 1.5, {"run": "b"}, 1, 2
    )


def test_a_single_run_broadcasts_either_way() -> None:
    made = finals(a=1.0, b=2.0, c=1.5)
    many = quantity("eval_loss", runs=["b", "c"])
    assert judged(made, many, "gt", A) == Comparison(True, 1.5, 1.0, {"run": "c"}, 2, 2)
    assert judged(made, A, "lt", many).holds
    assert judged(made, many, "gt", quantity("eval_loss", runs=["a"])).holds


def test_a_list_of_numbers_is_matched_with_the_runs() -> None:
    both = quantity("eval_loss", runs=["a", "b"])
    assert judged(finals(a=1.0, b=2.0), both, "approx", [1.1, 2.1], tol=0.2).holds
    assert not judged(finals(a=1.0, b=2.0), both, "approx", [2.1, 1.1], tol=0.2).holds


def test_the_unembedding_is_an_index_after_the_last_block(two_runs: Traces) -> None:
    peak = {"layer": "argmax", "over": "peak"}
    assert judged(two_runs, quantity(**peak), "lt", "unembed") == Comparison(True, 2.0, 4.0, {}, 1, 1)
    two_runs.add("c", "kurtosis", {"1": [1.0], "unembed": [2.0]})
    assert not judged(two_runs, quantity(runs=["a", "c"], **peak), "lt", "unembed").holds
    assert not judged(two_runs, quantity(run="c", **peak), "lt", quantity("n_layers", "c", over=None)).holds


def test_layers_of_models_of_different_depth_are_matched_by_number(two_runs: Traces) -> None:
    two_runs.add("c", "kurtosis", {"2": [0.0], "7": [99.0]})
    assert judged(two_runs, quantity(layer="each"), "gt", quantity(run="c", layer="each")).of == 1


def test_sides_without_a_common_layer_are_not_measured(two_runs: Traces) -> None:
    two_runs.add("c", "kurtosis", {"7": [99.0]})
    with pytest.raises(NotMeasured, match="no layer in common"):
        judged(two_runs, quantity(layer="each"), "gt", quantity(run="c", layer="each"))


def test_variance_form_applies_to_both_sides(two_runs: Traces) -> None:
    fields = {"right": quantity(run="b", layer=2), "factor": 3.1}
    assert not judged(two_runs, quantity(layer=2), "gt", form="eq1", **fields).holds
    assert judged(two_runs, quantity(layer=2), "gt", form="variance", **fields) == Comparison(True, 29.0, 9.0, {}, 1, 1)


# ---------------------------------------------------------------------------------------------------
# The weak form


@pytest.mark.parametrize(
    ("cmp", "left", "right", "fields", "weakly"),
    [
        ("gt", 3.0, 2.0, {"factor": 10.0}, True),
        ("gt", 1.0, 2.0, {"factor": 10.0}, False),
        ("lt", 1.5, 2.0, {"factor": 0.1}, True),
        ("gt", 2.5, 2.0, {"plus": 1.0}, True),
        ("gt", 0.05, 2.0, {"factor": 0.1}, False),
        ("le", 2.5, 2.0, {"tol": 0.1}, False),
        ("approx", 2.0, 2.0, {"tol": 0.1}, False),
        ("within_factor", 2.0, 2.0, {"bound": 2.0}, False),
        ("eq", 2.0, 2.0, {}, False),
    ],
)
def test_the_weak_form_is_the_direction_alone(
    cmp: str, left: float, right: float, fields: dict[str, float], weakly: bool
) -> None:
    assert directed(finals(a=left, b=right), A, cmp, B, **fields) is weakly


@pytest.mark.parametrize(
    ("losses", "weakly"),
    [
        ([4.0, 5.0, 3.0], True),
        ([4.0, 5.0, 4.5], False),
        ([4.0, 5.0, 1.0, 2.0, 4.0], True),
        ([4.0, 4.0, 4.0], False),
        ([2.0, 4.0, 1.0, 3.0], False),  # ranks that do not follow any order: their correlation is 0
    ],
)
def test_the_weak_form_of_a_trend_is_its_ends_or_its_ranks(losses: list[float], weakly: bool) -> None:
    made = finals(**dict(zip("abcde", losses, strict=False)))
    assert directed(made, quantity("eval_loss", runs=list("abcde"[: len(losses)])), "decreasing") is weakly
    flipped = finals(**dict(zip("abcde", (-loss for loss in losses), strict=False)))
    assert directed(flipped, quantity("eval_loss", runs=list("abcde"[: len(losses)])), "increasing") is weakly


def test_the_weak_form_of_a_rank_correlation_is_its_sign(ranked: Traces) -> None:
    for run, weakly in (("a", True), ("b", False)):
        right = quantity("mmr_max", run, layer="each")
        assert (
            directed(ranked, quantity(run=run, layer="each"), "spearman_ge", right, across="layer", bound=1) is weakly
        )


# ---------------------------------------------------------------------------------------------------
# Properties

positive = st.floats(min_value=1e-3, max_value=1e3)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    left=positive,
    right=positive,
    factor=positive,
    power=st.integers(-20, 20),
    cmp=st.sampled_from(["gt", "ge", "lt", "le"]),
)
def test_the_unit_of_a_metric_does_not_matter(left: float, right: float, factor: float, power: int, cmp: str) -> None:
    unit = 2.0**power  # exact, so that not even a tie can tip over
    plain = judged(finals(a=left, b=right), A, cmp, B, factor=factor)
    scaled = judged(finals(a=unit * left, b=unit * right), A, cmp, B, factor=factor)
    assert plain.holds is scaled.holds


@settings(derandomize=True, deadline=None, max_examples=25)
@given(left=positive, right=positive, factor=positive)
def test_less_and_greater_exclude_one_another(left: float, right: float, factor: float) -> None:
    made = finals(a=left, b=right)
    verdicts = {cmp: judged(made, A, cmp, B, factor=factor).holds for cmp in ("gt", "ge", "lt", "le")}
    assert verdicts["gt"] is not verdicts["le"]
    assert verdicts["lt"] is not verdicts["ge"]
    assert verdicts["ge"] or verdicts["le"]


@settings(derandomize=True, deadline=None, max_examples=25)
@given(left=positive, right=positive, bound=st.floats(1, 100))
def test_within_a_factor_is_symmetric(left: float, right: float, bound: float) -> None:
    there = judged(finals(a=left, b=right), A, "within_factor", B, bound=bound)
    back = judged(finals(a=right, b=left), A, "within_factor", B, bound=bound)
    assert there.holds is back.holds


# ---------------------------------------------------------------------------------------------------
# Most of the layers and steps, ranks over steps, tolerances


@pytest.mark.parametrize(
    ("ahead", "holds"), [([1, 1, 1], True), ([1, 1, 0], True), ([1, 0, 0], False), ([1, 1, 0, 0], False)]
)
def test_most_layers_are_more_than_half(ahead: list[int], holds: bool) -> None:
    made = Traces(len(ahead))
    made.add("a", "kurtosis", {str(layer): [2.0 + 2 * more] for layer, more in enumerate(ahead, 1)})
    made.add("b", "kurtosis", {str(layer): [3.0] for layer in range(1, len(ahead) + 1)})
    found = judged(made, quantity(layer="most"), "gt", quantity(run="b", layer="most"))
    assert found.holds is holds
    assert (found.agree, found.of) == (sum(ahead), len(ahead))


def test_most_steps_of_most_layers_are_picked_layer_by_layer() -> None:
    made = Traces(3).add("a", "kurtosis", {"1": [9.0, 9.0, 1.0], "2": [9.0, 1.0, 9.0], "3": [1.0, 1.0, 9.0]})
    assert judged(made, quantity(layer="most", over="most"), "gt", 5).holds
    assert not judged(made, quantity(layer="each", over="most"), "gt", 5).holds
    assert not judged(made, quantity(layer="most", over="each"), "gt", 5).holds


def test_ranks_over_the_steps_are_those_of_each_layer() -> None:
    made = Traces(2).add("a", "kurtosis", {"1": [1.0, 2.0, 3.0], "2": [3.0, 2.0, 1.0]})
    made.add("a", "input_correlation_mean", {"1": [0.1, 0.2, 0.3], "2": [0.1, 0.2, 0.3]})
    for word, holds in (("some", True), ("each", False), ("most", False)):
        sides = (quantity(name, layer=word, over="each") for name in ("kurtosis", "input_correlation_mean"))
        left, right = sides
        assert judged(made, left, "spearman_ge", right, across="step", bound=0.9).holds is holds


def test_a_tolerance_gives_no_direction() -> None:
    """0.2 points ahead, within 0.1, is asked for; a run that lies behind has not even the direction."""
    behind, ahead = finals(a=0.9995, b=1.0), finals(a=1.0005, b=1.0)
    asked: dict[str, Any] = {"plus": 0.002, "tol": 0.001}
    assert not judged(behind, A, "ge", B, **asked).holds
    assert not directed(behind, A, "ge", B, **asked)
    assert directed(ahead, A, "ge", B, **asked)
