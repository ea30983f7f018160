"""Folders of prepared data: how they are called, the lock that lets one process prepare them, and their check.

OFE_HOME/data/<source>-<fingerprint>/      prepared once, then only read
    meta.json                              what it is, and the size and checksum of every other file
OFE_HOME/data/<source>-<fingerprint>.lock  held by the process that prepares it
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from reproduce.config import DataConfig
from reproduce.data.progress import Progress
from reproduce.errors import OfeError
from reproduce.store.home import ensure_home, explain_os_errors, ofe_home
from reproduce.store.json_text import loads
from reproduce.store.regular import bytes_of, open_regular

HASHED_AT_OPENING = 2**31
"""Bytes of a prepared folder up to which each opening compares checksums, a few seconds; beyond, only sizes."""


def hash_identity(identity: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that identify a value of JSON."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def folder_of(data: DataConfig, fingerprint: str) -> Path:
    """The folder of the data with this fingerprint, which exists if and only if they have been prepared."""
    return ofe_home() / "data" / f"{data.source}-{fingerprint}"


def refuse_other_data(data: DataConfig, fingerprint: str) -> None:
    """Refuse data whose fingerprint is not the one that `data` carries; a configuration without one takes any.

    Raises:
        OfeError: the two fingerprints differ.
    """
    if data.fingerprint not in ("", fingerprint):
        raise OfeError(
            f"the data of {data.source} here are not those this run was made for"
            f" ({fingerprint}, not {data.fingerprint})",
            hint=f"copy {folder_of(data, data.fingerprint).name} to {ofe_home() / 'data'} from where the run was made",
        )


def prepare_once(
    folder: Path, prepare: Callable[[], None], progress: Progress, *, doubt: Callable[[], str | None] = lambda: None
) -> None:
    """Call `prepare`, which makes `folder`, unless the folder is there or another process makes it first.

    The lock is `<folder>.lock`. Nothing is written where the folder is there already.

    Args:
        doubt: says why the folder that is there cannot be trusted, and is prepared again; None where it can be.
    """
    if folder.is_dir() and not doubt():
        return
    from filelock import Timeout

    from reproduce.store.lock import acquire, system_lock

    ensure_home()
    lock = system_lock(folder.with_name(f"{folder.name}.lock"))
    with explain_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            acquire(lock, 0)
        except Timeout:
            progress(f"waiting for another process that prepares {folder.name}")
            acquire(lock)
    try:
        if folder.is_dir() and (reason := doubt()):
            progress(f"preparing {folder.name} again: {reason}")
            with explain_os_errors(folder):
                shutil.rmtree(folder)
        if not folder.is_dir():
            prepare()
    finally:
        lock.release()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; 1 to 2 s for the 0.7 GB of the paper's CodeParrot tokens."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verified_meta(folder: Path, *, whole: bool = False) -> dict[str, Any]:
    """The `meta.json` of a prepared folder, once every file it lists is what was written.

    Args:
        whole: compare the checksums of all files, however large they are, as `ofe data check` does.

    Raises:
        OfeError: a file is missing, or has another size or checksum than when it was written.
    """
    hint = f"delete {folder}: the data is prepared again when it is needed"
    try:
        meta = loads(bytes_of(folder / "meta.json"))
        written = {name: (folder / name).stat().st_size for name in meta["sha256"]}
        wrong = [name for name, size in written.items() if size != meta.get("bytes", written)[name]]
        if not wrong and (whole or sum(written.values()) <= HASHED_AT_OPENING):
            wrong = [name for name, expected in meta["sha256"].items() if file_sha256(folder / name) != expected]
    except (ValueError, KeyError):
        wrong = ["meta.json"]
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise OfeError(f"prepared data is damaged: {folder / missing} is missing", hint=hint) from error
    if wrong:
        raise OfeError(f"prepared data is damaged: {folder / wrong[0]} is not what was written", hint=hint)
    return meta
