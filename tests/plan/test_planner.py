"""One answer to what is trained, why, and at which cost."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reproduce.machine import Gpu, Machine, machine
from reproduce.plan import Calibration, basis, makespan, misses, plan, price, side_by_side
from reproduce.specs.load import list_experiments, load_experiment
from reproduce.specs.resolve import Resolved, ResolvedRun, resolve
from reproduce.specs.schema import SCALES
from reproduce.store.runs import RunFolder, Store

MakeRun = Callable[..., ResolvedRun]
Figure = Callable[..., Resolved]

RUN_FIELDS = {
    "key": str,
    "slug": str,
    "name": str,
    "seed": int,
    "state": str,
    "reason": str,
    "figures": list,
    "params": int,
    "tokens": int,
    "flops": float,
    "seconds": float,
    "seconds_basis": str,
    "remaining_seconds": float,
    "memory_bytes": int,
    "disk_bytes": int,
}
TOTAL_FIELDS = {
    "runs": int,
    "hits": int,
    "misses": int,
    "running": int,
    "shared": int,
    "uses": int,
    "tokens": int,
    "flops": float,
    "seconds": float,
    "memory_bytes": int,
    "disk_bytes": int,
}


def no_data(data: object) -> str:
    return ""


def test_a_run_that_figures_share_is_planned_once(
    make_run: MakeRun, figure: Figure, store: Store, calibration: Calibration
) -> None:
    shared, own, needed = make_run("a"), make_run("b", 1), make_run("c", 2)
    planned = plan(
        [figure("fig2", shared, own), figure("fig7", make_run("a"), extra=(needed,))], store, calibration=calibration
    )
    assert [(run.run.name, run.figures) for run in planned.runs] == [
        ("a", ("fig2", "fig7")),
        ("b", ("fig2",)),
        ("c", ("fig7",)),
    ]
    total = planned.total
    assert (total.runs, total.misses, total.shared, total.uses) == (3, 3, 1, 4)


def test_what_is_trained_is_what_is_neither_there_nor_in_other_hands(
    make_run: MakeRun, figure: Figure, store: Store, sealed: Callable[..., RunFolder], stopped: Callable[..., RunFolder]
) -> None:
    done, halfway, broken, busy, new = (make_run(seed=seed) for seed in range(5))
    sealed(done)
    stopped(halfway)
    stopped(broken, state="failed", error="no space is left")
    with stopped(busy, state="running").lock():
        planned = plan([figure("fig2", done, halfway, broken, busy, new)], store)
    assert [run.state for run in planned.runs] == ["sealed", "resumable", "failed", "running", "missing"]
    assert misses(planned) == [halfway, broken, new]
    assert (planned.total.hits, planned.total.misses, planned.total.running) == (1, 3, 1)
    assert not planned.complete


def test_only_what_remains_is_paid_for(
    make_run: MakeRun,
    figure: Figure,
    store: Store,
    sealed: Callable[..., RunFolder],
    stopped: Callable[..., RunFolder],
    calibration: Calibration,
) -> None:
    done, halfway = make_run(seed=0), make_run(seed=1)
    sealed(done)
    stopped(halfway, step=5)
    planned = plan([figure("fig2", done, halfway)], store, calibration=calibration)
    first, second = planned.runs
    assert first.seconds == second.seconds > 40  # 20 steps of 2 s, and the probes
    assert (first.remaining_seconds, second.remaining_seconds) == (0, 0.75 * second.seconds)
    assert planned.total.seconds == second.remaining_seconds
    assert planned.total.flops == 0.75 * second.flops
    assert planned.total.tokens == 0.75 * second.tokens


def test_everything_sealed_leaves_nothing_to_do(
    make_run: MakeRun, figure: Figure, store: Store, sealed: Callable[..., RunFolder]
) -> None:
    sealed(make_run())
    planned = plan([figure("fig2", make_run())], store)
    assert planned.complete
    assert misses(planned) == []
    total = planned.total
    assert (total.seconds, total.flops, total.memory_bytes, total.disk_bytes) == (0, 0, 0, 0)


def test_a_figure_without_runs_has_a_plan(figure: Figure, store: Store) -> None:
    planned = plan([figure("fig2")], store)
    assert planned.complete
    assert planned.total.seconds == 0


def test_the_json_shape_is_frozen(make_run: MakeRun, figure: Figure, store: Store) -> None:
    content = plan([figure("fig2", make_run())], store, jobs=2).as_json()
    assert list(content) == ["scale", "figures", "jobs", "threads", "device", "runs", "total", "devices", "memory"]
    assert (content["scale"], content["figures"], content["jobs"], content["device"]) == ("smoke", ["fig2"], 2, "cpu")
    assert {name: type(value) for name, value in content["runs"][0].items()} == RUN_FIELDS
    assert {name: type(value) for name, value in content["total"].items()} == TOTAL_FIELDS


def test_planning_writes_nothing(make_run: MakeRun, figure: Figure, store: Store, home: Path) -> None:
    plan([figure("fig2", make_run())], store)
    assert not home.exists()


@pytest.mark.parametrize("scale", SCALES)
def test_every_shipped_figure_has_finite_costs(scale: str, store: Store) -> None:
    resolveds = [resolve(experiment, scale, fingerprint=no_data) for experiment in list_experiments()]
    planned = plan(resolveds, store, jobs=2)
    assert planned.total.shared > 0
    assert planned.total.uses > planned.total.runs
    assert len({run.run.key for run in planned.runs}) == len(planned.runs)
    for run in planned.runs:
        costs = (run.params, run.tokens, run.flops, run.seconds, run.footprint.memory, run.footprint.trace)
        assert all(math.isfinite(cost) and cost > 0 for cost in costs), run.run.slug
        assert run.basis == "not calibrated"


def test_a_figure_is_priced_at_every_scale_and_scales_rise(store: Store) -> None:
    rows = price(load_experiment("fig7"), store)
    assert [row.scale for row in rows] == list(SCALES)
    seconds = [row.total.seconds for row in rows]
    assert seconds == sorted(seconds)
    assert all(row.because[0] and row.basis == "not calibrated" for row in rows)
    assert rows[0].as_json().keys() == TOTAL_FIELDS.keys() | {"scale", "seconds_basis", "because"}


def test_runs_side_by_side_share_the_wall_time(make_run: MakeRun, figure: Figure, store: Store) -> None:
    assert makespan([3, 2, 2, 1], 1) == 8
    assert makespan([3, 2, 2, 1], 2) == 4
    assert makespan([3, 2, 2, 1], 9) == 3
    assert makespan([], 2) == 0
    runs = [make_run(seed=seed) for seed in range(4)]
    one, two = (plan([figure("fig2", *runs)], store, jobs=jobs).total for jobs in (1, 2))
    assert two.memory_bytes == 2 * one.memory_bytes
    assert one.disk_bytes < two.disk_bytes < 2 * one.disk_bytes


def test_an_accelerator_takes_one_run_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from reproduce.plan import calibration, planner

    here = Machine("cpu", 8, 10**10, True, (Gpu("H200", 10**11),), "3.11", "Linux")
    for module in (calibration, planner):
        monkeypatch.setattr(module, "machine", lambda: here)
    assert side_by_side(4) == 4  # OFE_DEVICE is cpu
    monkeypatch.delenv("OFE_DEVICE")
    assert side_by_side(4) == 1


def test_a_micro_batch_bounds_the_memory(
    make_run: MakeRun, figure: Figure, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(batch_size=64)
    whole = plan([figure("fig2", run)], store).runs[0].footprint.activations
    monkeypatch.setenv("OFE_MICRO_BATCH", "16")
    assert plan([figure("fig2", run)], store).runs[0].footprint.activations == whole / 4


def test_an_accelerator_takes_what_fits(
    make_run: MakeRun, figure: Figure, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reproduce.plan import calibration, memory, planner

    run = make_run(batch_size=64, model={"width": 512}, data={"seq_len": 512})
    whole = plan([figure("fig2", run)], store).runs[0].footprint
    here = Machine("cpu", 8, 10**10, True, (Gpu("small", round(0.7 * whole.memory)),), "3.11", "Linux")
    for module in (calibration, planner, memory):
        monkeypatch.setattr(module, "machine", lambda: here)
    monkeypatch.setenv("OFE_DEVICE", "cuda")
    assert plan([figure("fig2", run)], store).runs[0].footprint.activations == whole.activations / 2


def test_a_machine_is_measured_only_when_asked_and_needed(
    make_run: MakeRun,
    figure: Figure,
    store: Store,
    sealed: Callable[..., RunFolder],
    calibration: Calibration,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from reproduce.plan import planner
    from reproduce.plan.calibration import threads_per_run

    asked: list[set[str]] = []

    def calibrate(precisions: set[str], threads: int, *, report: object) -> Calibration:
        asked.append(precisions)
        return calibration

    monkeypatch.setattr(planner, "calibrate", calibrate)
    new = figure("fig2", make_run())
    assert plan([new], store).runs[0].basis == "not calibrated"
    assert asked == []
    assert plan([new], store, measure=True, jobs=10**6).runs[0].basis == "calibrated"
    assert asked == [{"fp32"}]

    facts = {"seconds": 10.0, "trained_steps": 20, "threads": threads_per_run(1), "device": machine().cpu}
    sealed(make_run(seed=1), **facts)
    known = plan([new], store, measure=True)
    assert asked[1:] == [set()]
    assert (known.runs[0].basis, basis(known)) == ("measured on this machine", "measured on this machine")
    assert known.runs[0].seconds == 10.0  # the calibration starts a process at once
    done = plan([figure("fig2", make_run(seed=1))], store, measure=True)
    assert basis(done) is None
    assert asked[2:] == [set()]


def test_planning_all_loads_no_heavy_library() -> None:
    code = (
        "import sys; from pathlib import Path; from reproduce.plan import *;"
        "from reproduce.specs.load import list_experiments; from reproduce.specs.resolve import resolve;"
        "from reproduce.store.runs import Store;"
        "plan([resolve(e, 'laptop', fingerprint=lambda d: '') for e in list_experiments()], Store(Path('none')));"
        "loaded = {'torch', 'pandas', 'matplotlib', 'datasets', 'sklearn'} & set(sys.modules);"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
