"""In which fields two configurations differ."""

from __future__ import annotations

from reproduce.specs.difference import ABSENT, Difference, differences


def test_fields_are_named_by_their_path_in_the_order_of_the_first() -> None:
    left = {"a": {"x": 1, "y": [1, 2]}, "b": None, "c": "same"}
    right = {"a": {"y": [1], "x": 2}, "c": "same", "d": {"e": 0}}
    assert differences(left, right) == [
        Difference("a.x", 1, 2),
        Difference("a.y", [1, 2], [1]),
        Difference("b", None, ABSENT),
        Difference("d.e", ABSENT, 0),
    ]
    assert differences(left, left) == []
