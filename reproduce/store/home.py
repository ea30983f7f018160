"""The folder of all state, with what to say when it cannot be written, and the folders that come with the code."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import reproduce
from reproduce.errors import OfeError

_REASONS = {
    errno.ENOSPC: ("no space is left for {path}", "free some space, or set {name} to a folder on another disk"),
    errno.EDQUOT: ("the disk quota does not allow writing {path}", "free some space, or set {name} to another disk"),
    errno.EROFS: ("{path} is on a read-only file system", "set {name} to a folder that can be written"),
    errno.EACCES: ("no permission to write {path}", "set {name} to a folder of your own, or change its permissions"),
    errno.EPERM: ("no permission to write {path}", "set {name} to a folder of your own, or change its permissions"),
    errno.EEXIST: ("{path} exists and is not a folder", "move that file away, or set {name} to another folder"),
    errno.ENOTDIR: ("{path} lies below a file, not a folder", "set {name} to a folder"),
    errno.EISDIR: ("{path} is a folder, not a file", "move that folder away, or set {name} to another folder"),
}


class _CannotWrite(OfeError):
    """An error of `explain_os_errors`, which another such context around it may name anew."""

    def __init__(self, message: str, way_out: str, name: str, exit_code: int) -> None:
        super().__init__(message, hint=way_out.format(name=name), exit_code=exit_code)
        self.way_out = way_out


@contextmanager
def explain_os_errors(path: Path, name: str = "OFE_HOME", *, exit_code: int = 1) -> Iterator[None]:
    """Turn what the operating system may object to in writing `path` into an `OfeError` with a way out.

    Any other `OSError` passes through, since another place would not help. Where one such context stands inside
    another, the outer one gives the name: it is nearer to the command, and knows which option led here.

    Args:
        name: the variable or option that says where `path` is.
        exit_code: 1 for work that failed, 2 for a place that was refused before any work.

    Raises:
        OfeError: `path` cannot be written, for one of the reasons in `_REASONS`.
    """
    try:
        yield
    except _CannotWrite as error:
        error.hint = error.way_out.format(name=name)
        raise
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        message, way_out = _REASONS[error.errno]
        raise _CannotWrite(message.format(path=path), way_out, name, exit_code) from error


def ofe_home() -> Path:
    """The folder of all state: `OFE_HOME` where it is set, else one in the platform's cache folder.

    It need not exist: asking for it does not create it.
    """
    chosen = os.environ.get("OFE_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("ofe")


def ensure_home() -> Path:
    """`ofe_home()`, created where it was missing.

    Raises:
        OfeError: it is not a folder, cannot be created, or cannot be written (exit code 2).
    """
    return ensure_folder(ofe_home(), "OFE_HOME")


def ensure_folder(folder: Path, name: str) -> Path:
    """`folder`, created where it was missing.

    Args:
        name: the variable or option that names it.

    Raises:
        OfeError: it is not a folder, cannot be created, or cannot be written (exit code 2).
    """
    with explain_os_errors(folder, name, exit_code=2):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # a file system that lets nobody make folders, such as /proc
            hint = f"set {name} to a folder of your own"
            raise OfeError(f"{folder} cannot be created", hint=hint, exit_code=2) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    return folder


def shared_folder(name: str) -> Path:
    """The folder `name` that comes with the code, `experiments` or `figures`.

    In a clone it stands beside the package; an installed package carries a copy in `reproduce/_shared/`. It need not
    exist: a clone has no `figures` before the first reference trace is added.
    """
    package = Path(reproduce.__file__).resolve().parent
    clone = package.parent
    return clone / name if (clone / "pyproject.toml").is_file() else package / "_shared" / name
