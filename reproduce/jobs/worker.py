"""The worker process, which does the job in one run folder and seals it: `python -m reproduce.jobs.worker FOLDER`.

    torchrun --nproc-per-node 4 -m reproduce.jobs.worker FOLDER     the same training on four devices

A worker knows nothing of figures. It is given a folder with a run.yaml, continues the job from the state in the folder,
and seals the folder. It reports in progress.json and by its exit code:

    0   The run is sealed, with all the weights that were asked for.
    1   There was an error, which is in progress.json and on stderr.
    75  A signal stopped the worker (`reproduce.processes.STOP_SIGNALS`). Its state is saved, and the same command
        continues.

In a group of processes (`reproduce.parallel`), only the chief holds the lock and writes. A signal to any process stops
all of them. An error in any process ends all of them, and the first to fail reports it. All need the same OFE_HOME.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import platform
import shlex
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import reproduce
from reproduce.errors import OfeError, out_of_memory
from reproduce.job_config import JobConfig, kind_of
from reproduce.jobs.device import set_up
from reproduce.machine import this_machine
from reproduce.parallel import group
from reproduce.processes import COMMAND_VARIABLE, PACKAGE_VARIABLE, REQUEUE, STOP_SIGNALS, handle
from reproduce.store.atomic import file_hash
from reproduce.store.home import lend_home
from reproduce.store.layout import TRACE
from reproduce.store.parquet import trace_bytes
from reproduce.store.run_yaml import on_paper_data
from reproduce.store.runs import RunFolder
from reproduce.store.seal import discard_leftovers, seal
from reproduce.store.trace import read_rows
from reproduce.store.weights import read_weights, write_weights
from reproduce.training.train import Interrupted
from reproduce.versions import installed_version

WORK = {"train": "reproduce.jobs.train", "measure": "reproduce.jobs.measure", "quantise": "reproduce.jobs.quantise"}
"""Kind of job -> module with its function `work(folder, config, stop)`, which returns the provenance of that kind."""

SEALED, FAILED, STOPPED = 0, 1, REQUEUE
_PACKAGES = ("ofe", "torch", "numpy", "tokenizers", "datasets", "transformers")
_ATTEMPTS = 2
"""A training that resumes may be past a step whose weights were asked for later. The second one starts at step 0."""


class StopFlag:
    """A flag that the stop signals set. The work reads it between two steps.

    A worker that a queue has started heeds SIGINT and SIGTERM whatever its parent ignores: the queue stops it with one
    of them.
    """

    def __init__(self) -> None:
        self.set = False
        if PACKAGE_VARIABLE in os.environ:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._raise)
        handle(STOP_SIGNALS, self._raise)

    def _raise(self, number: int, frame: object) -> None:
        self.set = True

    def __call__(self) -> bool:
        return self.set


def do(folder: RunFolder, stop: StopFlag) -> int:
    """Do the job in `folder` until it is sealed, and return the exit code.

    A training that was sealed without weights that are wanted now is repeated. Its sealed trace stays.

    Raises:
        OfeError: the job failed, or another process holds the lock. A failure is also written to progress.json, which
            otherwise belongs to that process.
    """
    if reason := folder.unreadable:
        raise OfeError(reason, hint="mend or remove that file")
    run, config = folder.read_run_yaml(), folder.config()
    with folder.lock() if group.chief() else nullcontext() as lost:
        if group.from_chief(folder.complete):
            if group.chief():
                discard_leftovers(folder.path)
            return SEALED
        started = datetime.now(UTC).isoformat(timespec="seconds")
        if group.chief():  # overwrites how an earlier attempt ended
            now = {"state": "running", "error": None, "hint": None, "host": socket.gethostname(), "pid": os.getpid()}
            now |= {"launcher": os.getppid(), "started": started, "taken_over_from": lost}
            folder.write_progress((folder.progress() or {}) | now)
        try:
            for _ in range(_ATTEMPTS):
                before = time.process_time()
                about = {"failed": False, "failed_step": None} | _work(folder, config, stop)
                about["cpu_seconds"] = time.process_time() - before
                about["device_hours"] = about["seconds"] * group.size() / 3600
                if group.chief():
                    finish(folder, common_provenance(run, about["data"]["source"]) | about | {"started": started})
                if group.from_chief(folder.complete):
                    return SEALED
            raise OfeError(f"{folder.path.name} was trained and still lacks weights that were asked for")
        except Interrupted:
            if group.chief():
                folder.write_progress((folder.progress() or {}) | {"state": "interrupted", "error": None})
            return STOPPED
        except OfeError as error:
            if group.first_to_fail():
                ended = {"state": "failed", "error": error.message, "hint": error.hint}
                with suppress(OfeError):  # the disk may be full, which is what the error says
                    folder.write_progress((folder.progress() or {}) | ended)
            raise


def _work(folder: RunFolder, config: JobConfig, stop: StopFlag) -> dict[str, Any]:
    """Do the work of the job's kind, and return its part of the provenance.

    Raises:
        OfeError: the work failed, or the memory ran out.
    """
    try:
        about: dict[str, Any] = importlib.import_module(WORK[kind_of(config)]).work(folder, config, stop)
    except Exception as error:
        if not out_of_memory(error):
            raise
        hint = "set OFE_MICRO_BATCH=1, which computes batches in parts, or pass --jobs 1, which runs one job at a time"
        raise OfeError("the memory ran out", hint=hint) from error
    return about


def finish(folder: RunFolder, provenance: Mapping[str, Any]) -> None:
    """Seal the trace that the work has written. If one is sealed already, it stays and is compared with the new one.

    The weights of a repeated training belong to its own trace. With the same machine and number of threads that is the
    sealed trace, byte for byte. weights.json records whether it was.
    """
    weights, same = read_weights(folder.path), True
    if folder.sealed:
        repeated = hashlib.sha256(trace_bytes(read_rows(folder.path))).hexdigest()
        same = repeated == file_hash(folder.path / TRACE)
    if weights.files:
        write_weights(folder.path, replace(weights, same_trace=same))
    seal(folder.path, provenance)


def common_provenance(run: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The provenance that jobs of all kinds have: machine, packages, device and time.

    Args:
        run: the content of run.yaml.
        source: the name of the data source.
    """
    facts = this_machine()
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {
        "kind": run.get("kind", "train"),
        # A checkpoint that a user has named belongs to no setting, and stands for nothing of the paper's.
        "substitute": bool(run["setting"]) and not on_paper_data(run, source),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else facts.cpu,
        "devices": group.size(),
        "command": os.environ.get(COMMAND_VARIABLE)
        or shlex.join(["python", "-m", "reproduce.jobs.worker", *sys.argv[1:]]),
        "git": git_state(),
        "machine": {"cpu": facts.cpu, "cores": facts.cores, "os": facts.os, "host": socket.gethostname()},
        "packages": {"python": platform.python_version()} | {name: installed_version(name) for name in _PACKAGES},
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def git_state() -> dict[str, Any] | None:
    """The commit of the clone that this package lies in, and whether its files differ from it; None without a clone."""
    clone = Path(reproduce.__file__).resolve().parent.parent
    if not (clone / ".git").exists():
        return None
    # A hook of git sets variables that would make it speak of another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    answers = []
    for question in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            command = ["git", "-C", str(clone), *question]
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True, env=environment)
            answers.append(done.stdout)
        except (OSError, subprocess.SubprocessError):
            return None
    return {"commit": answers[0].strip(), "dirty": bool(answers[1].strip())}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m reproduce.jobs.worker", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="run folder with a run.yaml")
    folder = RunFolder(parser.parse_args(arguments).folder)
    stop = StopFlag()
    lend_home()
    try:
        check_package()
        set_up()
        with group.joined():
            return _in_group(folder, stop)
    except OfeError as error:
        return _told(error)


def check_package() -> None:
    """Check that this process runs the same copy of the package as the command that started it.

    Another copy may compute other numbers, and its trace would be sealed under this copy's key.

    Raises:
        OfeError: the command that started this process runs another copy.
    """
    ours, theirs = Path(reproduce.__file__).resolve().parent, os.environ.get(PACKAGE_VARIABLE)
    if theirs and Path(theirs).resolve() != ours:
        raise OfeError(
            f"the command runs ofe from {theirs}, and its worker would run it from {ours}",
            hint="install one of the two, and start `ofe` from a folder that holds no other copy",
        )


def _in_group(folder: RunFolder, stop: StopFlag) -> int:
    """Do the job and return the exit code. Of several processes that fail, only the first reports its error."""
    try:
        return do(folder, stop)
    except OfeError as error:
        return _told(error) if group.first_to_fail() else FAILED
    except Exception as error:
        if group.first_to_fail():
            traceback.print_exc()
            print(f"error: {''.join(traceback.format_exception_only(error)).strip()}", file=sys.stderr)
        return FAILED


def _told(error: OfeError) -> int:
    """Write the error to stderr, and return the exit code."""
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"\nhint: {error.hint}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
