"""Run folders and the store that keeps them: `OFE_HOME/runs/<slug>-<key>/`.

A run is nothing but its folder. It can be copied, listed and removed with any tool, since there is neither an index nor
a server. The state of a run follows from the files in the folder, see `reproduce.store.layout`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from reproduce.config import RunConfig
from reproduce.errors import OfeError
from reproduce.job_config import JobConfig
from reproduce.store import lock as locking
from reproduce.store import run_yaml
from reproduce.store import weights as kept
from reproduce.store.atomic import write_json, write_text
from reproduce.store.home import explain_os_errors
from reproduce.store.json_text import loads
from reproduce.store.layout import KEEP, LIVE_TRACE, PROGRESS, RUN_NAME, RUN_YAML, checkpoints
from reproduce.store.regular import open_regular, special_file, text_of
from reproduce.store.seal import (
    discard_leftovers,
    is_sealed,
    read_provenance,
    read_sealed_moments,
    read_sealed_trace,
    verify_folder,
)
from reproduce.store.transfer import copy_sealed, remove_folder

if TYPE_CHECKING:
    import pandas as pd

    from reproduce.specs.runs import ResolvedRun

State = Literal["sealed", "running", "resumable", "failed", "new"]


class Status(NamedTuple):
    """The state of a run, and the reason for it in words for the user."""

    state: State
    reason: str


@dataclass(frozen=True)
class RunFolder:
    """One run folder, which need not be in a store. Creating the object reads nothing."""

    path: Path

    @property
    def key(self) -> str:
        return self.path.name.rpartition("-")[2]

    @property
    def slug(self) -> str:
        return self.path.name.rpartition("-")[0]

    # -- state -------------------------------------------------------------------------------------

    @property
    def sealed(self) -> bool:
        """Whether the folder has a sealed trace. This is cheaper to ask than `state`."""
        return is_sealed(self.path)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do: the trace is sealed, and all weights that were asked for are kept."""
        return self.sealed and not self.lacking_weights()

    @property
    def state(self) -> State:
        return self.status().state

    @property
    def reason(self) -> str:
        return self.status().reason

    def status(self) -> Status:
        """The state of the run and the reason for it.

            sealed       The trace is complete.
            running      A live process holds the lock.
            failed       The last attempt ended with an error.
            resumable    An attempt was stopped, and the same command continues it.
            new          Nothing was done yet.

        A sealed run that is trained again for its weights is running, resumable or failed until it has them. A folder
        that cannot be read has failed, with that as the reason, so that it does not end a list of many runs.
        """
        if self.unreadable:
            return Status("failed", self.unreadable)
        try:
            return self._status()
        except OSError as error:
            return Status("failed", f"{self.path} cannot be read: {error.strerror or error}")

    @property
    def unreadable(self) -> str | None:
        """Why the folder cannot be entered or one of its files not be read, in words for the user; None if it can."""
        try:
            if name := special_file(self.path):
                return f"{self.path} cannot be used: its {name} is a pipe, a socket or a device"
            open_regular(self.path / RUN_YAML).close()
        except FileNotFoundError:
            return None  # what a missing file means is told elsewhere
        except OSError as error:
            return f"{self.path} cannot be read: {error.strerror or error}"
        return None

    def _status(self) -> Status:
        sealed = self.sealed
        if sealed and run_yaml.stated_key(self.path) is None:
            return Status("failed", f"{self.path} cannot be read: its {RUN_YAML} is missing or states no key")
        if sealed and not self.holds_its_run:
            return Status("failed", f"{self.path} holds the trace of another run than its name says")
        # The usual case comes first and asks for no lock: a list of many sealed runs stays fast.
        if sealed and not (self.path / LIVE_TRACE).exists() and not (self.path / PROGRESS).exists():
            return Status("sealed", "trained and sealed")
        progress = self.progress() or {}
        if locking.is_held(self.path):
            return Status("running", f"{_process(progress)} is at {_where(progress)}")
        try:
            lacking = self.lacking_weights()
        except OfeError as error:  # keep.json or weights.json is damaged, and the trace is not
            return Status("sealed" if sealed else "failed", error.message)
        if sealed and not lacking:  # only leftovers are still to be removed
            return Status("sealed", "trained and sealed")
        again = ", once more for its weights" if sealed else ""
        if progress.get("state") == "failed":
            return Status("failed", str(progress.get("error") or "training failed without saying why"))
        if checkpoints(self.path):
            where = f"{_where(progress)}{again}"
            return Status("resumable", f"training stopped at {where} and can go on from its checkpoint")
        if (self.path / LIVE_TRACE).exists():
            return Status("resumable", f"training{again} stopped before its first checkpoint and starts again")
        return Status("sealed", "trained and sealed") if sealed else Status("new", "never trained")

    @contextmanager
    def lock(self) -> Iterator[str | None]:
        """Hold the exclusive right to work on this run. It ends with the process (`reproduce.store.lock`).

        Yields the process of another machine, in words, from which the run is taken over because its heartbeat has
        lapsed, or None.

        Raises:
            OfeError: another process holds it.
        """
        with ExitStack() as stack:
            try:
                lost = stack.enter_context(locking.held(self.path))
            except locking.Held as error:
                raise OfeError(
                    f"another process is training this run: {_process(self.progress() or {})}",
                    hint=f"wait for it (`ofe status` shows how far it is), or stop it; the run is in {self.path}",
                ) from error
            yield None if lost is None else _process(lost._asdict())

    # -- content -----------------------------------------------------------------------------------

    def read_run_yaml(self) -> dict[str, Any]:
        """The content of run.yaml, which describes the run and was written when the folder was created.

        Raises:
            OfeError: the file is missing, damaged, or from a later version of ofe.
        """
        return run_yaml.read(self.path)

    def config(self) -> JobConfig:
        """The job's configuration, with the value that every field had when the folder was created.

        Raises:
            OfeError: run.yaml is damaged, or holds a configuration that this version cannot read.
        """
        return run_yaml.read_config(self.path)

    def training(self) -> RunConfig:
        """The configuration of the training in this folder.

        Raises:
            OfeError: the folder holds another kind of job.
        """
        config = self.config()
        if not isinstance(config, RunConfig):
            raise OfeError(f"{self.path.name} is a measurement, not a training", hint="name a training instead")
        return config

    def progress(self) -> dict[str, Any] | None:
        """The live state of a training, or None if there is none. Floats that are not finite are strings.

        A damaged file counts as none. It is rewritten every second, is not protected against a power cut, and is not
        needed to resume: everything for that is in the checkpoint.
        """
        try:
            content = loads(text_of(self.path / PROGRESS))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def write_progress(self, progress: Mapping[str, Any]) -> None:
        """Replace the live state that other processes see."""
        write_json(self.path / PROGRESS, progress, durable=False)

    def provenance(self) -> dict[str, Any]:
        """The provenance of a sealed run: time, machine, versions, data and outcome.

        Raises:
            OfeError: the file is missing, damaged, or lacks a required field.
        """
        return read_provenance(self.path)

    def read_trace(self) -> pd.DataFrame:
        """The sealed trace, with columns step, split, metric, layer and value.

        Raises:
            OfeError: the run is not sealed, or the file differs from its checksum.
        """
        return read_sealed_trace(self.path)

    def read_moments(self) -> pd.DataFrame:
        """The sealed second moments, with columns step, layer and second_moment, a float32 array (d,).

        Raises:
            OfeError: the run is not sealed, or the file differs from its checksum.
        """
        return read_sealed_moments(self.path)

    def verify(self) -> None:
        """Check every byte of the sealed files and of kept weights, and that the folder has the key of its run.

        Raises:
            OfeError: a file is missing or damaged. The message names it.
        """
        verify_folder(self.path)
        self.check_key()
        kept.check_weights(self.path)

    @property
    def holds_its_run(self) -> bool:
        """Whether run.yaml states the key that the folder's name has. `check_key` looks closer."""
        return run_yaml.stated_key(self.path) == self.key

    def check_key(self) -> None:
        """Check that the folder's name has the key of its run. A renamed folder would pass for another run.

        Raises:
            OfeError: run.yaml describes another run.
        """
        own = run_yaml.own_name(self.path)
        if not own.endswith(f"-{self.key}"):
            there = self.path.with_name(own)
            hint = f"that run has a folder of its own, {there}: remove the one that you do not need"
            if not there.exists():
                hint = f"give it its own name: mv {shlex.quote(str(self.path))} {shlex.quote(str(there))}"
            raise OfeError(f"{self.path / RUN_YAML} describes another run than {self.key}", hint=hint)

    # -- weights -----------------------------------------------------------------------------------

    def lacking_weights(self) -> list[int]:
        """The steps whose weights were asked for and are missing."""
        return kept.lacking(self.path, kept.wanted_steps(self.path))

    def keep_weights(self, steps: Iterable[int]) -> None:
        """Ask for the weights after these optimiser steps. A training that is sealed without them is repeated."""
        kept.want_steps(self.path, steps)

    def weights(self) -> list[int]:
        """The steps whose weights are kept."""
        return sorted(kept.read_weights(self.path).files)

    def give_up_weights(self) -> None:
        """Give up the repeated training of a sealed run: remove what it left, and the wish for weights it has not.

        Raises:
            OfeError: a process is working on the run.
        """
        with self.lock():
            discard_leftovers(self.path)
            with explain_os_errors(self.path / KEEP):
                (self.path / KEEP).unlink(missing_ok=True)
            self.keep_weights(self.weights())

    def drop_weights(self) -> int:
        """Remove the weights and the request to keep them, and return how many bytes that frees."""
        return kept.drop_weights(self.path)

    def weights_file(self, step: int) -> Path:
        """The file with the weights after `step` steps, checked against its checksum.

        Raises:
            OfeError: these weights were not kept, the run ended before that step, or the file is damaged.
        """
        return kept.weights_file(self.path, step)


def _process(progress: Mapping[str, Any]) -> str:
    return f"process {progress.get('pid', '?')} on {progress.get('host', 'an unknown machine')}"


def _where(progress: Mapping[str, Any]) -> str:
    return f"step {progress['step']} of {progress['steps']}" if "step" in progress else "its start"


class Store:
    """All runs in one `OFE_HOME`. Its folder is created together with the first run.

    Args:
        home: the path of OFE_HOME.
    """

    def __init__(self, home: Path) -> None:
        self.runs = home / "runs"

    @classmethod
    def of(cls, folder: RunFolder) -> Store:
        """The store that contains `folder`."""
        return cls(folder.path.absolute().parent.parent)

    def folder(self, run: ResolvedRun) -> RunFolder:
        """The folder of `run`. An existing folder with its key is found under any slug."""
        own = RunFolder(self.runs / f"{run.slug}-{run.key}")
        return own if own.sealed else self.find(run.key) or own

    def create(self, run: ResolvedRun, keep: Iterable[int] = ()) -> RunFolder:
        """The folder of `run`, which is created with its run.yaml if it is missing.

        Args:
            keep: steps whose weights the run is asked to keep, in addition to those that it was asked for before.

        Raises:
            OfeError: the disk is full or cannot be written.
        """
        folder = self.folder(run)
        with explain_os_errors(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
            if not (folder.path / RUN_YAML).exists():
                write_text(folder.path / RUN_YAML, run_yaml.render(run))
        folder.keep_weights(keep)
        return folder

    def find(self, key: str) -> RunFolder | None:
        """The folder with this key under any slug, or None. Preferred is one that holds its run, and is sealed."""
        found = [folder for folder in self.list() if folder.key == key]
        return min(found, key=lambda folder: (not folder.holds_its_run, not folder.sealed), default=None)

    def list(self) -> list[RunFolder]:
        """All run folders, by name. Another program's folders may lie beside them, and are none."""
        try:
            found = sorted(self.runs.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            hint = "change its permissions, or set OFE_HOME to a folder of your own"
            raise OfeError(f"{self.runs} cannot be read: {error.strerror}", hint=hint) from error
        return [RunFolder(path) for path in found if os.path.isdir(path) and _is_of_a_run(path)]

    def remove_unfinished(self, folder: RunFolder) -> None:
        """Remove a folder without a sealed trace, on which no process works.

        Exactly this folder is removed. It is not looked up by its key, since a copy may have the same key.

        Raises:
            OfeError: the folder is not there, is sealed, or is being trained.
        """
        if not folder.path.is_dir():
            raise OfeError(f"{folder.path} is not there", hint="`ofe cache list` shows the run folders", exit_code=2)
        with folder.lock():  # nobody can seal the run between the check and its removal
            if folder.sealed:
                raise OfeError(f"{folder.path.name} is sealed", hint=f"to remove it all the same, delete {folder.path}")
            remove_folder(folder.path)

    def import_folder(self, path: Path) -> RunFolder:
        """Copy a sealed run folder from elsewhere into the store, and verify it.

        A run of the store that is sealed and whole stays. One that is damaged is replaced; its weights stay.

        Raises:
            OfeError: the folder is not sealed or is damaged, or the run is being trained here.
        """
        verify_folder(path)
        own = RunFolder(self.runs / run_yaml.own_name(path))
        here = self.find(own.key) or own
        if here.sealed and _whole(here):
            return here
        if here.state == "running":
            raise OfeError(f"{here.path.name} is being trained: {here.reason}", hint="stop that process first")
        copy_sealed(path, here.path)
        return here

    def export(self, folder: RunFolder, target: Path) -> RunFolder:
        """Copy this sealed folder into the folder `target`, under its own name. Weights stay behind.

        A copy that is there already and whole stays as it is, with all that lies in it.

        Raises:
            OfeError: it is not sealed or is damaged, or another folder has that name and is not a sealed run.
        """
        folder.check_key()
        there = RunFolder(target / folder.path.name)
        if there.path.exists() and not there.sealed:
            raise OfeError(f"{there.path} exists and is not a sealed run", hint="choose another folder to export to")
        if not (there.sealed and _whole(there)):
            copy_sealed(folder.path, there.path)
        return there


def _is_of_a_run(path: Path) -> bool:
    """Whether a folder has the name of a run folder or, as one that was renamed, a file that every one begins with."""
    name = path.name
    return not name.startswith(".") and (
        RUN_NAME.fullmatch(name) is not None or ("-" in name and os.path.lexists(path / RUN_YAML))
    )


def _whole(folder: RunFolder) -> bool:
    """Whether every byte of a sealed trace is as it was sealed, under the name of its own run."""
    try:
        verify_folder(folder.path)
        folder.check_key()
    except OfeError:
        return False
    return True
