"""Where state lives, and what to tell the user when it cannot be written there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from reproduce.errors import OfeError

_REASONS = {
    errno.ENOSPC: ("no space is left for {path}", "free some space, or set OFE_HOME to a folder on another disk"),
    errno.EDQUOT: ("the disk quota does not allow writing {path}", "free some space, or set OFE_HOME to another disk"),
    errno.EROFS: ("{path} is on a read-only file system", "set OFE_HOME to a folder that can be written"),
    errno.EACCES: ("no permission to write {path}", "set OFE_HOME to a folder of your own, or change its permissions"),
    errno.EPERM: ("no permission to write {path}", "set OFE_HOME to a folder of your own, or change its permissions"),
    errno.EEXIST: ("{path} exists and is not a folder", "move that file away, or set OFE_HOME to another folder"),
    errno.ENOTDIR: ("{path} lies below a file, not a folder", "set OFE_HOME to a folder"),
}


@contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system may object to in writing `path` into an `OfeError` with a way out.

    Other `OSError`s pass through: they are no matter of where the state lives.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        message, hint = _REASONS[error.errno]
        raise OfeError(message.format(path=path), hint=hint) from error


def ofe_home() -> Path:
    """The folder of all state: `OFE_HOME` where it is set, else the platform's cache folder. Not created."""
    chosen = os.environ.get("OFE_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("ofe")


def ensure_home() -> Path:
    """`ofe_home()`, created where it was missing.

    Raises:
        OfeError: it is no folder, cannot be created, or cannot be written.
    """
    home = ofe_home()
    with explain_os_errors(home):
        try:
            home.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # a file system that lets nobody make folders, such as /proc
            raise OfeError(f"{home} cannot be created", hint="set OFE_HOME to a folder of your own") from error
        if not os.access(home, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(home))
    return home
