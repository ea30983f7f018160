"""Errors that a user can act on.

    OfeError            has one sentence, a hint and an exit code
    └── SpecError       a bad spec or option, with exit code 2

Any other exception that reaches the user is a defect of ofe.
"""

from __future__ import annotations


class OfeError(Exception):
    """An error that the user can put right.

    Args:
        message: one sentence that says what is wrong, without a full stop.
        hint: one sentence that says what to do about it.
        exit_code: 1 if a run or claim failed, 2 for bad usage or a bad spec, 3 if runs have to be trained first.
    """

    def __init__(self, message: str, *, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


class SpecError(OfeError):
    """An error in a spec, a setting or an override."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, exit_code=2)


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out. Torch has no class of its own for this on a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)
