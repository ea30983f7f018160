"""What the shell offers when Tab is pressed: ids of figures, names of settings, and names of runs.

A shell asks anew at every press, so that only names of files are read and, of a spec, its line `title:`. Where
anything goes wrong, nothing is offered, since an error would be printed into the line that the user types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from reproduce.errors import OfeError

_TITLE = re.compile(r"^title: *(.+)$", re.MULTILINE)


def complete_figure(incomplete: str) -> list[tuple[str, str]]:
    """Ids of figures and tables that begin with what was typed, with their titles; also specs in the folder there."""
    try:
        from reproduce.specs.load import experiments_root

        offered = [("all", "every figure and table")]
        offered += [(path.stem, _title(path)) for path in sorted(experiments_root().glob("*.yaml"))]
        offered += [(str(path), _title(path)) for path in _own_specs(incomplete)]
    except (OSError, OfeError):
        return []
    return [(name, title) for name, title in offered if name.startswith(incomplete)]


def complete_setting(incomplete: str) -> list[str]:
    """Names of settings that begin with what was typed."""
    try:
        from reproduce.specs.load import experiments_root

        names = [path.stem for path in sorted((experiments_root() / "settings").glob("*.yaml"))]
    except (OSError, OfeError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[tuple[str, str]]:
    """Names of the runs in OFE_HOME that begin with what was typed, each with its key."""
    try:
        from reproduce.store.home import ofe_home

        folders = sorted(path.name for path in (ofe_home() / "runs").iterdir() if path.is_dir())
    except (OSError, OfeError):
        return []
    found = [name.rpartition("-")[::2] for name in folders]
    return [(slug, key) for slug, key in found if slug.startswith(incomplete)]


def _own_specs(incomplete: str) -> Iterator[Path]:
    """YAML files in the folder that the typed word names so far."""
    folder = Path(incomplete).parent if "/" in incomplete else Path()
    yield from sorted(folder.glob("*.yaml"))


def _title(path: Path) -> str:
    found = _TITLE.search(path.read_text(encoding="utf-8", errors="replace")[:500])
    return found[1].strip("\"' ") if found else ""
