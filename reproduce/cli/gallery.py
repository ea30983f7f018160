"""Figures on the disk, and beside each a record of what it shows.

    <folder>/<id>.png          the picture
    <folder>/<id>.json         the keys of the traces it was drawn from, and the verdicts on its claims

The folder is `OFE_HOME/figures/<scale>`, or the one given with `--out`. Runs with changed values draw another figure,
which goes to a folder that names the changes. The record tells without reading a trace whether a figure is up to date.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reproduce.specs.runs import Resolved
from reproduce.specs.schema import Experiment
from reproduce.store.atomic import write_json
from reproduce.store.home import ensure_folder, expanded, explain_os_errors, ofe_home
from reproduce.store.json_text import loads
from reproduce.store.reference import reference_root
from reproduce.store.regular import text_of
from reproduce.versions import installed_version

SCHEMA = 3
"""This is raised when a record gets other parts, or claims are judged in another way. Older records then count for
nothing, and their figures are drawn and judged again."""


@dataclass(frozen=True)
class Record:
    """What a drawn figure rests on, and what it says."""

    traces: dict[str, str | None]
    """Key of the trace of each run, by slug; None for a run that had none."""
    verdicts: list[dict[str, Any]]
    """As `ofe verify --json` gives them."""
    files: list[str]
    """Names of the pictures and tables."""


def default_folder(scale: str, overrides: Sequence[str] = (), seeds: int | None = None) -> Path:
    """Where the figures of a scale go unless the user says otherwise."""
    changes = [*overrides, *([f"seeds={seeds}"] if seeds is not None else [])]
    name = ",".join([scale, *(re.sub(r"[^\w.=+-]", "_", change) for change in changes)])
    return ofe_home() / "figures" / name


def figures_folder(out: Path | None, scale: str, overrides: Sequence[str] = (), seeds: int | None = None) -> Path:
    """The folder that figures go to, which is `out` or else the default folder. It is created where it is missing.

    Raises:
        OfeError: it cannot be created or written (exit code 2).
    """
    if out is None:
        return ensure_folder(default_folder(scale, overrides, seeds), "OFE_HOME")
    return ensure_folder(expanded(str(out)) if str(out).startswith("~") else out, "--out")


def write_record(folder: Path, resolved: Resolved, record: Record) -> None:
    """Write the record of a figure that has just been drawn.

    Raises:
        OfeError: the folder cannot be written.
    """
    content = {"schema": SCHEMA, "id": resolved.experiment.id, "scale": resolved.scale}
    content |= {"spec": _digest(resolved.experiment), "ofe": installed_version("ofe")} | vars(record)
    path = folder / f"{resolved.experiment.id}.json"
    with explain_os_errors(path, "--out"):
        write_json(path, content)


def read_record(folder: Path, resolved: Resolved, traces: Mapping[str, str | None]) -> Record | None:
    """The record of the figure, or None if it would now be judged otherwise from this spec and these traces.

    The version that drew it stands in the record and does not count: a release would make all shipped ones out of date.
    """
    try:
        content = loads(text_of(folder / f"{resolved.experiment.id}.json"))
    except (OSError, ValueError):
        return None
    now = {"schema": SCHEMA, "scale": resolved.scale, "traces": dict(traces)}
    if not isinstance(content, dict) or any(content.get(name) != value for name, value in now.items()):
        return None
    if content.get("spec") != _digest(resolved.experiment):
        return None
    return Record(content["traces"], content["verdicts"], content["files"])


def find_record(resolved: Resolved, traces: Mapping[str, str | None]) -> Record | None:
    """The record of the figure that was drawn here, else of the one that came with the code, else None."""
    found = find_drawn(resolved, traces)
    return found[1] if found else None


def find_drawn(resolved: Resolved, traces: Mapping[str, str | None]) -> tuple[Path, Record] | None:
    """The folder and the record of the figure that was drawn here, else of the one that came with the code."""
    folders = (default_folder(resolved.scale), reference_root() / resolved.scale)
    records = ((folder, read_record(folder, resolved, traces)) for folder in folders)
    return next(((folder, record) for folder, record in records if record), None)


def drawn(folder: Path, record: Record, experiment: Experiment, formats: Iterable[str]) -> list[Path] | None:
    """The files of a figure in all the formats asked for, or None if one of them is missing."""
    names = {*record.files, *(f"{experiment.id}.{name}" for name in formats)}
    paths = [folder / name for name in sorted(names)]
    return paths if all(path.is_file() for path in paths) else None


def _digest(experiment: Experiment) -> str:
    """A short hash of a spec, which tells whether it has changed."""
    return hashlib.sha256(experiment.model_dump_json().encode()).hexdigest()[:16]
