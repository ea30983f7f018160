"""The speed of this machine: how it is read, kept, and turned into time."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reproduce.machine import Machine
from reproduce.models.size import preconditioner_flops, step_flops
from reproduce.plan import calibration
from reproduce.plan.calibration import Calibration, Rate, calibrate, guess, load
from reproduce.specs.runs import ResolvedRun

MakeRun = Callable[..., ResolvedRun]

RATE = Rate(((1e8, 0.01), (1e10, 0.1)), 1e9, 2.0)
MEASURED = {"steps": [[1e8, 0.01], [1e10, 0.1]], "preconditioner_flop_per_s": 1e9, "startup_s": 2.0}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Replaces the timing; the list holds what was timed."""
    calls: list[tuple[str, str, int]] = []

    def measure(*what: Any) -> dict[str, Any]:
        calls.append(what)
        return MEASURED

    monkeypatch.setattr(calibration, "_measure", measure)
    return calls


def test_step_time_is_a_power_law_between_timed_steps() -> None:
    assert RATE.step_seconds(1e8) == 0.01
    assert RATE.step_seconds(1e9) == pytest.approx(10**-1.5)
    assert RATE.step_seconds(1e10) == pytest.approx(0.1)


def test_step_time_beyond_the_timed_steps() -> None:
    assert RATE.step_seconds(1.0) == 0.01  # all overhead
    assert RATE.step_seconds(1e12) == pytest.approx(10.0)  # no faster than the largest


def test_a_run_pays_for_steps_probes_evaluations_and_preconditioning(make_run: MakeRun) -> None:
    flat = Rate(((1e30, 1.0),), 1e9, 2.0)
    config = make_run().config
    # Probes at 0, 1, 2, 4, 8, 10, 20 of 2 sequences and evaluations at 0, 10, 20 of 2: forward only, a third of a step.
    assert flat.run_seconds(config) == pytest.approx(20 + (7 * 2 + 3 * 2) / (3 * 2))
    soap = make_run(optimizer={"name": "soap"}).config
    assert flat.run_seconds(soap) - flat.run_seconds(config) == pytest.approx(20 * preconditioner_flops(soap) / 1e9)
    updates = make_run(probe={"moment_updates_layer": 2}).config
    # Two sequences a step through the first of two blocks.
    assert flat.run_seconds(updates) - flat.run_seconds(config) == pytest.approx(20 * 2 / 2 / (3 * 2))


def test_what_was_measured_is_kept_and_not_measured_again(measured: list[Any], home: Path, machine: Machine) -> None:
    lines: list[str] = []
    first = calibrate(machine, ["fp32", "fp32"], 2, report=lines.append)
    assert first.rates == {"cpu/fp32/2": RATE}
    assert load(machine) == first
    assert calibrate(machine, ["fp32"], 2, report=lines.append) == first
    assert measured == [("cpu", "fp32", 2)]
    assert lines == ["timing training steps in fp32"]
    calibrate(machine, ["fp32"], 2, again=True)
    calibrate(machine, ["bf16"], 2)
    assert measured[1:] == [("cpu", "fp32", 2), ("cpu", "bf16", 2)]
    assert load(machine).rates.keys() == {"cpu/fp32/2", "cpu/bf16/2"}
    content = json.loads((home / "calibration.json").read_text())
    assert content["schema"] == 1
    assert [entry.keys() for entry in content["machines"].values()] == [{"cpu", "gpus", "torch", "rates"}]


def test_another_machine_or_torch_is_measured_anew(
    measured: list[Any], monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    calibrate(machine, ["fp32"])
    monkeypatch.setattr(calibration, "version", lambda package: "99.0")
    assert load(machine).rates == {}
    calibrate(machine, ["fp32"])
    assert len(measured) == 2


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"schema": 1}', '{"schema": 2, "machines": {}}', '{"schema": 1, "machines": []}', "\udcff"],
)
def test_a_damaged_file_counts_as_not_measured(content: str, home: Path, measured: list[Any], machine: Machine) -> None:
    home.mkdir()
    (home / "calibration.json").write_bytes(content.encode(errors="surrogateescape"))
    assert load(machine).rates == {}
    assert calibrate(machine, ["fp32"]).rates == {"cpu/fp32/1": RATE}
    assert load(machine).rates == {"cpu/fp32/1": RATE}


@pytest.mark.parametrize("change", [{"steps": []}, {"steps": [[1e8, 0]]}, {"steps": "x"}, {"startup_s": None}])
def test_a_damaged_rate_counts_as_not_measured(
    change: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    monkeypatch.setattr(calibration, "_measure", lambda *what: MEASURED | change)
    calibrate(machine, ["fp32"])
    assert load(machine).rates == {}


def test_a_home_that_cannot_be_written_keeps_the_result_for_now(
    home: Path, measured: list[Any], machine: Machine
) -> None:
    home.write_text("a file")
    lines: list[str] = []
    assert calibrate(machine, ["fp32"], report=lines.append).rates == {"cpu/fp32/1": RATE}
    assert "not kept" in lines[-1]


def test_a_timing_that_fails_is_said_and_not_raised(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nImportError: no torch here\n")

    monkeypatch.setattr(subprocess, "run", run)
    lines: list[str] = []
    assert calibrate(machine, ["bf16"], report=lines.append).rates == {}
    assert lines[-1] == "bf16 could not be timed: ImportError: no torch here"


def test_fewer_threads_stand_in_for_more_and_never_the_reverse() -> None:
    known = Calibration({"cpu/fp32/2": RATE})
    assert known.rate("cpu", "fp32", 2) == known.rate("cpu", "fp32", 8) == (RATE, "calibrated")
    assert known.rate("cpu", "fp32", 1) == (guess("cpu", "fp32", 1), "not calibrated")
    assert known.rate("cpu", "bf16", 2)[1] == "not calibrated"


def test_one_real_measurement(make_run: MakeRun) -> None:
    from reproduce.plan.calibrate import LADDER, measure, sample

    found = measure("cpu", "fp32", 0.0)  # no time: the two smallest rungs alone
    assert [flops for flops, _ in found["steps"]] == [step_flops(sample(size, "fp32")) for size in LADDER[:2]]
    assert 0 < found["steps"][0][1] < found["steps"][1][1] < 60
    assert 1e6 < found["preconditioner_flop_per_s"] < 1e15
    ladder = [step_flops(sample(size, "bf16")) for size in LADDER]
    assert ladder == sorted(ladder)
