"""`ofe reproduce` from end to end: the first call, the second, and the ways in which it can be stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from reproduce import machine
from reproduce.jobs import executor

Ofe = Callable[..., Result]
Reproduced = tuple[Path, subprocess.CompletedProcess[str]]

FAILS = "import sys; print('error: the text is upside down', file=sys.stderr); sys.exit(1)"
STOPS = "import os, signal, sys, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(0.5); sys.exit(75)"


def _worker(program: str) -> Callable[[Path, int], list[str]]:
    return lambda folder, devices: [sys.executable, "-c", program, str(folder)]


def test_the_first_call_trains_draws_and_judges(reproduced: Reproduced) -> None:
    home, done = reproduced
    picture = home / "figures" / "laptop" / "fig1.png"
    assert done.stdout.split()[-1] == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "1/2 reproduced, 1 not reproduced" in done.stdout
    assert "[1/1] toy-ln-laptop-s0: running" in done.stderr
    assert "[1/1] toy-ln-laptop-s0: sealed" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_the_second_call_says_the_same_and_touches_nothing(ofe: Ofe, reproduced: Reproduced) -> None:
    home, done = reproduced
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()}
    again = ofe("reproduce", "fig1", home=home)
    assert again.exit_code == 0
    assert again.stdout == done.stdout
    assert "nothing to train: 1 run sealed" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.is_file()} == before


def test_another_format_or_folder_draws_without_training(ofe: Ofe, reproduced: Reproduced, tmp_path: Path) -> None:
    result = ofe("reproduce", "fig1", "--format", "svg", "--out", str(tmp_path), home=reproduced[0])
    assert (tmp_path / "fig1.svg").is_file()
    assert "nothing to train" in result.stderr


def test_what_is_planned_is_what_is_trained(ofe: Ofe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "worker_command", _worker(FAILS))
    plan = json.loads(ofe("plan", "all", "--seeds", "2", "--json").stdout)
    planned = {f"{run['slug']}-{run['key']}" for run in plan["runs"] if run["state"] == "missing"}
    ofe("reproduce", "all", "--seeds", "2")
    assert {folder.name for folder in (tmp_path / "home" / "runs").iterdir()} == planned


def test_a_failed_run_is_named_with_its_error_and_exits_with_1(ofe: Ofe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "worker_command", _worker(FAILS))
    result = ofe("reproduce", "fig1")
    assert result.exit_code == 1
    assert "error: toy-ln-laptop-s0 failed: the text is upside down" in result.stderr
    (row,) = json.loads(ofe("status", "--json").stdout)
    assert (row["state"], row["error"]) == ("failed", "the text is upside down")


SHORT_OF_MEMORY = """
import sys
from reproduce.jobs import train, worker
real = train.work
def work(folder, config, stop):
    if config.seed == 1:
        __import__('torch').zeros(1 << 58)
    return real(folder, config, stop)
train.work = work
sys.exit(worker.main())
"""


@pytest.mark.slow
def test_a_run_that_runs_out_of_memory_says_so_and_the_others_are_drawn(
    ofe: Ofe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second seed asks torch for more memory than there is anywhere; the first one trains."""
    monkeypatch.setattr(executor, "worker_command", _worker(SHORT_OF_MEMORY))
    result = ofe("reproduce", "fig1", "--seeds", "2", "--scale", "smoke")
    assert result.exit_code == 1
    assert "error: toy-ln-smoke-s1 failed: the memory ran out" in result.stderr
    assert "OFE_MICRO_BATCH=1" in result.stderr
    assert "Traceback" not in result.stderr
    assert "fig1: drawn without toy-ln-smoke-s1" in result.stderr
    assert Path(result.stdout.split()[-1]).is_file()
    rows = {row["slug"]: row for row in json.loads(ofe("status", "--json").stdout)}
    assert {name: row["state"] for name, row in rows.items()} == {
        "toy-ln-smoke-s0": "sealed",
        "toy-ln-smoke-s1": "failed",
    }
    assert rows["toy-ln-smoke-s1"]["error"] == "the memory ran out"


def test_ctrl_c_exits_with_130_and_says_how_to_continue(ofe: Ofe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "worker_command", _worker(STOPS))
    before = signal.getsignal(signal.SIGINT)
    result = ofe("reproduce", "fig1", "--scale", "smoke", "--seeds", "2", "--set", "optimizer.lr=0.01", "--jobs", "1")
    assert result.exit_code == 130
    assert "`ofe reproduce fig1 --scale smoke --seeds 2 --set optimizer.lr=0.01 --jobs 1` continues" in result.stderr
    assert signal.getsignal(signal.SIGINT) is before


PRINTS_THREADS = "import os, sys; print('error:', os.environ['OMP_NUM_THREADS'], file=sys.stderr); sys.exit(1)"


@pytest.mark.parametrize(("idle", "threads"), [(1, "1"), (3, "3"), (6, "4")])
def test_a_run_gets_no_more_threads_than_there_are_cores_without_other_work(
    ofe: Ofe, monkeypatch: pytest.MonkeyPatch, idle: int, threads: str
) -> None:
    here = dataclasses.replace(machine.this_machine(), cores=4, gpus=())
    monkeypatch.setattr(machine, "this_machine", lambda asked_device=None: here)
    monkeypatch.setattr(machine, "idle_cores", lambda machine: idle)
    monkeypatch.setattr(executor, "worker_command", _worker(PRINTS_THREADS))
    result = ofe("reproduce", "fig1", "--scale", "smoke", "--set", "optimizer.lr=0.02", "--jobs", "1")
    assert f"failed: {threads}" in result.stderr
    assert (f"{idle} of 4 cores have no other work: a run that begins gets" in result.stderr) is (idle < 4)


def test_changed_runs_draw_a_figure_of_their_own(ofe: Ofe, reproduced: Reproduced) -> None:
    result = ofe("plot", "fig1", "--seeds", "2", home=reproduced[0])
    assert Path(result.stdout.strip()).parent.name == "laptop,seeds=2"


def test_a_home_that_cannot_be_written_is_an_error_with_a_hint(ofe: Ofe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = ofe("reproduce", "fig1", home=tmp_path / "file")
    assert result.exit_code == 2
    assert "hint: " in result.stderr
    assert os.path.isfile(tmp_path / "file")


def test_figures_that_cannot_be_written_are_refused_before_anything_is_trained(ofe: Ofe, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    home = tmp_path / "home"
    result = ofe("reproduce", "fig1", "--out", str(tmp_path / "taken"), home=home)
    assert result.exit_code == 2
    assert f"{tmp_path / 'taken'} exists and is not a folder" in result.stderr
    assert "hint: move that file away, or set --out to another folder" in result.stderr
    assert not (home / "runs").exists()


def test_a_wrong_word_leaves_no_folder_behind(ofe: Ofe, tmp_path: Path) -> None:
    assert ofe("reproduce", "fig77", "--out", str(tmp_path / "out"), home=tmp_path / "home").exit_code == 2
    assert ofe("plot", "fig1", "--out", str(tmp_path / "out"), home=tmp_path / "home").exit_code == 3
    assert not (tmp_path / "out").exists()


def test_a_senseless_variable_is_refused_before_anything_is_trained(
    ofe: Ofe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFE_MICRO_BATCH", "all")
    result = ofe("reproduce", "fig1", home=tmp_path / "home")
    assert result.exit_code == 2
    assert "OFE_MICRO_BATCH is 'all'" in result.stderr
    assert not (tmp_path / "home" / "runs").exists()


def test_an_option_of_a_cluster_means_nothing_on_this_machine(ofe: Ofe) -> None:
    result = ofe("reproduce", "fig1", "--gres", "gpu:1")
    assert result.exit_code == 2
    assert "--launcher slurm" in result.stderr


def test_the_figures_are_not_drawn_before_the_jobs_of_a_cluster_are_done(
    ofe: Ofe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's programs are stand-ins here, and submitit is real."""
    pytest.importorskip("submitit")
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in {
        "sbatch": "echo Submitted batch job 12",
        "srun": "true",
        "squeue": "echo PENDING",
        "sacct": "true",
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    words = ("reproduce", "fig1", "--scale", "laptop", "--launcher", "slurm", "--partition", "p")
    result = ofe(*words)
    assert result.exit_code == 3, result.stderr
    assert "job 12" in result.stdout
    assert json.loads(ofe("status", "--json").stdout)[0]["state"] == "queued"
    assert "queued before" in ofe(*words).stdout
