"""Small runs for tests that train: a text folder, a two-layer model, a few steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from reproduce.specs.load import load_experiment
from reproduce.specs.resolve import resolve
from reproduce.specs.runs import ResolvedRun
from reproduce.store.runs import RunFolder, Store


def write_text_folder(folder: Path, words: int = 40_000) -> Path:
    """A folder of made-up source files, the same every time."""
    folder.mkdir(parents=True, exist_ok=True)
    state = 7
    for index in range(10):
        lines = []
        for _ in range(words // 10):
            state = (1103515245 * state + 12345) % 2**31
            lines.append(f"x{state % 97} = f{state % 13}({state % 7}, y{state % 31})\n")
        (folder / f"part{index}.py").write_text("".join(lines), encoding="utf-8")
    return folder


def tiny_run(text: Path, *changes: str, name: str = "cp-op", seed: int = 0) -> ResolvedRun:
    """The run `name` of figure 2 at smoke scale on the user's folder `text`, with `changes` laid over it."""
    overrides = ("data.source=folder", f"data.path={text}", *changes)
    resolved = resolve(load_experiment("fig2"), "smoke", overrides=overrides, only_runs=[name], seeds=seed + 1)
    return resolved.runs[seed]


def create(home: Path, run: ResolvedRun) -> RunFolder:
    return Store(home).create(run)


def worker(folder: RunFolder, home: Path, **environment: str) -> subprocess.Popen[str]:
    """A real worker process on the run in `folder`."""
    variables = os.environ | {"OFE_HOME": str(home), "OMP_NUM_THREADS": "1", "OFE_DEVICE": "cpu"} | environment
    return subprocess.Popen(
        [sys.executable, "-m", "reproduce.jobs.worker", str(folder.path)],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
