"""The folder OFE_HOME with all state, errors of writing to it, and the folders that come with the code."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import reproduce
from reproduce.errors import OfeError
from reproduce.units import size

_REASONS = {
    errno.ENOSPC: ("no space is left for {path}", "free some space, or set {name} to a folder on another disk"),
    errno.EDQUOT: ("the disk quota does not allow writing {path}", "free some space, or set {name} to another disk"),
    errno.EROFS: ("{path} is on a read-only file system", "set {name} to a folder that can be written"),
    errno.EACCES: ("no permission to write {path}", "set {name} to a folder of your own, or change its permissions"),
    errno.EPERM: ("no permission to write {path}", "set {name} to a folder of your own, or change its permissions"),
    errno.EEXIST: ("{path} exists and is not a folder", "move that file away, or set {name} to another folder"),
    errno.ENOTDIR: ("{path} lies below a file, not a folder", "set {name} to a folder"),
    errno.EISDIR: ("{path} is a folder, not a file", "move that folder away, or set {name} to another folder"),
    errno.ENOLCK: ("the file system of {path} has no locks", "set {name} to a folder on a local disk"),
    errno.EFBIG: ("{path} is larger than the limit for files here", "raise the limit (`ulimit -f unlimited`)"),
    errno.EIO: ("the disk reports an error at {path}", "check the disk, or set {name} to a folder on another one"),
    errno.ESTALE: ("the network folder of {path} is gone", "mount it again, or set {name} to a folder on a local disk"),
    errno.ENOENT: ("{path} is gone: its folder was removed meanwhile", "start the same command again"),
    errno.ETIMEDOUT: ("the network folder of {path} does not answer", "set {name} to a folder on a local disk"),
    errno.ENODEV: ("the disk of {path} is gone", "mount it again, or set {name} to a folder on another disk"),
    errno.ENXIO: ("the disk of {path} is gone", "mount it again, or set {name} to a folder on another disk"),
    errno.ENOTCONN: ("the network folder of {path} is gone", "mount it again, or set {name} to another folder"),
    errno.EHOSTDOWN: ("the network folder of {path} does not answer", "set {name} to a folder on a local disk"),
    errno.EMLINK: ("the folder of {path} holds too many entries", "set {name} to another folder"),
    errno.ETXTBSY: ("{path} is in use by another program", "stop that program, or set {name} to another folder"),
    errno.EMFILE: ("too many files are open to write {path}", "raise the limit (`ulimit -n 4096`)"),
    errno.ENFILE: ("too many files are open to write {path}", "raise the limit (`ulimit -n 4096`)"),
    errno.ELOOP: ("{path} is a link that leads to itself", "remove that link, or set {name} to another folder"),
    errno.ENAMETOOLONG: ("the path {path} is too long", "set {name} to a folder with a shorter path"),
}


class _CannotWrite(OfeError):
    """An error of `explain_os_errors`. An outer such context may put another variable or option into its hint."""

    def __init__(self, message: str, way_out: str, name: str, exit_code: int) -> None:
        super().__init__(message, hint=way_out.format(name=name), exit_code=exit_code)
        self.way_out = way_out


@contextmanager
def explain_os_errors(
    path: Path, name: str = "OFE_HOME", *, exit_code: int = 1, needs: int | None = None
) -> Iterator[None]:
    """Turn an error of the operating system in writing `path` into an `OfeError` that says what to do.

    An `OSError` that is not in `_REASONS` passes through, since writing elsewhere would not help. If one such context
    is inside another, the outer one decides on `name`: it is closer to the command, and so it knows which option the
    path came from.

    Args:
        name: the variable or option that says where `path` is.
        exit_code: 1 if work failed, 2 if the place was refused before any work.
        needs: size of what is written in bytes, where that is known.

    Raises:
        OfeError: `path` cannot be written, for one of the reasons in `_REASONS`.
    """
    try:
        yield
    except _CannotWrite as error:
        error.hint = error.way_out.format(name=name)
        raise
    except OSError as error:
        known = error.errno in _REASONS and (error.errno != errno.ENOENT or not os.path.isdir(path.parent))
        if not known or error.errno is None:
            raise
        message, way_out = _REASONS[error.errno]
        raise _CannotWrite(
            message.format(path=path) + _room(error.errno, path, needs), way_out, name, exit_code
        ) from error


@contextmanager
def writing_output(path: Path, option: str) -> Iterator[None]:
    """A context in which a file of the user's is written. Its folder is created if it is missing.

    Args:
        option: the option that says where the file is, for the hint.

    Raises:
        OfeError: it cannot be written, see `explain_os_errors`.
    """
    with explain_os_errors(path, option):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield


def in_words(error: OSError) -> OfeError:
    """An error of the operating system that nothing else has explained, as a sentence for the user."""
    try:
        os.getcwd()
    except OSError:
        return OfeError("the current folder is gone or cannot be read", hint="change to another folder", exit_code=2)
    if error.filename is None:
        return OfeError(f"the output cannot be written: {error.strerror or error}")
    path = Path(os.fsdecode(error.filename))
    if error.errno in _REASONS and path.is_absolute() and path.is_relative_to(ofe_home()):
        message, way_out = _REASONS[error.errno]
        return OfeError(message.format(path=path), hint=way_out.format(name="OFE_HOME"))
    return OfeError(f"{path}: {error.strerror or error}")


def _room(number: int, path: Path, needs: int | None) -> str:
    """How much `path` takes and how much is left on its disk, where that is what the error `number` is about."""
    if number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ""
    told = [] if needs is None else [f"it needs {size(needs)}"]
    there = next((folder for folder in path.parents if os.path.isdir(folder)), None)
    if there is not None and number != errno.EFBIG:
        told.append(f"{size(shutil.disk_usage(there).free)} are free on its disk")
    return f" ({', '.join(told)})" if told else ""


def ofe_home() -> Path:
    """The folder of all state: `OFE_HOME` if it is set, and else `ofe` in the platform's cache folder.

    It may not exist yet, and this function does not create it.

    Raises:
        OfeError: this user has no home folder (exit code 2).
    """
    chosen = os.environ.get("OFE_HOME")
    return expanded(chosen) if chosen else _cache_folder()


def _cache_folder() -> Path:
    """`ofe` in the platform's cache folder."""
    import platformdirs

    try:
        return platformdirs.user_cache_path("ofe")
    except RuntimeError as error:  # a user without an entry in the list of users, as in some containers
        hint = "set OFE_HOME to a folder that can be written"
        raise OfeError("this user has no home folder to keep state in", hint=hint, exit_code=2) from error


def lend_home() -> None:
    """Where this user has no home folder, let libraries keep their state below OFE_HOME.

    They would make a folder called `~` in the current one, complain at length, or end with an error of Python.
    """
    chosen = os.environ.get("OFE_HOME")
    if chosen and not chosen.startswith("~") and os.path.expanduser("~") == "~":
        for variable, name in (("HF_HOME", "huggingface"), ("MPLCONFIGDIR", "matplotlib")):
            os.environ.setdefault(variable, str(ofe_home() / name))


def expanded(path: str) -> Path:
    """`path` as an absolute path, with `~` replaced by the home folder.

    Raises:
        OfeError: `~` has no meaning, since this user has no home folder (exit code 2).
    """
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        hint = "write the path out, without ~"
        raise OfeError(f"{path} means a home folder, and this user has none", hint=hint, exit_code=2) from error


def stated(path: str) -> Path:
    """`expanded(path)` of what a run folder states as text: the data that a run reads, or the model that it measures.

    Raises:
        OfeError: as `expanded`; or the path is not UTF-8 (exit code 2).
    """
    found = expanded(path)
    try:
        os.fsencode(found).decode("utf-8")
    except UnicodeDecodeError as error:
        shown = os.fsencode(found).decode(errors="backslashreplace")
        hint = "give it another name, or name a link to it"
        raise OfeError(f"this path is not UTF-8: {shown}", hint=hint, exit_code=2) from error
    return found


def ensure_home() -> Path:
    """`ofe_home()`, which is created if it is missing.

    Raises:
        OfeError: it is not a folder, cannot be created, or cannot be written (exit code 2).
    """
    return ensure_folder(ofe_home(), "OFE_HOME")


def ensure_folder(folder: Path, name: str) -> Path:
    """`folder`, which is created if it is missing.

    Args:
        name: the variable or option that says where the folder is.

    Raises:
        OfeError: it is not a folder, cannot be created, or cannot be written (exit code 2).
    """
    with explain_os_errors(folder, name, exit_code=2):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # on a file system without new folders, such as /proc
            hint = f"set {name} to a folder of your own"
            raise OfeError(f"{folder} cannot be created", hint=hint, exit_code=2) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    return folder


def shared_folder(name: str) -> Path:
    """The folder `experiments` or `figures` that comes with the code.

    In a clone it is beside the package, and an installed package has a copy in `reproduce/_shared/`. It may not exist:
    a clone without reference traces has no `figures`.
    """
    return _shared_folder(name, str(reproduce.__file__))


@cache
def _shared_folder(name: str, module: str) -> Path:
    package = Path(module).resolve().parent
    clone = package.parent
    return clone / name if (clone / "pyproject.toml").is_file() else package / "_shared" / name
