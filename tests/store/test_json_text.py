"""JSON with numbers that JSON does not have."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reproduce.store.json_text import dumps, loads


def test_what_is_not_finite_stands_as_a_string_that_float_reads() -> None:
    text = dumps({"a": [math.nan, math.inf, {"b": -math.inf}], "c": (1.5, "nan")})
    assert text == '{"a": ["nan", "inf", {"b": "-inf"}], "c": [1.5, "nan"]}'
    assert math.isnan(float(json.loads(text)["a"][0]))


def test_what_is_nested_too_deeply_is_no_json() -> None:
    assert loads('{"a": [1, null]}') == {"a": [1, None]}
    for text in ("[" * 100_000, '{"a":' * 100_000, "{"):
        with pytest.raises(ValueError, match=r"nested too deeply|Expecting"):
            loads(text)


@given(st.floats())
def test_every_float_survives(value: float) -> None:
    back = float(json.loads(dumps(value)))
    assert back == value or (math.isnan(back) and math.isnan(value))
    assert math.copysign(1, back) == math.copysign(1, value) or math.isnan(value)


def test_equal_values_give_equal_text_whatever_their_order() -> None:
    assert dumps({"b": 1, "a": {"d": 2, "c": 3}}) == dumps({"a": {"c": 3, "d": 2}, "b": 1})
