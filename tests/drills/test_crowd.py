"""Many commands on the same runs at once, some of them killed: each run is trained exactly once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reproduce.processes import child_environment
from reproduce.store.runs import RunFolder
from tests.drills.amount import often

QUEUE = """
import sys
from pathlib import Path
from reproduce.config import RunConfig
from reproduce.jobs.executor import LocalProcesses
from reproduce.jobs.queue import execute
from reproduce.specs.runs import ResolvedRun
from reproduce.store.runs import Store
config = {"model": {"kind": "transformer", "layers": 1, "width": 8, "heads": 1},
          "data": {"kind": "text", "source": "python-stdlib", "seq_len": 16, "vocab_size": 300},
          "optimizer": {"lr": 1e-3}, "steps": 9, "batch_size": 2,
          "probe": {"every": 5, "batch_size": 2}, "eval": {"every": 5, "batches": 1}}
runs = [RunConfig.model_validate({**config, "seed": seed}) for seed in range(3)]
runs = [ResolvedRun("toy", "Toy", "toy", "smoke", one.seed, one, paper_data=False) for one in runs]
command = lambda folder: [sys.executable, sys.argv[2], str(folder)]
jobs = execute(runs, Store(Path(sys.argv[1])), LocalProcesses(2, command=command))
sys.exit(sum(job.state != "sealed" for job in jobs))
"""
WORKER = """
import os, sys, time
from pathlib import Path
from reproduce.store.runs import RunFolder
folder = RunFolder(Path(sys.argv[1]))
with folder.lock():
    if folder.sealed:
        sys.exit(0)
    (folder.path / "checkpoint.pt").touch()
    with (folder.path / "begun").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    folder.write_progress({"state": "running", "step": 1, "steps": 9, "pid": os.getpid(), "host": "here"})
    time.sleep(0.7)
    with (folder.path / "ended").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    (folder.path / "SHA256SUMS").touch()
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(often(1)))
def test_ten_commands_at_once_train_each_run_once(tmp_path: Path, seed: int) -> None:
    """Three of ten are killed with SIGKILL. Their workers live on and finish, and the others wait for those."""
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, "-c", QUEUE, str(tmp_path), str(tmp_path / "worker.py")]
    chance = random.Random(seed)
    crowd = [subprocess.Popen(command, env=child_environment(), stderr=subprocess.PIPE, text=True) for _ in range(10)]
    for process in chance.sample(crowd, 3):
        time.sleep(chance.random())
        process.kill()
    errors = [process.communicate(timeout=200)[1] for process in crowd]
    assert [process.returncode for process in crowd if process.returncode != -9] == 7 * [0], errors
    folders = [RunFolder(path) for path in (tmp_path / "runs").iterdir()]
    assert len(folders) == 3
    for folder in folders:
        begun, ended = ((folder.path / name).read_text().splitlines() for name in ("begun", "ended"))
        assert begun == ended, "no run was begun twice"
        assert len(ended) == 1
