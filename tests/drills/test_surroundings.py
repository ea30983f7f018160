"""Another time zone, long paths, other numbers of threads: what has no effect, and what has one within a tolerance."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from reproduce.store.runs import RunFolder
from tests.runs import create, tiny_run, worker, write_text_folder
from tests.training.kills import checked_bytes

TOLERANCE = 1e-4
"""Relative difference of losses over 20 steps that other numbers of threads may make. docs/reliability.md states it."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    home = tmp_path_factory.mktemp("home")
    folder = create(home, tiny_run(write_text_folder(tmp_path_factory.mktemp("text"), 20_000)))
    assert worker(folder, home).wait(300) == 0
    return folder


def again(straight: RunFolder, home: Path, **environment: str) -> RunFolder:
    """The same run in another home, with other variables."""
    folder = RunFolder(home / "runs" / straight.path.name)
    folder.path.mkdir(parents=True)
    shutil.copy(straight.path / "run.yaml", folder.path)
    shutil.copytree(straight.path.parent.parent / "data", home / "data")
    process = worker(folder, home, **environment)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return folder


@pytest.mark.slow
def test_time_zones_languages_and_odd_paths_have_no_effect(straight: RunFolder, tmp_path: Path) -> None:
    home = tmp_path / ("a long name " * 8) / "é ü 名前 'quoted' #1 [x] $HOME"
    folder = again(straight, home, TZ="Pacific/Kiritimati", LANG="C", LC_ALL="C", PYTHONUTF8="0")
    assert checked_bytes(folder) == checked_bytes(straight)


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["2", "4"])
def test_threads_change_losses_within_the_stated_tolerance(straight: RunFolder, tmp_path: Path, threads: str) -> None:
    folder = again(straight, tmp_path / "home", OMP_NUM_THREADS=threads)
    assert folder.provenance()["threads"] == int(threads)
    ours, theirs = (
        frame.loc[frame["metric"] == "loss", "value"].to_numpy()
        for frame in (folder.read_trace(), straight.read_trace())
    )
    assert np.allclose(ours, theirs, rtol=TOLERANCE, atol=0)
