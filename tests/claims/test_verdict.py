"""From a claim and traces to a verdict: bounds in force, gaps, seeds, and the JSON that others read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from reproduce.claims import Verdict, evaluate, exit_code, judge
from reproduce.errors import SpecError
from reproduce.specs.schema import SCALES, Claim, Experiment, Scale
from reproduce.store.frame import Loaded

from .traces import Traces, claim, quantity


def verdict(stated: Claim, made: Traces, scale: Scale = "paper", **fields: Any) -> Verdict:
    return evaluate(stated, made.frame, made.facts, scale, **{"paper_data": True, **fields})


ABOVE = claim(
    quantity("eval_loss", "a"),
    "gt",
    quantity("eval_loss", "b"),
    factor=2,
    at={"laptop": {"because": "fewer steps", "factor": 1.2}},
)


@pytest.fixture
def made() -> Traces:
    return Traces().add("a", "eval_loss", [3.0]).add("b", "eval_loss", [2.0])


# ---------------------------------------------------------------------------------------------------
# The four verdicts


def test_the_bound_in_force_is_the_one_of_the_scale(made: Traces) -> None:
    paper, laptop = verdict(ABOVE, made), verdict(ABOVE, made, "laptop")
    assert (paper.verdict, laptop.verdict) == ("direction only", "reproduced")
    assert paper.bound == "final eval loss of a > 2 x final eval loss of b"
    assert laptop.bound == "final eval loss of a > 1.2 x final eval loss of b (fewer steps)"
    assert (paper.because, laptop.because) == ("", "fewer steps")
    assert laptop.shown == "3, above 2.4 (1.2 x 2)"


def test_neither_the_amount_nor_the_direction() -> None:
    made = Traces().add("a", "eval_loss", [1.0]).add("b", "eval_loss", [2.0])
    assert verdict(ABOVE, made).verdict == "not reproduced"


def test_a_verdict_is_fixed_once_given(made: Traces) -> None:
    found = verdict(ABOVE, made)
    with pytest.raises(FrozenInstanceError):
        found.verdict = "reproduced"


def test_smoke_shows_the_values_and_never_judges(made: Traces) -> None:
    found = verdict(ABOVE, made, "smoke")
    assert found.verdict == "not measured"
    assert found.shown == f"3, not above 4 (2 x 2); {found.reason}"
    assert found.reason.startswith("smoke scale")


def test_a_claim_is_judged_at_its_scales_only(made: Traces) -> None:
    found = verdict(ABOVE.model_copy(update={"scales": ["laptop", "paper"]}), made, "workstation")
    assert (found.verdict, found.reason) == ("not measured", "judged at scale laptop and paper only")


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        (claim(quantity("eval_loss", "c"), "gt", quantity("eval_loss", "d")), "no trace of c, d"),
        (claim(quantity("eval_loss"), "gt", 1, needs=["e"]), "no trace of e"),
        (claim(quantity("eval_loss", minus_run="f"), "gt", 1), "no trace of f"),
        (claim(quantity("w8a8_ppl"), "gt", 1), "a has no w8a8_ppl"),
        (claim(quantity(layer=2), "gt", 1), "a has no kurtosis"),
        (
            claim(quantity("failed", attention="no max subtraction"), "eq", True),
            "asks for attention with no max subtraction, which no trace records",
        ),
    ],
)
def test_what_the_traces_cannot_say_is_not_measured(made: Traces, stated: Claim, reason: str) -> None:
    found = verdict(stated, made)
    assert (found.verdict, found.reason, found.measured) == ("not measured", reason, None)
    assert found.shown == reason


def test_no_traces_at_all() -> None:
    found = verdict(ABOVE, Traces())
    assert (found.verdict, found.reason, found.data) == ("not measured", "no trace of a, b", "")


def test_a_failed_run_is_not_measured_unless_the_claim_is_about_it() -> None:
    made = Traces().add("a", "train_loss", [7.0, 3.0], failed_step=15).add("b", "train_loss", [7.0, 2.0])
    stated = claim(quantity("train_loss", "a"), "gt", quantity("train_loss", "b"), factor=1.2)
    assert verdict(stated, made).reason == "a failed at step 15"
    assert verdict(claim(quantity("failed"), "eq", True), made).verdict == "reproduced"
    infinite = stated.model_copy(update={"left": stated.left.model_copy(update={"nan": "counts_as_inf"})})
    found = verdict(infinite, made)
    assert (found.verdict, found.shown) == ("reproduced", "failed (counts as infinite), above 2.4 (1.2 x 2)")
    assert found.test == "one paired seed, no test; a seed 0 failed at step 15"


def test_a_malformed_claim_is_an_error_at_any_scale(made: Traces) -> None:
    for scale in SCALES:
        with pytest.raises(SpecError, match="unknown metric eval_los"):
            verdict(claim(quantity("eval_los"), "gt", 1), made, scale)


# ---------------------------------------------------------------------------------------------------
# Peaks of the first steps


def collapsing() -> Traces:
    """Two runs that both peak at step 5 of 100, and then differ the other way round."""
    made = Traces().add("a", "kurtosis", {"2": [1.0, 9.0, 2.0, 3.0]}, steps=[0, 5, 10, 100])
    return made.add("b", "kurtosis", {"2": [1.0, 8.0, 2.0, 4.0]}, steps=[0, 5, 10, 100])


@pytest.mark.parametrize(
    ("cmp", "ruling", "early"),
    [
        ("gt", "reproduced", "not reproduced without the first 10% of the steps: 3, not above 4"),
        ("lt", "not reproduced", "reproduced without the first 10% of the steps: 3, below 4"),
    ],
)
def test_a_verdict_that_the_first_steps_decide_says_so(cmp: str, ruling: str, early: str) -> None:
    stated = claim(
        quantity("kurtosis", "a", layer=2, over="peak"), cmp, quantity("kurtosis", "b", layer=2, over="peak")
    )
    found = verdict(stated, collapsing())
    assert (found.verdict, found.early) == (ruling, early)
    assert found.shown.endswith(early)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"over": "peak", "run": "a"}, 2.5),
        ({"over": "final", "run": "b"}, quantity("kurtosis", "a", layer=2, over="final")),
        ({"over": "peak", "run": "b", "after": 0.1}, quantity("kurtosis", "a", layer=2, over="peak", after=0.1)),
        ({"over": "peak", "run": "a", "after": 0.05}, quantity("kurtosis", "b", layer=2, over="peak", after=0.05)),
        ({"over": "argpeak", "run": "a"}, 4),
    ],
)
def test_nothing_is_said_where_the_first_steps_decide_nothing(left: dict[str, Any], right: Any) -> None:
    found = verdict(claim(quantity("kurtosis", layer=2, **left), "gt", right), collapsing())
    assert (found.verdict, found.early) == ("reproduced", "")


def test_a_run_too_short_to_leave_steps_out_is_judged_as_it_is() -> None:
    made = Traces().add("a", "kurtosis", {"2": [3.0]}).add("b", "kurtosis", {"2": [2.0]})
    above = claim(
        quantity("kurtosis", "a", layer=2, over="peak"), "gt", quantity("kurtosis", "b", layer=2, over="peak")
    )
    assert (verdict(above, made).verdict, verdict(above, made).early) == ("reproduced", "")


# ---------------------------------------------------------------------------------------------------
# Seeds, data, published numbers


def three_seeds() -> Traces:
    made = Traces()
    for seed, values in enumerate([(3.0, 2.0, 1.0), (2.5, 2.0, 2.2), (1.0, 2.0, 3.0)]):
        for run, value in zip("abc", values, strict=True):
            made.add(run, "eval_loss", [value], seed=seed)
    return made


def test_seeds_are_averaged_and_tested_one_by_one() -> None:
    found = verdict(claim(quantity("eval_loss", "a"), "gt", quantity("eval_loss", "b")), three_seeds())
    assert (found.verdict, found.n_seeds) == ("reproduced", 3)
    assert found.test == "2 of 3 hold it alone (p = 0.5)"
    assert found.shown == f"2.167, above 2; mean over seeds, {found.test}"


@pytest.mark.parametrize(
    ("allowed", "test"),
    [
        (0, "1 of 3 hold it alone (p = 0.42)"),
        (1, "2 of 3 hold it alone (p = 0.5)"),
    ],
)
def test_a_trend_is_tested_against_any_order(allowed: int, test: str) -> None:
    falls = claim(quantity("eval_loss", runs=["a", "b", "c"]), "decreasing", inversions_allowed=allowed)
    assert verdict(falls, three_seeds()).test == test


@pytest.mark.parametrize(
    "stated",
    [
        claim(quantity("eval_loss", "a"), "gt", 2.0),
        claim(quantity("eval_loss", "a"), "gt", quantity("eval_loss", "b"), factor=1.1),
        claim(quantity("eval_loss", "a"), "approx", quantity("eval_loss", "b"), tol=0.6),
        claim(quantity("eval_loss", runs=["a", "b"]), "gt", quantity("eval_loss", "c"), factor=0.9),
        claim(quantity("eval_loss", "a", over="peak"), "gt", quantity("eval_loss", "b", over="init")),
        claim(quantity("failed", "a", over=None), "ge", quantity("failed", "b", over=None)),
    ],
)
def test_without_a_known_chance_seeds_are_counted_alone(stated: Claim) -> None:
    test = verdict(stated, three_seeds()).test
    assert re.fullmatch(r"\d of 3 hold it alone", test)


def test_a_seed_that_cannot_say_is_named() -> None:
    made = three_seeds()
    made.add("a", "kurtosis", {"1": [2.0], "2": [2.0], "3": [2.0]}, seed=0)
    for seed in (1, 2):
        made.add("a", "kurtosis", {"1": [1.0], "2": [2.0], "3": [4.0]}, seed=seed)
    for seed in (0, 1, 2):
        made.add("a", "input_correlation_rms", {"1": [0.1], "2": [0.2], "3": [0.3]}, seed=seed)
    ranked = claim(
        quantity("kurtosis", "a", layer="each"),
        "spearman_ge",
        quantity("input_correlation_rms", "a", layer="each"),
        bound=0.5,
        across="layer",
    )
    assert verdict(ranked, made).test == (
        "2 of 2 hold it alone; seed 0 alone cannot say: a rank correlation needs values that differ"
    )


def test_runs_without_a_seed_in_common_are_not_paired() -> None:
    made = Traces()
    for run, value, seeds in (("a", 3.0, (0, 1)), ("b", 2.0, (2, 3))):
        for seed in seeds:
            made.add(run, "eval_loss", [value], seed=seed)
    found = verdict(claim(quantity("eval_loss", "a"), "gt", quantity("eval_loss", "b")), made)
    assert (found.verdict, found.test) == ("reproduced", "no seed to judge alone")


def test_the_run_with_the_fewest_seeds_counts(made: Traces) -> None:
    made.add("a", "eval_loss", [5.0], seed=1).add("a", "eval_loss", [9.0], seed=2, failed_step=4)
    found = verdict(ABOVE, made)
    assert (found.n_seeds, found.shown) == (1, "4, not above 4 (2 x 2)")
    assert found.test == "one paired seed, no test; a seed 2 failed at step 4"


def test_a_failed_seed_takes_no_part_in_the_test(made: Traces) -> None:
    for seed in (1, 2):
        made.add("a", "eval_loss", [5.0], seed=seed).add("b", "eval_loss", [2.0], seed=seed)
    made.add("b", "eval_loss", [2.0], seed=2, failed_step=4)
    found = verdict(ABOVE, made)
    assert found.test == "1 of 2 hold it alone; b seed 2 failed at step 4"
    assert found.n_seeds == 2


def test_a_substitute_is_said_to_be_one(made: Traces) -> None:
    made.add("b", "eval_loss", [2.0], seed=1, substitute=True)
    assert verdict(ABOVE, made).data == "codeparrot, python-stdlib"
    assert verdict(ABOVE, made, paper_data=False).data == "codeparrot, python-stdlib (substitute)"


@pytest.mark.parametrize(
    ("stated", "published"),
    [
        (claim(quantity("eval_loss"), "gt", 3, basis="stated"), 3),
        (claim(quantity("eval_loss"), "gt", 1, basis="stated"), 1),
        (claim(quantity("eval_loss"), "gt", 3, basis="quantified"), None),
        (claim(quantity("eval_loss"), "gt", 0, basis="stated"), None),
        (claim(quantity("failed"), "eq", True, basis="stated"), None),
        (claim(quantity("eval_loss"), "gt", quantity("eval_loss", "b"), factor=1e4, basis="stated"), 1e4),
        (claim(quantity("eval_ppl"), "lt", quantity("eval_ppl", "b")), {"a eval_ppl": 18.9, "b eval_ppl": 19.1}),
    ],
)
def test_published_numbers_stand_beside_ours(made: Traces, stated: Claim, published: Any) -> None:
    numbers = {"a": {"eval_ppl": 18.9}, "b": {"eval_ppl": 19.1, "kurtosis": 40}, "cost": 0.2}
    assert verdict(stated, made, published=numbers).published == published


# ---------------------------------------------------------------------------------------------------
# Experiments and output


def test_judge_takes_the_claims_in_order(made: Traces) -> None:
    experiment = Experiment.model_validate(
        {
            "id": "fig99",
            "v1": None,
            "v2": None,
            "title": "A figure",
            "kind": "training",
            "section": "3",
            "setting": None,
            "plot": {"kind": "table", "columns": [{"title": "x", "metric": "eval_loss"}]},
            "claims": [ABOVE, ABOVE.model_copy(update={"id": "c2", "factor": 1.0})],
            "published": {"a": {"eval_loss": 1.5}},
        }
    )
    made.add("b", "eval_loss", [2.0], seed=1, substitute=True)
    found = judge(experiment, Loaded(made.frame, made.facts, []), "paper")
    assert [(one.id, one.claim, one.verdict) for one in found] == [
        ("fig99", "c1", "direction only"),
        ("fig99", "c2", "reproduced"),
    ]
    assert found[0].data.endswith("(substitute)")
    assert found[0].published == {"a eval_loss": 1.5}


def test_only_what_was_not_reproduced_fails(made: Traces) -> None:
    found = verdict(ABOVE, made)
    outcomes = {name: replace(found, verdict=name) for name in ("reproduced", "direction only", "not measured")}
    assert exit_code(outcomes.values()) == 0
    assert exit_code([*outcomes.values(), replace(found, verdict="not reproduced")]) == 1
    assert exit_code([]) == 0
    assert exit_code([outcomes["not measured"]]) == 3


def test_json_has_the_promised_keys_and_no_value_that_json_lacks() -> None:
    made = Traces().add("a", "mmr_max", {"2": [float("inf")]})
    found = verdict(claim(quantity("mmr_max", layer=2), "gt", 3), made, figure="fig16").to_json()
    promised = {"id", "claim", "says", "scale", "data", "verdict", "measured", "bound", "published", "n_seeds", "test"}
    promised |= {"early", "reason", "because", "kind"}
    assert promised <= set(found)
    assert found["measured"] == {"left": "inf", "right": 3.0, "where": {}, "agree": 1, "of": 1, "text": "inf, above 3"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_trend_in_json() -> None:
    made = Traces().add("a", "eval_loss", [3.0]).add("b", "eval_loss", [2.0])
    found = verdict(claim(quantity("eval_loss", runs=["a", "b"]), "decreasing"), made).to_json()
    assert (found["measured"]["left"], found["measured"]["right"]) == ([3.0, 2.0], None)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, reproduce.claims; print([m for m in ('torch', 'pandas', 'numpy', 'scipy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
