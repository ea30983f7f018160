"""What is told while data are prepared."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]
"""Is called with one line of text for each step of a preparation."""


class Step(str):
    """A line of progress that a bar can show instead: how much of a task is done."""

    done: int
    total: int | None
    """All there is to do, where that is known."""

    def __new__(cls, line: str, done: int, total: int | None) -> Step:
        step = super().__new__(cls, line)
        step.done, step.total = done, total
        return step
