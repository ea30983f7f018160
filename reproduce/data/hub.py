"""What a source says when the Hugging Face hub, or a dataset on it, cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from reproduce.errors import OfeError


@contextmanager
def explained(what: str, hint: str | None = None) -> Iterator[None]:
    """Turn whatever stops `datasets` into an `OfeError`: it passes on the errors of any file format and HTTP client."""
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__
        raise OfeError(f"{what}: {reason}", hint=hint) from error


def unreachable(source: str, copy: str, offline: bool) -> OfeError:
    """The error of a source that could be read from `copy` instead."""
    way_out = f"set data.path to {copy}, or prepare {source} where there is a network and copy OFE_HOME/data"
    if offline:
        message = f"{source} is not in the cache of the Hugging Face hub, and the network may not be used"
        return OfeError(message, hint=way_out)
    return OfeError(f"{source} cannot be reached on the Hugging Face hub", hint=f"check the network, or {way_out}")
