"""Claims in words: what was asked for, and what decided."""

from __future__ import annotations

from typing import get_args

import pytest

from reproduce.claims.compare import compare, sides
from reproduce.claims.wording import asked, found, number, quantity_words
from reproduce.specs.schema import Claim, Comparator, Over, Quantity

from .traces import Traces, claim, quantity

EACH = {"layer": "each", "over": "peak"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (127.3456, "127.3"),
        (10000.0, "10000"),
        (2.0, "2"),
        (0.00012345, "0.0001234"),
        (float("inf"), "inf"),
        (3e8, "3e+08"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("stated", "text"),
    [
        (
            claim(quantity(layer=2, over="peak"), "gt", quantity(layer=2, over="init"), factor=1e4, form="variance"),
            "peak kurtosis - 1 in layer 2 of a > 10000 x initial kurtosis - 1 in layer 2 of a",
        ),
        (
            claim(quantity(runs=["a", "b"], layer="max"), "lt", 10),
            "final kurtosis in the largest layer of each of a, b < 10",
        ),
        (
            claim(quantity(layer="argmax", blocks=True, over="peak"), "lt", quantity(layer="max", blocks=True)),
            "block of the peak kurtosis of a < final kurtosis in the largest block of a",
        ),
        (
            claim(quantity("eval_ppl", minus_run="b"), "approx", 0.2, tol=0.15),
            "final eval ppl of a, less that of b = 0.2 +- 0.15",
        ),
        (
            claim(quantity("eval_ppl"), "le", quantity("eval_ppl", "b"), tol=0.1, plus=0.5),
            "final eval ppl of a <= final eval ppl of b + 0.5, tolerance 0.1",
        ),
        (
            claim(quantity(layer="mean", over="peak"), "within_factor", quantity(run="b", layer="mean"), bound=2),
            "peak kurtosis averaged over blocks of a within a factor of 2 of final kurtosis averaged over blocks of b",
        ),
        (
            claim(quantity(**EACH), "spearman_ge", quantity("mmr_max", **EACH), across="layer", bound=0.7),
            "peak kurtosis in each layer of a ranks over layers as peak mmr max in each layer of a does, "
            "correlation >= 0.7",
        ),
        (
            claim(quantity(runs=["a", "b"], layer=2, over="peak"), "decreasing", inversions_allowed=1),
            "peak kurtosis in layer 2 of each of a, b decreasing, 1 inversion allowed",
        ),
        (
            claim(quantity(layer="argmax", over="peak"), "lt", "unembed"),
            "layer of the peak kurtosis of a < the input of the unembedding",
        ),
        (
            claim(quantity(runs=list("abcde"), layer=[2, 3], reduce_runs="max", over="each"), "ge", 0),
            "kurtosis at each step in each of layers 2, 3 of the highest of 5 runs >= 0",
        ),
        (
            claim(
                quantity("m2_update_quadratic", plus_metric="m2_update_linear", layer=2, cumulative=True, abs=True),
                "gt",
                0,
            ),
            "final |cumulative m2 update quadratic + m2 update linear| in layer 2 of a > 0",
        ),
        (
            claim(quantity("rank_corr(kurtosis,mmr_max)", layer="late"), "approx", [0.5], rel_tol=0.1, form="variance"),
            "final rank correlation of kurtosis - 1 and mmr max in each late block of a = 0.5 +- 10 %",
        ),
        (
            claim(quantity("rank_at_max(input_correlation_mean,kurtosis)", layer="each"), "le", 2),
            "final rank of input correlation mean at the largest kurtosis in each layer of a <= 2",
        ),
        (
            claim(quantity(layer="mean", over="each", after=0.05), "lt", 3),
            "kurtosis at each step after the first 5 % averaged over blocks of a < 3",
        ),
    ],
)
def test_what_was_asked_for(stated: Claim, text: str) -> None:
    assert asked(stated) == text
    assert asked(stated, because="it is narrow") == f"{text} (it is narrow)"


@pytest.fixture
def made() -> Traces:
    curves = {"1": [1.0, 2.0], "2": [1.5, 127.34], "unembed": [1.25, 4.0]}
    return Traces().add("a", "kurtosis", curves).add("b", "kurtosis", {"1": [1.0, 1.0], "2": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("stated", "text"),
    [
        (claim(quantity(layer=2), "gt", quantity(run="b", layer=2), factor=20), "127.3, above 40 (20 x 2)"),
        (claim(quantity(layer=2), "lt", quantity(run="b", layer=2), plus=1), "127.3, not below 3 (2 + 1)"),
        (claim(quantity(layer=2), "le", 100, tol=5), "127.3, above 100 + 5"),
        (claim(quantity(layer=2), "ge", 100, rel_tol=0.1), "127.3, at least 100 - 10"),
        (claim(quantity(layer=2), "eq", 2), "127.3, not equal to 2"),
        (claim(quantity(layer=1), "approx", 3, tol=0.5), "2 against 3: apart by 1, allowed 0.5"),
        (claim(quantity(layer=1), "within_factor", 3, bound=2), "2 against 3: a factor of 1.5, allowed 2"),
        (claim(quantity(runs=["b", "a"], layer=1), "decreasing"), "1 < 2"),
        (claim(quantity(layer="each"), "gt", quantity(run="b", layer="each")), "2, above 1 in layer 1 (2 of 2 hold)"),
        (claim(quantity(layer=2, over="some"), "gt", 100), "127.3, above 100 at step 10 (1 of 2 hold)"),
        (claim(quantity(runs=["a", "b"], layer=2), "gt", 100), "2, not above 100 for b (1 of 2 hold)"),
        (
            claim(quantity(layer="each"), "spearman_ge", quantity(layer="each"), across="layer", bound=0.7),
            "rank correlation 1, at least 0.7",
        ),
    ],
)
def test_what_was_found_is_a_true_statement(made: Traces, stated: Claim, text: str) -> None:
    assert found(stated, compare(stated, sides(stated, made.frame, made.facts))) == text


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ("kurtosis", "kurtosis - 1"),
        ("kurtosis_centred", "kurtosis centred - 1"),
        ("rank_at_max(kurtosis,mmr_max)", "rank of kurtosis - 1 at the largest mmr max"),
        ("kurtosis - kurtosis_centred", "kurtosis - kurtosis centred"),
        ("mmr_max", "mmr max"),
    ],
)
def test_one_is_only_subtracted_in_words_where_it_is_from_the_values(metric: str, words: str) -> None:
    assert quantity_words(quantity(metric, layer=2), "variance") == f"final {words} in layer 2 of a"


def test_words_that_nothing_is_known_of_are_an_error(made: Traces) -> None:
    known = claim(quantity(layer=2), "approx", 3, tol=1)
    comparison = compare(known, sides(known, made.frame, made.facts))
    strange = known.model_copy(update={"cmp": "nearly"})
    with pytest.raises(AssertionError, match="nearly"):
        asked(strange)
    with pytest.raises(ValueError, match="there are no words for what nearly found"):
        found(strange, comparison)
    for word in ({"over": "median"}, {"layer": "first"}, {"reduce_runs": "sum"}):
        with pytest.raises(KeyError):
            quantity_words(quantity(layer=2).model_copy(update=word))


def test_every_comparator_has_words() -> None:
    for cmp in get_args(Comparator):
        assert asked(claim(quantity(layer=2), cmp, 1, across="layer", bound=2)).startswith("final kurtosis in layer 2")


def test_every_word_of_the_vocabulary_reads_as_one_phrase() -> None:
    for over in get_args(Over):
        for layer in (2, [2, 3], "unembed", "each", "some", "early", "late", "mean", "max", "argmax"):
            stated = claim(Quantity(metric="kurtosis", run="a", layer=layer, over=over), "gt", 1)
            assert "  " not in asked(stated)
            assert "None" not in asked(stated)
