"""In which fields two configurations differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

ABSENT = "-"
"""What stands for the value of a field that one of the two does not have."""


class Difference(NamedTuple):
    """One field in which two configurations differ."""

    path: str
    left: Any
    right: Any


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """The fields in which two nested mappings differ, by dotted path, in the order of the first.

    >>> differences({"optimizer": {"lr": 0.1}, "seed": 0}, {"optimizer": {"lr": 0.2}, "seed": 0})
    [Difference(path='optimizer.lr', left=0.1, right=0.2)]
    """
    ours, theirs = dict(leaves(left)), dict(leaves(right))
    paths = dict.fromkeys([*ours, *theirs])
    pairs = [Difference(path, ours.get(path, ABSENT), theirs.get(path, ABSENT)) for path in paths]
    return [pair for pair in pairs if pair.left != pair.right]


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested mapping with its dotted path."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
