"""Closed forms of the schedules, at every corner."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reproduce.config import ScheduleConfig
from reproduce.optim.schedule import learning_rate

STEPS = 100
PEAK = 2e-3


def rates(**fields: object) -> list[float]:
    schedule = ScheduleConfig.model_validate(fields)
    return [learning_rate(schedule, step, STEPS, PEAK) for step in range(STEPS)]


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd", "constant"])
def test_warm_up_rises_linearly_from_zero_at_the_first_update_to_the_peak(kind: str) -> None:
    curve = rates(kind=kind, warmup_steps=20)
    assert curve[0] == 0.0
    assert curve[:21] == pytest.approx([PEAK * t / 20 for t in range(21)])


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd", "constant"])
def test_without_warm_up_the_first_update_has_the_peak_rate(kind: str) -> None:
    assert rates(kind=kind)[0] == pytest.approx(PEAK)


def test_linear() -> None:
    curve = rates(kind="linear", warmup_fraction=0.05)
    assert curve[5:] == pytest.approx([PEAK * (100 - t) / 95 for t in range(5, 100)])


def test_cosine() -> None:
    curve = rates(kind="cosine", warmup_steps=10)
    assert curve[10:] == pytest.approx([PEAK * 0.5 * (1 + math.cos(math.pi * (t - 10) / 90)) for t in range(10, 100)])
    assert curve[55] == pytest.approx(PEAK / 2)


def test_wsd_is_constant_until_the_last_part_then_linear() -> None:
    curve = rates(kind="wsd", warmup_fraction=0.05, decay_fraction=0.2)
    assert curve[5:81] == pytest.approx([PEAK] * 76)
    assert curve[80:] == pytest.approx([PEAK * (100 - t) / 20 for t in range(80, 100)])


def test_wsd_warm_up_that_reaches_into_the_decay_is_cut_by_it() -> None:
    curve = rates(kind="wsd", warmup_fraction=0.9, decay_fraction=0.5)
    assert curve == pytest.approx([PEAK * min(t / 90, (100 - t) / 50) for t in range(100)])


def test_constant() -> None:
    assert rates(kind="constant", warmup_steps=3)[3:] == [PEAK] * 97


def test_warm_up_may_last_the_whole_run() -> None:
    assert rates(kind="linear", warmup_fraction=1.0) == pytest.approx([PEAK * t / 100 for t in range(100)])


@pytest.mark.parametrize("step", [-1, STEPS])
def test_a_step_outside_the_run_is_a_defect(step: int) -> None:
    with pytest.raises(AssertionError):
        learning_rate(ScheduleConfig(), step, STEPS, PEAK)


@given(
    kind=st.sampled_from(["linear", "cosine", "wsd"]),
    steps=st.integers(1, 300),
    warmup=st.floats(0, 1),
    decay=st.floats(0.01, 1),
)
def test_every_rate_lies_between_zero_and_the_peak_and_the_curve_has_one_hump(
    kind: str, steps: int, warmup: float, decay: float
) -> None:
    fields = {"decay_fraction": decay} if kind == "wsd" else {}
    schedule = ScheduleConfig.model_validate({"kind": kind, "warmup_fraction": warmup} | fields)
    curve = [learning_rate(schedule, step, steps, PEAK) for step in range(steps)]
    assert all(0 <= rate <= PEAK * (1 + 1e-12) for rate in curve)
    top = curve.index(max(curve))
    assert curve[: top + 1] == sorted(curve[: top + 1])
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in zip(curve[top:], curve[top + 1 :], strict=False))


def test_needs_no_torch() -> None:
    code = "import sys, reproduce.optim.schedule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
