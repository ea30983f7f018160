"""Verdicts counted, and the paper's numbers on one line."""

from __future__ import annotations

from typing import Any

import pytest

from reproduce.report.verdicts import published, tally


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
