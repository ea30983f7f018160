"""Executors, which run workers. The only one so far runs them as processes of this machine.

    handle = executor.submit(folder, place)     start a worker on the job in `folder`
    handle.poll()                               its exit code, or None while it works
    handle.stop(); handle.stop(kill=True)       ask it to save and stop; end it at once
    handle.says()                               the last line that it has written to stderr so far
    handle.messages()                           what it wrote to stderr

The queue (`reproduce.jobs.queue`) uses nothing else of an executor, so the scheduler of a cluster can become one by
implementing these five functions.
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

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
"""The network interface over which processes of one machine talk."""


class Handle(Protocol):
    """A worker that has been started."""

    def poll(self) -> int | None:
        """Exit code of the worker, or None while it works. A worker ended by signal N has exit code -N."""
        ...

    def stop(self, *, kill: bool = False) -> None:
        """Ask the worker to save its state and stop, or end it at once."""
        ...

    def says(self) -> str:
        """The last line that a worker has written to stderr so far; empty if there is none."""
        ...

    def messages(self) -> str:
        """All that an ended worker wrote to stderr. It can be read only once."""
        ...


class Executor(Protocol):
    """A service that runs workers."""

    @property
    def places(self) -> int:
        """Number of workers that run at the same time."""
        ...

    def submit(self, folder: RunFolder, place: int) -> Handle:
        """Start a worker on the job in `folder`.

        Args:
            place: a number from 0 to `places` - 1 that no other running worker has.
        """
        ...


class LocalProcesses:
    """Runs workers as processes of this machine. A run on several devices has one process for each device.

    Args:
        places: number of runs at the same time.
        threads: number of threads of each process. Rounding depends on it, so the same machine gives the same trace
            only with the same number of threads.
        gpus: number of CUDA devices of the machine. If there are several, they are divided among the workers.
        devices: number of devices of each run.
        command: returns the command that does the job in a folder; by default `worker_command`.
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
        """The environment variables of the worker in this place: its number of threads, and its CUDA devices."""
        environment = child_environment(OMP_NUM_THREADS=str(self.threads))
        # A thread that waits for the others of its process sleeps. By default it spins, which on cores that other
        # processes use as well takes the time from those that it waits for.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if self.devices > 1:  # gloo would look for the address of the host name, which may have none
            environment.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
        if self.gpus > 1:
            visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(self.gpus)))).split(",")
            # Places share devices in turn where there are more places than groups of `devices` GPUs.
            first = place * self.devices % max(1, self.gpus // self.devices * self.devices)
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(visible[first : first + self.devices])
        return environment


def worker_command(folder: Path, devices: int = 1) -> list[str]:
    """The command that does the job in `folder` on `devices` devices."""
    worker = ["-m", "reproduce.jobs.worker", str(folder)]
    if devices == 1:
        return [sys.executable, *worker]
    # The processes find one another at this machine's own address, whatever its host name means elsewhere.
    launcher = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1"]
    return [sys.executable, *launcher, f"--nproc-per-node={devices}", *worker]


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
        """Send SIGINT or SIGKILL to the worker.

        Of several worker processes under torchrun, the one that writes progress.json gets the signal and passes it on.
        torchrun itself would give them only half a minute to save and, if it were killed, would leave them running.
        Before the first progress.json, however, there is only torchrun to signal.
        """
        number = signal.SIGKILL if kill else signal.SIGINT
        progress = self._folder.progress() or {}
        if progress.get("launcher") == self._process.pid:
            with suppress(ProcessLookupError):
                os.kill(progress["pid"], number)
        else:
            self._process.send_signal(number)

    def says(self) -> str:
        descriptor = self._stderr.fileno()
        size = os.fstat(descriptor).st_size
        lines = os.pread(descriptor, 4096, max(0, size - 4096)).decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def messages(self) -> str:
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()
        self._stderr.close()
        return said
