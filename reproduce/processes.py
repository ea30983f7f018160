"""How processes of this package are started and how they are asked to stop.

Python puts the folder that a process is started in, or that its script lies in, before all others in which it looks for
modules. A child of `ofe` that was started in another clone of the project would run that clone's code, and a file
`statistics.py` there would stand in for Python's own. So every child is started with PYTHONSAFEPATH, which leaves that
folder out and is handed on to the children of the child (torchrun's workers), and is told where its parent's package
lies.

A process is asked to stop by a signal. It only notes the signal when it comes, and acts on it between two steps.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import reproduce

PACKAGE_VARIABLE = "REPRODUCE_PACKAGE"
"""The variable that tells a child where its parent's package is, so that it can check that it runs the same code."""


def child_environment(**changes: str) -> dict[str, str]:
    """The environment of a child: this process's own with `changes`, in which Python finds this copy of the package."""
    package = Path(reproduce.__file__).resolve().parent
    environment = os.environ | {"PYTHONSAFEPATH": "1", PACKAGE_VARIABLE: str(package)}
    # An empty entry of PYTHONPATH means the current folder, and a relative one depends on it.
    entries = [str(Path(entry).absolute()) for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    if package.parent.name not in ("site-packages", "dist-packages"):
        entries.insert(0, str(package.parent))  # the parent may have found a clone in the current folder only
    if entries:
        environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(entries))
    else:
        environment.pop("PYTHONPATH", None)
    return environment | changes


# ---------------------------------------------------------------------------------------------------
# Stopping

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals of Ctrl-C, of `kill`, and of a terminal that is closed, as far as the system has them."""

StopAsked = Callable[[], bool]
"""Says whether the process has been asked to stop."""


def handle(numbers: Iterable[int], handler: Callable[..., None]) -> dict[int, Any]:
    """Let `handler` take these signals, except those that were ignored when the process was started.

    `nohup` starts a process that ignores SIGHUP, and some shells start background jobs that ignore SIGINT. What was
    ignored at the start stays ignored.

    Returns:
        The earlier handlers, by signal, of those that were replaced.
    """
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}
