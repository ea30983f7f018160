"""Where the folders that come with the code lie: `experiments` and `figures`."""

from __future__ import annotations

from pathlib import Path

import reproduce


def shared_folder(name: str) -> Path:
    """The folder `name` beside the package in a clone, or inside the installed package.

    A wheel carries copies under `reproduce/_shared/`. Whether the folder exists is the caller's concern: a
    clone has no `figures` before the first reference trace is added.
    """
    package = Path(reproduce.__file__).resolve().parent
    clone = package.parent
    return clone / name if (clone / "pyproject.toml").is_file() else package / "_shared" / name
