"""Arrays written to disk whole or not at all, with an error that names the file where the disk is full."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from reproduce.store.atomic import replacing

_BLOCK_BYTES = 2**24


def save_array(path: Path, array: np.ndarray) -> None:
    """Write `array` to `path` as .npy in one step.

    Raises:
        OfeError: the disk is full or cannot be written.
    """
    with replacing(path, needs=array.nbytes) as aside, aside.open("wb") as file:
        # NumPy writes to a real file by itself and then raises a full disk without its errno. To anything else it
        # gives blocks of 16 MiB, so that Python's own file raises what the system says.
        np.save(SimpleNamespace(write=file.write), array)


@contextmanager
def new_array(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield a memory-mapped array to fill; on leaving without an error it becomes `path`, as .npy.

    Its room on the disk is taken first: a memory map that finds the disk full half-way ends the process with a bus
    error, which nothing can catch.

    Raises:
        OfeError: the disk is full or cannot be written.
    """
    with replacing(path, needs=dtype.itemsize * math.prod(shape)) as aside:
        with aside.open("wb") as file:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            file.flush()
            _reserve(file.fileno(), file.tell(), dtype.itemsize * math.prod(shape))
        whole = np.load(aside, mmap_mode="r+")
        yield whole
        whole.flush()


def _reserve(descriptor: int, start: int, size: int) -> None:
    """Take `size` bytes of zeros after `start` of an open file."""
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, size)
        return
    for done in range(0, size, _BLOCK_BYTES):  # macOS and Windows: by writing them
        os.write(descriptor, bytes(min(_BLOCK_BYTES, size - done)))
