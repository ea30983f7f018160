"""Verdicts counted, and the paper's numbers on one line."""

from __future__ import annotations

from typing import Any

import pytest

from reproduce.report.verdicts import decided_by, published, short_tally, tally


def verdict(ruling: str, early: str = "", because: str = "", kind: str = "finding") -> dict[str, str]:
    return {"verdict": ruling, "early": early, "because": because, "kind": kind}


def test_verdicts_are_counted_in_order_with_what_the_reproduced_ones_rest_on() -> None:
    verdicts = [
        verdict("not measured"),
        verdict("reproduced"),
        verdict("reproduced", early="not reproduced without the first steps"),
        verdict("reproduced", because="fewer steps"),
        verdict("reproduced", because="fewer steps"),
        verdict("not reproduced", early="reproduced without the first steps", because="fewer steps"),
        verdict("direction only"),
        verdict("direction only"),
    ]
    by = "1 by the first 10% of the steps, 2 by a bound for this scale"
    assert tally(verdicts) == f"4/8 reproduced ({by}), 2 direction only, 1 not reproduced, 1 not measured"
    assert tally([verdict("reproduced"), verdict("reproduced")]) == "2/2 reproduced"
    assert tally([verdict("not measured")]) == "0/1 reproduced, 1 not measured"


def test_a_column_counts_findings_and_stars_what_rests_on_something_else() -> None:
    failed = verdict("not reproduced", because="fewer steps")
    assert short_tally([verdict("reproduced"), verdict("direction only"), failed]) == "1 of 3, 1 not"
    assert short_tally([verdict("reproduced", because="fewer steps"), verdict("reproduced")]) == "2* of 2"
    assert short_tally([verdict("reproduced", early="not without"), failed]) == "1* of 2, 1 not"
    assert short_tally([verdict("reproduced"), verdict("reproduced", kind="identity")]) == "1 of 1"
    assert short_tally([verdict("reproduced", kind="identity")]) == "1 of 1 identity"
    assert short_tally([]) == ""


def test_what_decides_a_verdict_is_named_unless_nothing_was_measured() -> None:
    both = {"early": "not without", "because": "fewer steps"}
    assert decided_by(verdict("reproduced")) == []
    reasons = ["by the first 10% of the steps", "by a bound for this scale"]
    assert decided_by(verdict("not reproduced", **both)) == reasons
    assert decided_by(verdict("not measured", **both)) == []


def test_identities_are_counted_apart() -> None:
    identities = [verdict("reproduced", kind="identity"), verdict("not reproduced", kind="identity")]
    assert tally([verdict("reproduced"), *identities]) == "1/1 reproduced, identities: 1/2 hold"
    assert tally(identities[:1]) == "identities: 1/1 hold"
    assert tally([]) == "no claims"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, ""),
        (1000, "1000"),
        (0.2, "0.2"),
        (16.0, "16"),
        ("inf", "inf"),
        ([1, 0.12345], "1, 0.1235"),
        ({"op kurtosis": 1.5, "pre kurtosis": None}, "op kurtosis 1.5, pre kurtosis not readable"),
    ],
)
def test_published_numbers_stand_on_one_line(value: Any, words: str) -> None:
    assert published(value) == words
