"""Turning a finished training into a folder that outlives us.

A folder is sealed when it has a SHA256SUMS, which is written last. Until then the live files are untouched
and training can continue from the checkpoint; from then on they are leftovers. A kill at any moment leaves
one or the other, and sealing again finishes the work.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.errors import OfeError
from reproduce.store import run_yaml
from reproduce.store.atomic import file_hash, write_bytes, write_json, write_text
from reproduce.store.home import explain_os_errors
from reproduce.store.layout import CHECKED_FILES, LEFTOVERS, MOMENTS, PROVENANCE, SUMS, TRACE, checkpoints, damaged

if TYPE_CHECKING:
    import pandas as pd

REQUIRED_PROVENANCE = ("failed", "failed_step", "substitute")
"""What plots and claims ask of every provenance."""


def is_sealed(folder: Path) -> bool:
    return (folder / SUMS).is_file()


def seal(folder: Path, provenance: Mapping[str, Any]) -> None:
    """Turn the live trace in `folder` into its sealed form and remove what training left.

    The checked files depend on the run's numbers alone; all that may differ between two equal runs belongs in
    `provenance`, which must have `failed`, `failed_step` and `substitute`. On a sealed folder only leftovers
    are removed.

    Raises:
        OfeError: the disk is full or cannot be written; nothing is lost.
    """
    from reproduce.store.parquet import moments_bytes, trace_bytes
    from reproduce.store.trace import read_moments, read_rows

    missing = [name for name in REQUIRED_PROVENANCE if name not in provenance]
    if missing:
        raise ValueError(f"provenance lacks {', '.join(missing)}")
    if not is_sealed(folder):
        write_bytes(folder / TRACE, trace_bytes(read_rows(folder)))
        write_bytes(folder / MOMENTS, moments_bytes(read_moments(folder)))
        write_json(folder / PROVENANCE, provenance)
        sums = "".join(f"{file_hash(folder / name)}  {name}\n" for name in CHECKED_FILES)
        write_text(folder / SUMS, sums)
    discard_leftovers(folder)


def discard_leftovers(folder: Path) -> None:
    """Remove from a sealed folder what only training needed."""
    assert is_sealed(folder)
    with explain_os_errors(folder):
        for path in [*(folder / name for name in LEFTOVERS), *checkpoints(folder), *folder.glob(".*.tmp")]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def verify_folder(folder: Path) -> None:
    """Check every byte of a sealed folder against its SHA256SUMS, and that its files can be read.

    Raises:
        OfeError: the folder is not sealed, or the named file is missing or damaged.
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
        OfeError: it is missing, or not what was sealed.
    """
    sums = _read_sums(path.parent)
    if not path.is_file():
        raise damaged(path, "is missing")
    if file_hash(path) != sums[path.name]:
        raise damaged(path, "is not what was sealed: its checksum differs")


def _read_sums(folder: Path) -> dict[str, str]:
    if not is_sealed(folder):
        raise OfeError(f"{folder} is not a sealed run", hint="only a run whose training has finished has a SHA256SUMS")
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if sorted(sums) != sorted(CHECKED_FILES):
        raise damaged(folder / SUMS, f"does not list exactly {', '.join(CHECKED_FILES)}")
    return sums


def read_provenance(folder: Path) -> dict[str, Any]:
    """provenance.json of a sealed folder.

    Raises:
        OfeError: it is missing, damaged, or lacks what every provenance has.
    """
    path = folder / PROVENANCE
    try:
        provenance = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, "cannot be read") from error
    if not isinstance(provenance, dict) or any(name not in provenance for name in REQUIRED_PROVENANCE):
        raise damaged(path, f"lacks one of {', '.join(REQUIRED_PROVENANCE)}")
    return provenance


def read_sealed_trace(folder: Path) -> pd.DataFrame:
    """The sealed trace of `folder`, checked against its checksum: columns step, split, metric, layer, value."""
    from reproduce.store.parquet import read_trace

    check_hash(folder / TRACE)
    return read_trace(folder / TRACE)


def read_sealed_moments(folder: Path) -> pd.DataFrame:
    """The sealed second moments of `folder`, checked: columns step, layer, second_moment (float32 arrays)."""
    from reproduce.store.parquet import read_moments

    check_hash(folder / MOMENTS)
    return read_moments(folder / MOMENTS)
