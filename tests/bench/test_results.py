from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from reproduce.bench import results
from reproduce.bench.measure import Bench, one_run
from reproduce.bench.results import chosen, measure, measure_all
from reproduce.bench.rows import JOBS
from reproduce.errors import OfeError
from reproduce.machine import Machine
from tests.runs import create, tiny_run, write_text_folder


@pytest.fixture
def machine() -> Machine:
    """A machine without an accelerator."""
    return Machine("a processor", 2, 8 * 10**9, False, (), "Linux")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the measuring process says. Its standard output and exit code can be changed."""
    said: dict[str, Any] = {"stdout": json.dumps({"soap": 1.5, "adafactor-rotated": 1.7}), "stderr": "", "code": 0}

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        said["command"] = command
        return subprocess.CompletedProcess(command, said["code"], said["stdout"], said["stderr"])

    monkeypatch.setattr(results.subprocess, "run", run)
    return said


def job(name: str) -> Any:
    return next(job for job in JOBS if job.name == name)


def test_without_names_the_quick_jobs_of_the_device_are_chosen() -> None:
    assert "laptop" in [job.name for job in chosen([], "cpu")]
    assert not any(job.long or job.device == "cuda" for job in chosen([], "cpu"))
    assert all(job.device == "cuda" for job in chosen([], "cuda"))


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(OfeError, match="no benchmark 'lapdog'") as told:
        chosen(["lapdog"], "cpu")
    assert "laptop" in str(told.value.hint)


def test_results_are_kept_with_the_machine(
    answers: dict[str, Any], machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFE_HOME", str(tmp_path))
    measured = measure_all([job("optimizers")], machine, "fp32", lambda line: None)
    assert [(result.ratio, result.as_json()["met"]) for result in measured] == [(1.5, True), (1.7, False)]
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert kept["cpu"] == machine.cpu
    assert [row["measured"] for row in kept["rows"]] == [1.5, 1.7]


def test_what_cannot_be_measured_says_why(answers: dict[str, Any], machine: Machine) -> None:
    (first, *_) = measure(job("130m-cuda"), machine, "fp32")
    assert (first.ratio, first.why) == (None, "no CUDA device is at hand")
    assert "command" not in answers
    answers |= {"code": 1, "stderr": "Traceback\nRuntimeError: the training diverged\n"}
    (first, _) = measure(job("optimizers"), machine, "fp32")
    assert (first.ratio, first.why) == (None, "RuntimeError: the training diverged")
    assert first.as_json()["met"] is None


def test_the_time_in_steps_is_told_of_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "home"))
    folder = create(tmp_path / "home", tiny_run(write_text_folder(tmp_path / "text")))
    begin = time.perf_counter()
    in_steps = one_run(folder.path)["in_steps"]
    assert folder.sealed
    assert 0 < in_steps < folder.provenance()["seconds"] < time.perf_counter() - begin


@pytest.mark.slow
def test_a_sweep_is_compared_with_its_runs_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(torch.device("cpu"), "fp32", tmp_path)
    assert bench._at_once(2, 1, steps=2) > 0  # processes that really train
    seconds = {1: 3.0, 8: 6.0}
    monkeypatch.setattr(bench, "_at_once", lambda processes, count, steps: seconds[processes])
    assert bench.sweep(steps=2) == {"eight at once": 4.0}, "24 seconds one after the other, 6 at once"
