"""Child processes run the code of their parent, wherever they are started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import reproduce
from reproduce.jobs.executor import LocalProcesses, worker_command
from reproduce.jobs.queue import execute
from reproduce.jobs.worker import main
from reproduce.processes import PACKAGE_VARIABLE, child_environment
from reproduce.store.runs import Store
from tests.runs import create, tiny_run, write_text_folder

PACKAGE = Path(reproduce.__file__).resolve().parent
WHERE = [sys.executable, "-c", "import reproduce; print(reproduce.__file__)"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with another copy of the package, whose worker seals nonsense, and a trap for the library."""
    folder = tmp_path / "another clone"
    shutil.copytree(PACKAGE, folder / "reproduce", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "reproduce" / "training" / "train.py").write_text("raise SystemExit('the other clone was run')")
    (folder / "statistics.py").write_text("raise SystemExit('a file of the current folder was run')")
    (folder / "pyproject.toml").touch()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 2])
def test_a_run_is_trained_by_the_code_that_asks_for_it(elsewhere: Path, tmp_path: Path, devices: int) -> None:
    run = tiny_run(write_text_folder(tmp_path / "text", 20_000))
    (job,) = execute([run], Store(tmp_path / "home"), LocalProcesses(1, devices=devices))
    assert (job.state, job.error) == ("sealed", None)


@pytest.mark.parametrize("value", [None, "", ".", f"{os.pathsep}.{os.pathsep}"])
def test_a_child_finds_the_package_of_its_parent(
    elsewhere: Path, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", value)
    found = subprocess.run(WHERE, env=child_environment(), capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).parent == PACKAGE


def test_a_relative_entry_of_the_python_path_means_the_same_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "mine")
    assert str(tmp_path / "mine") in child_environment()["PYTHONPATH"].split(os.pathsep)


def test_changes_are_laid_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    environment = child_environment(OMP_NUM_THREADS="2")
    assert (environment["OMP_NUM_THREADS"], environment["PYTHONSAFEPATH"]) == ("2", "1")
    assert environment[PACKAGE_VARIABLE] == str(PACKAGE)


def test_a_worker_refuses_to_work_for_another_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = create(tmp_path / "home", tiny_run(write_text_folder(tmp_path / "text", 20_000)))
    monkeypatch.setenv(PACKAGE_VARIABLE, str(tmp_path / "another" / "reproduce"))
    assert main([str(folder.path)]) == 1
    said = capsys.readouterr().err
    assert f"the command runs ofe from {tmp_path / 'another' / 'reproduce'}" in said
    assert "hint:" in said
    assert not folder.sealed


def test_no_child_is_started_without_it() -> None:
    """Whoever starts a Python process hands it this environment."""
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if "sys.executable" in source and ("subprocess.run(" in source or "Popen(" in source):
            assert "child_environment(" in source, path


def test_the_worker_s_command_names_no_file() -> None:
    assert worker_command(Path("there"))[1:3] == ["-m", "reproduce.jobs.worker"]
