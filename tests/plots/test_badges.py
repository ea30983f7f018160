from __future__ import annotations

from dataclasses import replace

import pytest

from reproduce.plots.badges import Badge, badges, bound_notes, chips
from reproduce.specs.runs import Guest

from .synthetic import Run, case, verdict

FACTS = case({"kind": "lines", "y": [{"metric": "kurtosis"}]}, [Run("a", "A"), Run("b", "B")]).loaded.facts.values()


def test_substituted_data_come_first_and_warn() -> None:
    assert badges("laptop", FACTS) == [
        Badge("SUBSTITUTE DATA: Python 3.11 standard library", "warning"),
        Badge("laptop scale"),
    ]


def test_paper_data_and_own_traces_need_only_the_scale() -> None:
    assert badges("paper", [replace(fact, substitute=False) for fact in FACTS]) == [Badge("paper scale")]


def test_a_model_that_stands_in_for_another_comes_first_and_warns() -> None:
    first, second = (replace(fact, stands_for="Pythia") for fact in FACTS)
    assert badges("laptop", [first, second, first])[0] == Badge("STAND-IN for Pythia: A, B", "warning")


def test_smoke_says_that_it_is_no_evidence() -> None:
    assert Badge("smoke scale: plumbing only, not evidence", "warning") in badges("smoke", FACTS)


def test_shipped_traces_are_counted() -> None:
    first, second = FACTS
    some = badges("laptop", [replace(first, reference=True), second])
    both = badges("laptop", [replace(first, reference=True), replace(second, reference=True)])
    assert some[-1] == Badge("shipped reference trace (1 of 2 runs)")
    assert both[-1] == Badge("shipped reference trace")


def test_a_run_of_another_scale_is_told_and_one_of_smoke_warns() -> None:
    guests = [Guest(f"g{n}", "G", "s", 0, 20, None, scale) for n, scale in enumerate(["smoke", "laptop", "paper", ""])]
    assert badges("laptop", FACTS, guests)[1:] == [
        Badge("laptop scale"),
        Badge("with 1 run at smoke scale: plumbing only, not evidence", "warning"),
        Badge("with 1 run at paper scale"),
        Badge("with 1 trace from elsewhere"),
    ]
    assert badges("laptop", FACTS, guests[1:2]) == badges("laptop", FACTS)


def test_a_trace_without_description_is_named_by_its_source() -> None:
    first, _ = FACTS
    assert "python-stdlib" in badges("laptop", [replace(first, provenance={})])[0].text


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        ("reproduced", "✓ 1 of 1 claims reproduced: c1"),
        ("not reproduced", "✗ c1 not reproduced: says"),
        ("direction only", "~ c1 direction only: says"),
        ("not measured", "– not measured: c1"),
    ],
)
def test_a_verdict_is_told_without_colour(outcome: str, text: str) -> None:
    assert [chip.text for chip in chips([verdict("c1", outcome)])] == [text]


def test_what_failed_is_told_in_words_with_what_was_measured() -> None:
    failed = replace(
        verdict("c6", "not reproduced"), says="OP stays far below", measured={"text": "0.48, not below 0.02"}
    )
    (held, told) = chips([failed, verdict("c1", "reproduced")])
    assert held.text == "✓ 1 of 2 claims reproduced: c1"
    assert told.text == "✗ c6 not reproduced: OP stays far below. Measured: 0.48, not below 0.02"


def test_a_verdict_that_the_first_steps_decide_says_so() -> None:
    early = replace(
        verdict("c1", "reproduced"), early="not reproduced without the first 10% of the steps: 3, not above 4"
    )
    assert [chip.text for chip in chips([early])] == ["✓ 1 of 1 claims reproduced: c1 (first 10% decides)"]


def test_an_identity_says_so() -> None:
    identity = replace(verdict("c1", "reproduced"), kind="identity")
    assert [chip.text for chip in chips([identity])] == ["✓ 1 of 1 claims reproduced: c1 (identity)"]


def test_a_bound_of_the_scale_shows_in_the_verdict_and_its_reason_in_a_note() -> None:
    own = {"because": "the width caps it; 10 is {small}"}
    verdicts = [
        replace(verdict("c1", "reproduced"), **own, early="another"),
        verdict("c2", "reproduced"),
        replace(verdict("c3", "not reproduced"), **own),
        replace(verdict("c4", "reproduced"), because="fewer steps"),
        replace(verdict("c5", "not measured"), **own),
    ]
    assert [chip.text for chip in chips(verdicts)] == [
        "✓ 3 of 5 claims reproduced: c1 (first 10% decides, laptop bound), c2, c4 (laptop bound)",
        "✗ c3 not reproduced (laptop bound): says",
        "– not measured: c5",
    ]
    assert bound_notes(verdicts) == [
        "laptop bound of c1, c3 (the width caps it; 10 is {small})",
        "laptop bound of c4 (fewer steps)",
    ]
