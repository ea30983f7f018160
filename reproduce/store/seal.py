"""Sealing: turning a finished job into a folder with a final trace, checksums and provenance.

A folder is sealed if and only if it has the file SHA256SUMS, which is written last. Before that, the live files are
untouched and training can resume from the checkpoint. After that, they are leftovers. A process killed at any moment
leaves one of these two states, and sealing again completes the work.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.errors import OfeError
from reproduce.store import run_yaml
from reproduce.store.atomic import file_hash, write_bytes, write_json, write_text
from reproduce.store.home import explain_os_errors
from reproduce.store.json_text import dumps, loads
from reproduce.store.layout import CHECKED_FILES, LEFTOVERS, MOMENTS, PROVENANCE, SUMS, TRACE, checkpoints, damaged
from reproduce.store.regular import text_of

if TYPE_CHECKING:
    import pandas as pd

CHECKSUM = "checksum"
"""The field of provenance.json with the SHA-256 of its other fields."""
REQUIRED_PROVENANCE = ("failed", "failed_step", "substitute")
"""Fields that every provenance needs, because plots and claims read them."""


def is_sealed(folder: Path) -> bool:
    """Whether the folder is sealed. It says nothing of whether the files are undamaged.

    A folder that may not be entered is not sealed as far as can be known. `RunFolder.unreadable` tells the two apart.
    """
    return os.path.isfile(folder / SUMS)


def seal(folder: Path, provenance: Mapping[str, Any]) -> None:
    """Turn the live trace in `folder` into its sealed form, and remove the leftovers of training.

    If the folder is sealed already, only leftovers are removed.

    Args:
        provenance: all that may differ between two equal runs. It is not covered by the checksums, so that the checked
            files depend on the run's numbers alone. It needs the fields of `REQUIRED_PROVENANCE`.

    Raises:
        ValueError: `provenance` lacks a required field.
        OfeError: the disk is full or cannot be written. The live trace and the checkpoint stay.
    """
    # These load pyarrow, which commands that only ask whether a run is sealed do without.
    from reproduce.store.parquet import moments_bytes, trace_bytes
    from reproduce.store.trace import read_moments, read_rows

    missing = [name for name in REQUIRED_PROVENANCE if name not in provenance]
    if missing:
        raise ValueError(f"provenance lacks {', '.join(missing)}")
    if not is_sealed(folder):
        write_bytes(folder / TRACE, trace_bytes(read_rows(folder)))
        write_bytes(folder / MOMENTS, moments_bytes(read_moments(folder)))
        write_provenance(folder, provenance)
        write_sums(folder)  # last: from here on the folder is sealed
    discard_leftovers(folder)


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS in the format of sha256sum, so that `sha256sum --check` verifies a folder without this program.

    Raises:
        OfeError: the disk is full or cannot be written.
    """
    write_text(folder / SUMS, "".join(f"{file_hash(folder / name)}  {name}\n" for name in CHECKED_FILES))


def discard_leftovers(folder: Path) -> None:
    """Remove the files that only training needed from a sealed folder."""
    assert is_sealed(folder)
    with explain_os_errors(folder):
        # `.*.tmp` are files that a killed process was writing (`reproduce.store.atomic`).
        for path in [*(folder / name for name in LEFTOVERS), *checkpoints(folder), *folder.glob(".*.tmp")]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def verify_folder(folder: Path) -> None:
    """Check every byte of a sealed folder against its SHA256SUMS, and that its files can be read.

    Raises:
        OfeError: the folder is not sealed, or a file is missing or damaged. The message names it.
    """
    from reproduce.store.parquet import read_moments, read_trace

    for name in CHECKED_FILES:
        check_hash(folder / name)
    read_trace(folder / TRACE)
    read_moments(folder / MOMENTS)
    run_yaml.read(folder)
    read_provenance(folder)


def check_hash(path: Path) -> None:
    """Compare a sealed file with its line in SHA256SUMS.

    Raises:
        OfeError: the folder is not sealed, or the file is missing or differs from its checksum.
    """
    sums = _read_sums(path.parent)
    if not path.is_file():
        raise damaged(path, "is missing")
    if file_hash(path) != sums[path.name]:
        raise damaged(path, "is not what was sealed: its checksum differs")


def _read_sums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256, from the SHA256SUMS of a sealed folder."""
    if not is_sealed(folder):
        raise OfeError(f"{folder} is not a sealed run", hint="only a run whose training has finished has a SHA256SUMS")
    lines = text_of(folder / SUMS, errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if sorted(sums) != sorted(CHECKED_FILES):
        raise damaged(folder / SUMS, f"does not list exactly {', '.join(CHECKED_FILES)}")
    return sums


def write_provenance(folder: Path, provenance: Mapping[str, Any]) -> None:
    """Write provenance.json with a checksum of its own: SHA256SUMS covers what is the same in equal runs."""
    plain = {name: value for name, value in provenance.items() if name != CHECKSUM}
    write_json(folder / PROVENANCE, plain | {CHECKSUM: _provenance_hash(plain)})


def _provenance_hash(provenance: Mapping[str, Any]) -> str:
    plain = loads(dumps(provenance))  # as it is read again, with texts for all keys
    return hashlib.sha256(dumps(plain).encode()).hexdigest()


def read_provenance(folder: Path) -> dict[str, Any]:
    """The content of provenance.json.

    Raises:
        OfeError: the file is missing, damaged, edited, or lacks a field of `REQUIRED_PROVENANCE`.
    """
    path = folder / PROVENANCE
    try:
        text = text_of(path)
        provenance = loads(text)
    except (OSError, ValueError) as error:
        raise damaged(path, "cannot be read") from error
    if not isinstance(provenance, dict) or any(name not in provenance for name in REQUIRED_PROVENANCE):
        raise damaged(path, f"lacks one of {', '.join(REQUIRED_PROVENANCE)}")
    as_written = text == dumps(provenance, indent=2) + "\n"
    checksum = provenance.pop(CHECKSUM, None)
    if checksum is None and not _may_lack_checksum(provenance):
        raise damaged(path, "is not what was sealed: it lacks its checksum")
    if checksum is not None and not (as_written and checksum == _provenance_hash(provenance)):
        raise damaged(path, "is not what was sealed: its checksum differs")
    return provenance


def _may_lack_checksum(provenance: Mapping[str, Any]) -> bool:
    """Whether an earlier version may have written this, which wrote neither checksums nor device hours.

    A checksum under another name is one whose name was damaged.
    """
    hashes = [value for value in provenance.values() if re.fullmatch(r"[0-9a-f]{64}", str(value))]
    return "device_hours" not in provenance and not hashes


def read_sealed_trace(folder: Path) -> pd.DataFrame:
    """The sealed trace of `folder`, with columns step, split, metric, layer and value.

    Raises:
        OfeError: the folder is not sealed, or the file differs from its checksum.
    """
    from reproduce.store.parquet import read_trace

    check_hash(folder / TRACE)
    return read_trace(folder / TRACE)


def read_sealed_moments(folder: Path) -> pd.DataFrame:
    """The sealed second moments of `folder`, with columns step, layer and second_moment, a float32 array (d,).

    Raises:
        OfeError: the folder is not sealed, or the file differs from its checksum.
    """
    from reproduce.store.parquet import read_moments

    check_hash(folder / MOMENTS)
    return read_moments(folder / MOMENTS)
