"""Files of OFE_HOME, read only if they are regular ones.

A pipe that somebody has left in a folder would keep its reader waiting for ever, and a link to a device may never end.
"""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: Path) -> BufferedReader:
    """`path`, opened for reading.

    Raises:
        OSError: it cannot be read, or is no regular file but a pipe, a device or a folder (`EINVAL`).
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # without it, opening a pipe waits
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return open(descriptor, "rb")


def bytes_of(path: Path) -> bytes:
    """Content of a regular file.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def text_of(path: Path, errors: str = "strict") -> str:
    """Content of a regular file in UTF-8, with line ends as Python has them.

    Raises:
        OSError: as `open_regular`.
        UnicodeDecodeError: it is not UTF-8, unless `errors` says what then.
    """
    return bytes_of(path).decode("utf-8", errors).replace("\r\n", "\n")


def special_file(folder: Path) -> str | None:
    """Name of a pipe, socket or device in `folder`, or of a link to one; None if there is none.

    Raises:
        OSError: the folder cannot be read.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                mode = entry.stat().st_mode
            except OSError:  # a link to nothing
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                return entry.name
    return None
