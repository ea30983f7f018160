"""Errors that a user can act on.

    OfeError            one sentence, a hint, and the exit code that goes with it
    └── SpecError       a bad spec or option: exit code 2

Anything else that escapes is a defect of ofe.
"""

from __future__ import annotations


class OfeError(Exception):
    """Something the user can put right.

    Args:
        message: one sentence that says what is wrong, without a full stop.
        hint: what to do about it.
        exit_code: 1 when a run or claim failed, 2 for bad usage or a bad spec, 3 when runs have to be trained first.
    """

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class SpecError(OfeError):
    """A spec, setting or override that does not say what it must."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, exit_code=2)
