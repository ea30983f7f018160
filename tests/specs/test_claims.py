"""Claims that make no sense are refused with their place; sensible ones pass."""

from __future__ import annotations

from typing import Any

import pytest

from reproduce.errors import SpecError
from reproduce.specs.claims import at_scale, check, claim_problems, open_dims, runs_of
from reproduce.specs.schema import Claim
from reproduce.specs.yaml import dotted
from tests.claims.traces import claim, quantity

IN_LAYER = {"layer": 2, "over": "peak"}


def test_unknown_metric_names_the_nearest_one() -> None:
    with pytest.raises(SpecError, match=r"claim c1: left\.metric: unknown metric kurtosi") as caught:
        check(claim(quantity("kurtosi", layer=2), "gt", 1))
    assert caught.value.hint == "did you mean kurtosis?"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        (claim(quantity("kurtosis - m2", layer=2), "gt", 1), "left.metric"),
        (claim(quantity("eval_loss - n_layers"), "gt", 1), "left.metric"),
        (claim(quantity("eval_loss", plus_metric="failed"), "gt", 1), "left.plus_metric"),
        (claim(quantity("failed"), "eq", True, form="variance"), "form"),
        (claim(quantity("mmr_max", layer=2), "gt", 1, form="variance"), "form"),
        (claim(quantity("kurtosis - mmr_max", layer=2), "gt", 1, form="variance"), "form"),
        (claim(quantity("rank_corr(kurtosis,scale)", layer="each"), "gt", 1), "left.metric"),
        (claim(quantity("rank_at_max(scale,kurtosis)", layer="each"), "gt", 1), "left.metric"),
        (claim(quantity(layer=2, over="init", after=0.1), "gt", 1), "left.after"),
        (claim(quantity("train_loss", plus_metric="loss"), "gt", 1), "left.plus_metric"),
        (claim(quantity("train_loss", over=None), "gt", 1), "left"),
        (claim(quantity("train_loss", layer=2), "gt", 1), "left.layer"),
        (claim(quantity("kurtosis"), "gt", 1), "left"),
        (claim(quantity("train_loss"), "gt"), "cmp"),
        (claim(quantity("train_loss"), "gt", "first"), "right"),
        (claim(quantity("train_loss", runs=["a", "b"]), "gt", [1.0]), "right"),
        (claim(quantity("train_loss", runs=["a", "b"], reduce_runs="max"), "gt", [1.0, 2.0]), "right"),
        (
            claim(quantity("train_loss", runs=["a", "b"]), "gt", quantity("train_loss", runs=["a", "b", "c"])),
            "right.runs",
        ),
        (claim(quantity(layer="each"), "gt", quantity(layer="some")), "right.layer"),
        (claim(quantity(layer=2, over="some"), "gt", quantity(layer=2, over="each")), "right.over"),
        (claim(quantity("train_loss", nan="counts_as_inf", over="each"), "gt", 1), "left.nan"),
        (claim(quantity("train_loss"), "decreasing"), "left"),
        (claim(quantity("train_loss", runs=["a", "b"]), "decreasing", 3), "right"),
        (claim(quantity("train_loss"), "within_factor", 1), "bound"),
        (claim(quantity("train_loss"), "within_factor", 1, bound=0.5), "bound"),
        (claim(quantity("train_loss"), "gt", 1, bound=2), "bound"),
        (claim(quantity("train_loss"), "gt", 1, tol=0.1), "tol"),
        (claim(quantity("train_loss"), "eq", 1, rel_tol=0.1), "rel_tol"),
        (claim(quantity("train_loss"), "gt", 1, inversions_allowed=1), "inversions_allowed"),
        (claim(quantity("train_loss", runs=["a", "b"]), "increasing", factor=2), "factor"),
        (claim(quantity(layer="each"), "spearman_ge", quantity("mmr_max", layer="each"), bound=0.5), "cmp"),
        (claim(quantity(layer="each"), "spearman_ge", 3, bound=0.5, across="layer"), "right"),
        (claim(quantity(layer=2), "spearman_ge", quantity("mmr_max", layer=2), bound=0.5, across="layer"), "across"),
        (claim(quantity("train_loss"), "gt", 1, at={"laptop": {"because": "x", "tol": 0.1}}), "at.laptop.tol"),
        (claim(quantity(layer=2, over="init", until=0.5), "gt", 1), "left.until"),
        (claim(quantity(layer="most"), "gt", quantity(layer="each")), "right.layer"),
        (claim(quantity(layer=2, over="each"), "gt", quantity(layer=2, over="most")), "right.over"),
        (claim(quantity(layer=2, over="most", nan="counts_as_inf"), "gt", 1), "left.nan"),
        (claim(quantity("train_loss", per_metric="failed"), "gt", 1), "left.per_metric"),
        (
            claim(quantity(layer=2), "spearman_ge", quantity("mmr_max", layer=2), bound=0.5, across="step"),
            "across",
        ),
    ],
)
def test_a_claim_that_no_trace_could_decide_is_refused_at_its_place(wrong: Claim, place: str) -> None:
    assert [dotted(problem.path) for problem in claim_problems(wrong)] == [place]


@pytest.mark.parametrize(
    "right",
    [
        claim(quantity("w8a8_ppl - eval_ppl"), "approx", 0.2, tol=0.1),
        claim(quantity("failed", over=None), "eq", True),
        claim(quantity("grad_norm", over="peak"), "lt", 10),
        claim(quantity("mmr_max", plus_metric="kurtosis", layer=2), "gt", 1, form="variance"),
        claim(quantity("rank_corr(mmr_max,kurtosis)", layer="each"), "gt", 0, form="variance"),
        claim(quantity(layer="argmax", over="peak"), "lt", "unembed"),
        claim(quantity(layer=[2, 3]), "lt", quantity(runs=["a", "b"], layer=[2, 3], reduce_runs="min")),
        claim(quantity(runs=["a", "b"], layer=2), "decreasing", inversions_allowed=1),
        claim(quantity("rank_corr(kurtosis, mmr_max)", runs=["a", "b"], layer="each"), "lt", 1, across="run"),
    ],
)
def test_sensible_claims_pass(right: Claim) -> None:
    check(right)


@pytest.mark.parametrize(
    ("ratio", "place"),
    [
        (claim(quantity(layer=2), "ge", quantity(layer=2, over="peak"), factor=0.8), "factor"),
        (claim(quantity("kurtosis_centred", layer=2), "lt", 3, factor=2), "factor"),
        (claim(quantity(layer=2), "within_factor", quantity(run="b", layer=2), bound=1.5), "bound"),
        (claim(quantity(layer=2), "approx", 20, rel_tol=0.5), "rel_tol"),
        (claim(quantity("mmr_max", layer=2, per_metric="kurtosis"), "lt", 2), "left.per_metric"),
        (
            claim(quantity(layer=2), "lt", quantity(run="b", layer=2), at={"laptop": {"because": "x", "factor": 0.5}}),
            "at.laptop.factor",
        ),
    ],
)
def test_a_ratio_on_eq1_whose_floor_is_1_is_refused_unless_the_claim_says_why(ratio: Claim, place: str) -> None:
    (problem,) = claim_problems(ratio)
    assert dotted(problem.path) == place
    assert "never below 1" in problem.text
    assert list(claim_problems(ratio.model_copy(update={"form": "variance"}))) == []
    assert list(claim_problems(ratio.model_copy(update={"eq1_because": "both are above 100"}))) == []


@pytest.mark.parametrize(
    "free",
    [
        claim(quantity(layer=2, over="change"), "lt", quantity(layer=2, over="change", run="b"), factor=0.5),
        claim(quantity(layer=2, minus_run="b"), "gt", 3, factor=2),
        claim(quantity(layer=2, over="argpeak"), "approx", quantity("mmr_max", layer=2, over="argpeak"), rel_tol=0.3),
        claim(quantity("rank_corr(kurtosis,mmr_max)", layer="each"), "gt", 0.5, factor=0.5),
        claim(quantity("mmr_max", layer=2), "gt", 3, factor=2),
    ],
)
def test_differences_places_and_ranks_have_no_floor(free: Claim) -> None:
    assert list(claim_problems(free)) == []


def test_a_reason_without_a_ratio_is_refused() -> None:
    (problem,) = claim_problems(claim(quantity(layer=2), "gt", 3, eq1_because="because"))
    assert dotted(problem.path) == "eq1_because"


@pytest.mark.parametrize(
    ("fields", "dims"),
    [
        ({"layer": 2}, []),
        ({"layer": "some", "over": "each"}, ["layer", "step"]),
        ({"layer": "most", "over": "most"}, ["layer", "step"]),
        ({"layer": [2, 3], "runs": ["a", "b"]}, ["run", "layer"]),
        ({"layer": "late", "runs": ["a", "b"], "reduce_runs": "max"}, ["layer"]),
        ({"layer": "each", "metric": "rank_corr(kurtosis,mmr_max)"}, []),
        ({"metric": "n_layers", "over": None, "runs": ["a", "b"]}, ["run"]),
    ],
)
def test_open_dims(fields: dict[str, Any], dims: list[str]) -> None:
    assert open_dims(quantity(**fields)) == dims


def test_a_bound_at_a_scale_replaces_only_what_it_says() -> None:
    bounded = claim(quantity(layer=2), "gt", 1000, factor=3, at={"laptop": {"because": "narrow", "right": 100}})
    assert (at_scale(bounded, "laptop").right, at_scale(bounded, "laptop").factor) == (100, 3)
    assert at_scale(bounded, "paper") is bounded


def test_runs_of_lists_each_run_once() -> None:
    both = claim(quantity(layer=2, minus_run="b"), "gt", quantity(runs=["a", "c"], layer=2), needs=["d", "c"])
    assert runs_of(both) == ["a", "b", "c", "d"]
