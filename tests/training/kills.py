"""Workers that are killed, and what must come of it."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from reproduce.specs.runs import ResolvedRun
from reproduce.store.layout import CHECKED_FILES, CHECKPOINT, LIVE_TRACE
from reproduce.store.runs import RunFolder
from tests.drills.amount import FACTOR
from tests.runs import create, worker

KILLS = 4 if FACTOR == 1 else 50
"""How many workers of a run are killed, in the tests and in `make drills`."""
LIMIT_S = 120 * FACTOR
"""How long a worker may take, in seconds. Drills run for hours beside other work, which may hold a worker up."""


def check_kills(run: ResolvedRun, tmp_path: Path) -> None:
    """Workers are killed at random moments; one more must seal the bytes of an uninterrupted one."""
    straight = create(tmp_path / "straight", run)
    finish(straight, tmp_path / "straight")

    home = tmp_path / "killed"
    folder, chance = create(home, run), random.Random(run.name)
    resumed_from_a_checkpoint = 0
    for _ in range(KILLS):
        resumed_from_a_checkpoint += (folder.path / CHECKPOINT).exists()
        process, goal = worker(folder, home, OFE_CHECKPOINT_S="0"), lines(folder) + chance.randrange(3, 18)
        wait_for(lambda goal=goal: lines(folder) >= goal, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not folder.sealed
    assert resumed_from_a_checkpoint >= 2
    finish(folder, home)
    assert checked_bytes(folder) == checked_bytes(straight)


def finish(folder: RunFolder, home: Path, **environment: str) -> None:
    process = worker(folder, home, **environment)
    _, errors = process.communicate(timeout=2 * LIMIT_S)
    assert process.returncode == 0, errors
    assert folder.sealed


def checked_bytes(folder: RunFolder) -> dict[str, bytes]:
    folder.verify()
    return {name: (folder.path / name).read_bytes() for name in CHECKED_FILES}


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], limit_s: float = LIMIT_S) -> None:
    end = time.monotonic() + limit_s
    while not condition() and process.poll() is None:
        assert time.monotonic() < end, "the worker never got there"
        time.sleep(0.002)


def lines(folder: RunFolder) -> int:
    path = folder.path / LIVE_TRACE
    return path.read_bytes().count(b"\n") if path.exists() else 0
