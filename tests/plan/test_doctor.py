"""The doctor has an answer for every home, however broken."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reproduce.machine import Machine
from reproduce.plan import doctor
from reproduce.plan.doctor import Check, examine
from reproduce.specs.runs import ResolvedRun
from reproduce.store.home import shared_folder
from reproduce.store.runs import RunFolder

MACHINE = Machine("a processor", 4, 16 * 10**9, True, (), "Linux")


def checks(**options: bool) -> dict[str, Check]:
    found = examine(MACHINE, **options)
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}


def test_a_fresh_home_is_ready(home: Path) -> None:
    found = checks()
    assert {name for name, check in found.items() if check.status == "fail"} == set()
    assert found["home"].detail == f"{home}, made when it is needed"
    assert found["specs"].detail.endswith("all valid")
    assert found["calibration"].status == "warn"
    assert found["data python-stdlib"].status == "ok"
    assert found["next"].hint == "`ofe plan fig2`, then `ofe reproduce fig2`"
    assert not home.exists()


def test_hints_name_a_figure_that_exists_and_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = shared_folder("experiments"), tmp_path / "specs"
    shutil.copytree(ours / "settings", theirs / "settings")
    for name in ("fig3", "fig7"):  # fig3 is a drawing
        shutil.copy(ours / f"{name}.yaml", theirs)
    monkeypatch.setenv("OFE_EXPERIMENTS", str(theirs))
    found = checks()
    assert found["calibration"].hint.startswith("`ofe plan fig7 --measure` takes it")
    assert found["next"].hint == "`ofe plan fig7`, then `ofe reproduce fig7`"

    (theirs / "fig7.yaml").unlink()
    found = checks()
    assert found["calibration"].hint.startswith("`ofe plan` with `--measure` takes it")
    assert found["next"].hint == "`ofe list` shows what is done and what is left"


def test_checks_are_json(home: Path) -> None:
    content = json.loads(json.dumps([check.as_json() for check in examine(MACHINE)]))
    assert all(check.keys() == {"name", "status", "detail", "hint"} for check in content)
    assert {check["status"] for check in content} <= {"ok", "warn", "fail"}


def test_a_home_that_is_a_file(home: Path) -> None:
    home.write_text("")
    found = checks()
    assert (found["home"].status, found["home"].hint) == ("fail", "set OFE_HOME to a folder of your own")
    assert found["next"].detail == "put home right first"


def test_a_home_below_a_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.write_text("")
    monkeypatch.setenv("OFE_HOME", str(home / "below"))
    assert checks()["home"].detail == f"{home} is a file, not a folder"


def test_a_home_that_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert checks()["home"].detail == f"no permission to write {home}"


def test_little_disk_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 10**8})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert checks()["disk"].status == "warn"


def test_unfinished_runs_come_next(
    make_run: Callable[..., ResolvedRun], stopped: Callable[..., RunFolder], sealed: Callable[..., RunFolder]
) -> None:
    sealed(make_run(seed=1))
    assert checks()["next"].hint == "`ofe list` shows what is done and what is left"
    stopped(make_run())
    found = checks()
    assert (found["runs"].status, found["runs"].detail) == ("warn", "1 sealed, 1 resumable")
    assert found["next"].hint == "`ofe reproduce` of their figure continues them"


def test_a_measurement_that_failed_is_started_again_as_it_was(
    make_run: Callable[..., ResolvedRun], stopped: Callable[..., RunFolder]
) -> None:
    folder = stopped(make_run())
    content = (folder.path / "run.yaml").read_text()
    (folder.path / "run.yaml").write_text(content + "kind: measure\n")
    assert checks()["next"].hint == "`ofe measure` as it was typed before continues them"


def test_damaged_files_in_the_home_are_told(
    home: Path, make_run: Callable[..., ResolvedRun], stopped: Callable[..., RunFolder]
) -> None:
    (stopped(make_run()).path / "progress.json").write_text("{")
    (home / "calibration.json").write_text("{")
    found = checks()
    assert (found["runs"].status, found["runs"].detail) == ("warn", "1 resumable")  # it needs the checkpoint alone
    assert "says nothing of this machine" in found["calibration"].detail


def test_a_bad_spec_is_told_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "specs" / "settings").mkdir(parents=True)
    (tmp_path / "specs" / "fig2.yaml").write_text("id: fig2\nnonsense: 1\n")
    monkeypatch.setenv("OFE_EXPERIMENTS", str(tmp_path / "specs"))
    found = checks()
    assert found["specs"].status == "fail"
    assert "fig2.yaml:" in found["specs"].detail
    assert found["calibration"].status == "warn"


def test_a_missing_and_an_old_package(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "seaborn":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.13.1+cpu" if name == "torch" else real(name)

    monkeypatch.setattr(doctor, "version", version)
    packages = checks()["packages"]
    assert packages.status == "fail"
    assert packages.detail == "torch 1.13.1+cpu is older than 2.6; seaborn is missing"


def test_torch_is_asked_only_when_wanted_and_never_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        facts = {"version": "2.9", "cuda": False, "threads": 2, "devices": [], "bf16": None}
        return subprocess.CompletedProcess(command, 0, json.dumps(facts), "")

    monkeypatch.setattr(subprocess, "run", run)
    assert "torch" not in checks()
    assert asked == []
    assert checks(deep=True)["torch"].detail == "2.9, no CUDA device, 2 threads"


def test_a_torch_that_does_not_load_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_TORCH_FACTS", "raise OSError('libcudart is missing')")
    torch = checks(deep=True)["torch"]
    assert torch.status == "fail"
    assert "libcudart is missing" in torch.detail


def test_what_torch_is_asked_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert next(doctor._torch(MACHINE)).detail.startswith(torch.__version__)


def test_the_doctor_loads_no_heavy_library() -> None:
    code = (
        "import sys; from reproduce.plan import examine; from reproduce.machine import this_machine;"
        "examine(this_machine());"
        "loaded = {'torch', 'pandas', 'matplotlib', 'datasets', 'sklearn'} & set(sys.modules);"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
