"""How child processes are started, so that they run the code of their parent and nothing that happens to lie about.

Python puts the folder that a process is started in, or that its script lies in, before all others in which it looks for
modules. A child of `ofe` that was started in another clone of the project would run that clone's code, and a file
`statistics.py` there would stand in for Python's own. So every child is started with PYTHONSAFEPATH, which leaves that
folder out and is handed on to the children of the child (torchrun's workers), and is told where its parent's package
lies.
"""

from __future__ import annotations

import os
from pathlib import Path

import reproduce

PACKAGE_VARIABLE = "OFE_PACKAGE"
"""Tells a worker the folder of the package `reproduce` that started it: both must be the same code."""


def child_environment(**changes: str) -> dict[str, str]:
    """The environment of a child: this process's own, in which it finds this very package, and `changes`."""
    package = Path(reproduce.__file__).resolve().parent
    environment = os.environ | {"PYTHONSAFEPATH": "1", PACKAGE_VARIABLE: str(package)}
    # An empty entry of PYTHONPATH means the current folder, and a relative one depends on it.
    entries = [str(Path(entry).absolute()) for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if package.parent.name not in ("site-packages", "dist-packages"):
        entries.insert(0, str(package.parent))  # a clone, which the parent may have found in the current folder only
    if entries:
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(entries))
    else:
        environment.pop("PYTHONPATH", None)
    return environment | changes
