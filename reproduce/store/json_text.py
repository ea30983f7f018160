"""Strict JSON for values that may be NaN or infinite, such as the loss of a diverged run.

JSON has neither NaN nor infinity. They are written as the strings "nan", "inf" and "-inf", which Python's `float`
reads back. Finite floats are written by `repr`, so that every value survives the round trip exactly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def dumps(value: object, *, indent: int | None = None) -> str:
    """`value` as strict JSON with sorted keys, so that equal values give equal text."""
    return json.dumps(without_nonfinite(value), sort_keys=True, indent=indent, allow_nan=False)


def loads(text: str | bytes) -> Any:
    """The value that a JSON text from a file stands for.

    Raises:
        ValueError: it is not JSON, or is nested deeper than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def without_nonfinite(value: Any) -> Any:
    """`value` with NaN and infinities as strings, and with plain dictionaries and lists throughout."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nonfinite(item) for item in value]
    return value
