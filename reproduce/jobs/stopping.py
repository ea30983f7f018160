"""How a process is asked to stop: by signals, which it notes and looks at when it suits."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from typing import Any

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, a polite request, a terminal that is closed."""

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
