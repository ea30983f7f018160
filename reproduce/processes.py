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

COMMAND_VARIABLE = "REPRODUCE_COMMAND"
"""The variable that tells a child what the user typed, for the provenance of its run."""


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

_STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
STOP_SIGNALS = tuple(getattr(signal, name) for name in _STOPPING if hasattr(signal, name))
"""The signals that ask a process to save and stop, as far as the system has them.

They are those of Ctrl-C, of `kill` and preemption, of a terminal that is closed, and the two that clusters send before
a time limit.
"""

INTERRUPTED, REQUEUE = 130, 75
"""Exit codes of a process that was stopped by Ctrl-C, and of one that another signal stopped.

75 is EX_TEMPFAIL of sysexits.h: the same command, started again, continues. Batch systems requeue on it.
"""

READER_LEFT = 128 + 13
"""Exit code of a command whose output is read no more. So a shell reports a program that SIGPIPE stopped."""


class Stopped(KeyboardInterrupt):
    """A stop signal came. As Ctrl-C does, it unwinds the stack, so that nothing is left half written."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def stop_code(number: int) -> int:
    """The exit code of a process that the signal `number` has stopped."""
    return INTERRUPTED if number == signal.SIGINT else REQUEUE


def raise_when_asked() -> None:
    """Raise `Stopped` in this process when a stop signal comes, except those that were ignored at the start."""

    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    handle((number for number in STOP_SIGNALS if number != signal.SIGINT), stop)


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
