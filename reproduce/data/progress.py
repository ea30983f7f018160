"""What is told while data are prepared: how far it is, and what was left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

Progress = Callable[[str], None]
"""Is called with one line of text for each step of a preparation."""

NAMES_SHOWN = 3


class Step(str):
    """A line of progress that a bar can show instead: how much of a task is done."""

    done: int
    total: int | None
    """All there is to do, where that is known."""

    def __new__(cls, line: str, done: int, total: int | None) -> Step:
        step = super().__new__(cls, line)
        step.done, step.total = done, total
        return step


@dataclass(frozen=True)
class LeftOut:
    """Something that a source holds and that is not read; the prepared data keep it in their `meta.json`."""

    what: str
    """A noun in the plural, such as files."""
    reason: str
    """What follows `is` or `are`, such as not UTF-8."""
    count: int
    of: int
    """All there are, those that are read among them."""
    names: Sequence[str] = ()
    """The first few, where they have names."""
    lost: bool = True
    """Whether it might have been trained on: then the description of the data says so."""

    def __str__(self) -> str:
        verb = "is" if self.count == 1 else "are"
        more = self.count - len(self.names)
        shown = ", ".join(self.names) + (f" and {more:,} more" if more else "")
        names = f": {shown}" if self.names else ""
        return f"{self.count:,} of {self.of:,} {self.what} {verb} {self.reason} and {verb} left out{names}"

    @property
    def short(self) -> str:
        return f"without {self.count:,} of {self.of:,} {self.what} ({self.reason})"


def left_out(what: str, of: int, reasons: dict[str, list[str]], *, lost: bool = True) -> list[LeftOut]:
    """What was left out for each of `reasons`, with the names that fell to it; nothing for a reason without names."""
    return [
        LeftOut(what, reason, len(names), of, tuple(map(printable, sorted(names)[:NAMES_SHOWN])), lost)
        for reason, names in reasons.items()
        if names
    ]


def printable(name: str) -> str:
    """A file's name as it can be shown and stored: bytes that are not UTF-8 become escapes such as \\xe9."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def described(description: str, left: Sequence[LeftOut]) -> str:
    """The description of data, with what of them is lost."""
    return ", ".join([description, *(one.short for one in left if one.lost)])


def to_meta(left: Sequence[LeftOut]) -> list[dict[str, Any]]:
    """What `meta.json` keeps under `left_out`."""
    return [asdict(one) | {"names": list(one.names)} for one in left]


def from_meta(meta: dict[str, Any]) -> list[LeftOut]:
    """What a `meta.json` says was left out; nothing where it was written before that was counted."""
    return [LeftOut(**one) for one in meta.get("left_out", [])]
