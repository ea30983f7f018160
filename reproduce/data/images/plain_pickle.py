"""Pickles of plain data, read without trusting them: arrays, bytes, strings, dicts, lists and numbers.

A pickle is a program that may name any function of any module. Here the names that NumPy's arrays use stand for the
small classes below, which record what they are given, and every other name is refused: nothing of the pickle's
choosing is ever imported or called, NumPy included. Arrays are made from what was recorded, of bytes or integers only.
"""

from __future__ import annotations

import math
import pickle
from io import BytesIO
from typing import Any

import numpy as np

from reproduce.errors import OfeError


class _Dtype:
    """numpy.dtype(name, ...): a name, and the state whose second entry is the byte order."""

    def __init__(self, name: object, *flags: object) -> None:
        self.name = name.decode("ascii") if isinstance(name, bytes) else name
        self.order = "|"

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("an array with fields")
        self.order = state[1].decode("ascii") if isinstance(state[1], bytes) else state[1]

    def plain(self) -> np.dtype[Any]:
        if self.name not in ("u1", "i1", "i2", "i4", "i8", "u2", "u4", "u8") or self.order not in ("|", "<", ">", "="):
            raise pickle.UnpicklingError(f"an array of {self.name}")
        return np.dtype(f"{self.order}{self.name}")


class _Array:
    """What an array is made from."""

    content: np.ndarray | None = None

    def fill(self, shape: object, dtype: object, fortran: object, raw: object) -> None:
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray):
            raise pickle.UnpicklingError("an array of objects")
        if not isinstance(shape, tuple) or not all(isinstance(length, int) and length >= 0 for length in shape):
            raise pickle.UnpicklingError("an array without a shape")
        flat = np.frombuffer(raw, dtype.plain())
        if flat.size != math.prod(shape):
            raise pickle.UnpicklingError("an array whose shape is not that of its content")
        self.content = flat.reshape(shape, order="F" if fortran else "C")

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickle.UnpicklingError("an array in an unknown form")
        self.fill(*state[1:])


def _reconstruct(*arguments: object) -> _Array:
    """An empty array, to be filled by its state."""
    return _Array()


def _from_buffer(raw: object, dtype: object, shape: object, order: object) -> _Array:
    array = _Array()
    array.fill(shape, dtype, order == "F", raw)
    return array


def _latin1(text: object, encoding: object) -> bytes:
    """How Python 3 writes bytes in protocol 2."""
    if not isinstance(text, str) or encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError("text in another encoding than latin1")
    return text.encode("latin1")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _latin1,
}


class _Refused(Exception):
    """The pickle names something that plain data do not need."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise _Refused(f"{module}.{name}")
        return _STAND_INS[module, name]


def load_plain(content: bytes, what: str) -> Any:
    """The value of a pickle of plain data; text that Python 2 wrote comes as bytes.

    Args:
        what: name of the file, for errors.

    Raises:
        OfeError: it names anything but NumPy's arrays, or cannot be read.
    """
    try:
        return _plain(_Reader(BytesIO(content), encoding="bytes").load())
    except _Refused as error:
        raise OfeError(
            f"{what} is refused: it would call {error}, and plain data call nothing",
            hint="do not open this file with anything else, and take the data from another place",
        ) from None
    except Exception as error:  # a damaged pickle makes its reader fail in any way whatever
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise OfeError(f"{what} is not a pickle of plain data: {reason}", hint="take a fresh copy of it") from error


def _plain(value: Any) -> Any:
    """`value` with arrays for what stands for them."""
    match value:
        case _Array():
            if value.content is None:
                raise pickle.UnpicklingError("an array without content")
            return value.content
        case dict():
            return {_plain(key): _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
        case tuple():
            return tuple(_plain(item) for item in value)
        case bytes() | str() | int() | float() | None:
            return value
        case _:
            raise pickle.UnpicklingError(f"a {type(value).__name__}")
