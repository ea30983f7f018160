"""Quantities as people read them."""

from __future__ import annotations

import pytest

from reproduce.units import count, duration, size


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (12.4, "12 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (3569, "59 min"),
        (3599, "1 h 00 min"),
        (3725, "1 h 02 min"),
        (47 * 3600, "47 h 00 min"),
        (60 * 3600, "2.5 days"),
    ],
)
def test_a_time_span_has_its_one_or_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("amount", "words"), [(512, "512 B"), (999.6, "1 kB"), (3.4e6, "3.4 MB"), (2e15, "2e+03 TB")])
def test_bytes_are_told_in_decimal_units(amount: float, words: str) -> None:
    assert size(amount) == words


@pytest.mark.parametrize(("number", "words"), [(0, "0 runs"), (1, "1 run"), (2000, "2,000 runs")])
def test_a_noun_is_plural_unless_there_is_one(number: int, words: str) -> None:
    assert count(number, "run") == words
