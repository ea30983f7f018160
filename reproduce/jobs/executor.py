"""What runs workers somewhere, and the first such thing: processes of this machine.

    handle = executor.submit(folder, place)     a worker starts on the job in `folder`
    handle.poll()                               its exit code, None while it works
    handle.stop(); handle.stop(kill=True)       ask it to save and stop; end it at once
    handle.messages()                           what it wrote to stderr

The queue (`reproduce.jobs.queue`) knows no more of an executor than this. A cluster's scheduler fits behind the same
four functions.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Protocol

from reproduce.processes import child_environment
from reproduce.store.runs import RunFolder

Command = Callable[[Path], list[str]]


class Handle(Protocol):
    """One worker at work."""

    def poll(self) -> int | None:
        """Exit code of the worker, negative for a signal that ended it; None while it works."""
        ...

    def stop(self, *, kill: bool = False) -> None:
        """Ask the worker to save its state and stop, or end it at once."""
        ...

    def messages(self) -> str:
        """All that an ended worker wrote to stderr. To be asked once: what it was kept in is closed."""
        ...


class Executor(Protocol):
    """Where workers run."""

    @property
    def places(self) -> int:
        """How many workers run side by side."""
        ...

    def submit(self, folder: RunFolder, place: int) -> Handle:
        """Start a worker on the job in `folder`, in one of the places from 0."""
        ...


class LocalProcesses:
    """Workers that are processes of this machine, one for each run; of several devices, one for each of them.

    Args:
        places: runs side by side.
        threads: of each process. Rounding depends on it, so it takes part in "same machine, same trace".
        gpus: CUDA devices to spread the workers over, where there is more than one.
        devices: of each run, with a process on each.
        command: what does the job in a folder, by default `worker_command`.
    """

    def __init__(
        self, places: int, *, threads: int = 1, gpus: int = 0, devices: int = 1, command: Command | None = None
    ) -> None:
        self.places, self.threads, self.gpus, self.devices = places, threads, gpus, devices
        self.command = command

    def submit(self, folder: RunFolder, place: int) -> LocalProcess:
        command = self.command(folder.path) if self.command else worker_command(folder.path, self.devices)
        return LocalProcess(folder, command, self.environment(place))

    def environment(self, place: int) -> dict[str, str]:
        """The variables of the worker in this place: its threads, and the CUDA devices that are its own."""
        environment = child_environment(OMP_NUM_THREADS=str(self.threads))
        if self.gpus > 1:
            visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(self.gpus)))).split(",")
            first = place * self.devices % max(1, self.gpus // self.devices * self.devices)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(visible[first : first + self.devices])
        return environment


def worker_command(folder: Path, devices: int = 1) -> list[str]:
    """What does the job in `folder` on `devices` devices."""
    worker = ["-m", "reproduce.jobs.worker", str(folder)]
    if devices == 1:
        return [sys.executable, *worker]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}", *worker]


class LocalProcess:
    """A worker process of this machine."""

    def __init__(self, folder: RunFolder, command: list[str], environment: dict[str, str]) -> None:
        self._folder = folder
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed once its messages have been read
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            env=environment,
            start_new_session=True,  # Ctrl-C at the terminal reaches the queue alone, which passes it on once
        )

    def poll(self) -> int | None:
        return self._process.poll()

    def stop(self, *, kill: bool = False) -> None:
        """Send the signal to the worker; of several under torchrun to the one that speaks for all, once it has spoken.

        torchrun itself would give them half a minute to save; and killed, it would leave them running.
        """
        number = signal.SIGKILL if kill else signal.SIGINT
        progress = self._folder.progress() or {}
        if progress.get("launcher") == self._process.pid:
            with suppress(ProcessLookupError):
                os.kill(progress["pid"], number)
        else:
            self._process.send_signal(number)

    def messages(self) -> str:
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()
        self._stderr.close()
        return said
