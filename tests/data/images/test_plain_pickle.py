"""What plain pickles hold is read; what others would do is not done."""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reproduce.data.images.plain_pickle import load_plain
from reproduce.errors import OfeError

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 12)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "array",
    [
        IMAGES,
        np.asfortranarray(IMAGES),
        np.arange(6, dtype=np.int64),
        np.arange(6, dtype=">i2"),
    ],
)
def test_arrays_come_back_from_every_protocol(protocol: int, array: np.ndarray) -> None:
    content = load_plain(pickle.dumps({b"data": array, "labels": [1, 2], "more": (3.5, None, "x")}, protocol), "it")
    np.testing.assert_array_equal(content[b"data"], array)
    assert content[b"data"].dtype == array.dtype
    assert (content["labels"], content["more"]) == ([1, 2], (3.5, None, "x"))


def test_strings_of_python_2_come_as_bytes() -> None:
    # {'labels': [3], 'data': array([[1, 2]], dtype=uint8)} as Python 2 and NumPy 1 write it, protocol 2.
    written = (
        b"\x80\x02}q\x00(U\x06labelsq\x01]q\x02K\x03aU\x04dataq\x03cnumpy.core.multiarray\n_reconstruct\nq\x04cnumpy\n"
        b"ndarray\nq\x05K\x00\x85U\x01b\x87Rq\x06(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x07U\x02u1K\x00K\x01\x87Rq\x08(K"
        b"\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x01\x02tbu."
    )
    content = load_plain(written, "it")
    assert content[b"labels"] == [3]
    np.testing.assert_array_equal(content[b"data"], np.array([[1, 2]], np.uint8))


class _Calls:
    """An object whose pickle calls `function`."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "system"), (builtins.eval, "eval"), (subprocess.Popen, "Popen"), (builtins.getattr, "getattr")],
)
@pytest.mark.parametrize("wrap", [lambda bad: bad, lambda bad: {b"data": IMAGES, b"labels": [0, bad]}])
def test_a_pickle_that_calls_something_is_refused(
    protocol: int, function: Any, name: str, wrap: Callable[[Any], Any], tmp_path: Path
) -> None:
    done = tmp_path / "done"
    content = pickle.dumps(wrap(_Calls(function, f"touch {done}")), protocol)
    with pytest.raises(OfeError, match=rf"data_batch_1 is refused: it would call .*\.{name},"):
        load_plain(content, "data_batch_1")
    assert not done.exists()


def test_a_call_inside_a_call_is_refused(tmp_path: Path) -> None:
    done = tmp_path / "done"
    inner = _Calls(os.system, f"touch {done}")
    for content in (_Calls(dict, [("a", inner)]), OrderedDict(a=inner), [np.array([inner], object)]):
        with pytest.raises(OfeError, match="is refused"):
            load_plain(pickle.dumps(content), "it")
    assert not done.exists()


def test_attributes_of_what_is_allowed_are_not_reached() -> None:
    # Protocol 4 would resolve a dotted name; STACK_GLOBAL with "ndarray.tofile", called with a path.
    content = b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93)R."
    with pytest.raises(OfeError, match=r"numpy\.ndarray\.tofile"):
        load_plain(content, "it")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (np.array([None, 1], object), "an array of"),
        (np.zeros(2, [("a", "u1"), ("b", "i4")]), "an array"),
        (np.zeros(2, np.float32), "an array of f4"),
        ({1, 2}, "a set"),
    ],
)
def test_what_is_not_plain_is_not_read(value: Any, reason: str) -> None:
    with pytest.raises(OfeError, match=f"is not a pickle of plain data: {reason}"):
        load_plain(pickle.dumps(value), "it")


def test_an_array_larger_than_its_content_is_not_made() -> None:
    content = pickle.dumps(IMAGES, 2).replace(b"K\x02K\x0c\x86", b"K\x02K\x0d\x86")
    with pytest.raises(OfeError, match="shape is not that of its content"):
        load_plain(content, "it")


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(IMAGES)[:-20]])
def test_a_damaged_file_is_told(content: bytes) -> None:
    with pytest.raises(OfeError, match="test_batch is not a pickle of plain data") as caught:
        load_plain(content, "test_batch")
    assert caught.value.hint == "take a fresh copy of it"
