"""One answer to what is trained, why, and at which cost."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reproduce.machine import Gpu, Machine
from reproduce.plan import Calibration, basis, makespan, misses, plan, price, side_by_side
from reproduce.plan.costs import micro_batch
from reproduce.plan.footprint import logits_bytes
from reproduce.plan.memory import EXAMPLES
from reproduce.specs.load import list_experiments, load_experiment
from reproduce.specs.resolve import resolve
from reproduce.specs.runs import Resolved, ResolvedRun
from reproduce.specs.schema import SCALES
from reproduce.store.runs import RunFolder, Store

MakeRun = Callable[..., ResolvedRun]
Figure = Callable[..., Resolved]

RUN_FIELDS = {
    "key": str,
    "slug": str,
    "kind": str,
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
    "download_bytes": int,
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
    "download_bytes": int,
}


def no_data(data: object) -> str:
    return ""


def test_a_run_that_figures_share_is_planned_once(
    make_run: MakeRun, figure: Figure, store: Store, calibration: Calibration, machine: Machine
) -> None:
    shared, own, needed = make_run("a"), make_run("b", 1), make_run("c", 2)
    planned = plan(
        [figure("fig2", shared, own), figure("fig7", make_run("a"), extra=(needed,))],
        store,
        machine,
        calibration=calibration,
    )
    assert [(run.run.name, run.figures) for run in planned.runs] == [
        ("a", ("fig2", "fig7")),
        ("b", ("fig2",)),
        ("c", ("fig7",)),
    ]
    total = planned.total
    assert (total.runs, total.misses, total.shared, total.uses) == (3, 3, 1, 4)


def test_what_is_trained_is_what_is_neither_there_nor_in_other_hands(
    make_run: MakeRun,
    figure: Figure,
    store: Store,
    sealed: Callable[..., RunFolder],
    stopped: Callable[..., RunFolder],
    machine: Machine,
) -> None:
    done, halfway, broken, busy, new = (make_run(seed=seed) for seed in range(5))
    sealed(done)
    stopped(halfway)
    stopped(broken, state="failed", error="no space is left")
    with stopped(busy, state="running").lock():
        planned = plan([figure("fig2", done, halfway, broken, busy, new)], store, machine)
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
    machine: Machine,
) -> None:
    done, halfway = make_run(seed=0), make_run(seed=1)
    sealed(done)
    stopped(halfway, step=5)
    planned = plan([figure("fig2", done, halfway)], store, machine, calibration=calibration)
    first, second = planned.runs
    assert first.seconds == second.seconds > 40  # 20 steps of 2 s, and the probes
    assert (first.remaining_seconds, second.remaining_seconds) == (0, 0.75 * second.seconds)
    assert planned.total.seconds == second.remaining_seconds
    assert planned.total.flops == 0.75 * second.flops
    assert planned.total.tokens == 0.75 * second.tokens


def test_everything_sealed_leaves_nothing_to_do(
    make_run: MakeRun, figure: Figure, store: Store, sealed: Callable[..., RunFolder], machine: Machine
) -> None:
    sealed(make_run())
    planned = plan([figure("fig2", make_run())], store, machine)
    assert planned.complete
    assert misses(planned) == []
    total = planned.total
    assert (total.seconds, total.flops, total.memory_bytes, total.disk_bytes) == (0, 0, 0, 0)


def test_a_figure_without_runs_has_a_plan(figure: Figure, store: Store, machine: Machine) -> None:
    planned = plan([figure("fig2")], store, machine)
    assert planned.complete
    assert planned.total.seconds == 0


def test_the_json_shape_is_frozen(make_run: MakeRun, figure: Figure, store: Store, machine: Machine) -> None:
    content = plan([figure("fig2", make_run())], store, machine, jobs=2).as_json()
    assert list(content) == ["scale", "figures", "jobs", "threads", "device", "runs", "total", "devices", "memory"]
    assert (content["scale"], content["figures"], content["jobs"], content["device"]) == ("smoke", ["fig2"], 2, "cpu")
    assert {name: type(value) for name, value in content["runs"][0].items()} == RUN_FIELDS
    assert {name: type(value) for name, value in content["total"].items()} == TOTAL_FIELDS


def test_planning_writes_nothing(make_run: MakeRun, figure: Figure, store: Store, home: Path, machine: Machine) -> None:
    plan([figure("fig2", make_run())], store, machine)
    assert not home.exists()


@pytest.mark.parametrize("scale", SCALES)
def test_every_shipped_figure_has_finite_costs(scale: str, store: Store, machine: Machine) -> None:
    resolveds = [resolve(experiment, scale, fingerprint=no_data) for experiment in list_experiments()]
    planned = plan(resolveds, store, machine, jobs=2)
    assert planned.total.shared > 0
    assert planned.total.uses > planned.total.runs
    assert len({run.run.key for run in planned.runs}) == len(planned.runs)
    for run in planned.runs:
        costs = (run.params, run.tokens, run.flops, run.seconds, run.footprint.memory, run.footprint.trace)
        assert all(math.isfinite(cost) and cost > 0 for cost in costs), run.run.slug
        assert run.basis == "not calibrated"


def test_a_figure_is_priced_at_every_scale_and_scales_rise(store: Store, machine: Machine) -> None:
    rows = price(load_experiment("fig7"), store, machine)
    assert [row.scale for row in rows] == list(SCALES)
    seconds = [row.total.seconds for row in rows]
    assert seconds == sorted(seconds)
    assert all(row.because[0] and row.basis == "not calibrated" for row in rows)
    assert rows[0].as_json().keys() == TOTAL_FIELDS.keys() | {"scale", "seconds_basis", "because"}


def test_runs_side_by_side_share_the_wall_time(
    make_run: MakeRun, figure: Figure, store: Store, machine: Machine
) -> None:
    assert makespan([3, 2, 2, 1], 1) == 8
    assert makespan([3, 2, 2, 1], 2) == 4
    assert makespan([3, 2, 2, 1], 9) == 3
    assert makespan([3, 2, 2, 1], 10**30) == 3
    assert makespan([], 2) == 0
    runs = [make_run(seed=seed) for seed in range(4)]
    one, two = (plan([figure("fig2", *runs)], store, machine, jobs=jobs).total for jobs in (1, 2))
    assert two.memory_bytes == 2 * one.memory_bytes
    assert one.disk_bytes < two.disk_bytes < 2 * one.disk_bytes


def with_gpus(machine: Machine, *memories: int) -> Machine:
    """The same with an accelerator for each of `memories`."""
    return replace(machine, gpus=tuple(Gpu("an accelerator", memory) for memory in memories))


def test_an_accelerator_takes_one_run_at_a_time(machine: Machine) -> None:
    assert side_by_side(machine, 4) == 4
    assert side_by_side(with_gpus(machine, 10**11), 4) == 1
    assert side_by_side(replace(with_gpus(machine, 10**11), asked_device="cpu"), 4) == 4
    eight = with_gpus(machine, *[10**11] * 8)
    assert [side_by_side(eight, 16, devices) for devices in (1, 3, 8)] == [8, 2, 1]


def test_runs_share_an_accelerator_where_that_is_asked_for(
    make_run: MakeRun, figure: Figure, store: Store, machine: Machine
) -> None:
    """Their time is that of one after the other, and their memory that of all."""
    runs = [make_run(seed=seed) for seed in range(4)]
    one, four = (plan([figure("fig2", *runs)], store, with_gpus(machine, 10**11), jobs=jobs).total for jobs in (1, 4))
    assert four.seconds == one.seconds
    assert four.memory_bytes == 4 * one.memory_bytes


def test_a_micro_batch_bounds_the_memory(
    make_run: MakeRun, figure: Figure, store: Store, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    run = make_run(batch_size=64)
    whole = plan([figure("fig2", run)], store, machine).runs[0].footprint.activations
    monkeypatch.setenv("OFE_MICRO_BATCH", "16")
    assert plan([figure("fig2", run)], store, machine).runs[0].footprint.activations == whole / 4


def test_an_accelerator_takes_what_fits(make_run: MakeRun, figure: Figure, store: Store, machine: Machine) -> None:
    run = make_run(batch_size=64, model={"width": 512}, data={"seq_len": 512})
    whole = plan([figure("fig2", run)], store, machine).runs[0].footprint
    small = with_gpus(machine, round(0.7 * whole.memory))
    fitting = plan([figure("fig2", run)], store, small).runs[0].footprint
    logits = logits_bytes(run.config, 64)  # of one chunk, whatever the number of examples
    there = logits_bytes(run.config, 16, "cuda")  # where a chunk holds them all
    assert fitting.activations - there == (whole.activations - logits) / 4


def test_a_plan_is_for_the_machine_it_is_given(store: Store, machine: Machine) -> None:
    """Figure 2 at the paper's scale on eight accelerators of 80 GB, planned where there is none."""
    cluster = replace(with_gpus(machine, *[80 * 10**9] * 8), cores=64)
    figure = load_experiment("fig2")
    here, there = (
        plan([resolve(figure, "paper", fingerprint=no_data, machine=on)], store, on, jobs=8)
        for on in (machine, cluster)
    )
    assert (here.device, there.device) == ("cpu", "cuda")
    assert (here.threads, there.threads) == (1, 8)
    assert [run.run.slug for run in here.runs] == [run.run.slug for run in there.runs]
    assert there.abreast == 8
    assert {entry.memory for entry in there.memory} == {80 * 10**9}
    assert {entry.memory for entry in here.memory} == set(EXAMPLES)
    assert there.as_json()["device"] == "cuda"
    assert there.total.seconds < here.total.seconds / 10
    assert there.total.seconds == makespan([run.seconds for run in there.runs], 8)

    large = load_experiment("v2-fig8")  # batches of 4,096 sequences
    (one, *_), (other, *_) = (
        plan([resolve(large, "paper", fingerprint=no_data, machine=on)], store, on).runs for on in (machine, cluster)
    )
    assert one.run.config.batch_size == 4096
    assert micro_batch(one.run.config, machine) == 4096
    assert 1 <= micro_batch(other.run.config, cluster) < 4096
    assert other.footprint.memory < 80 * 10**9 < one.footprint.memory


def test_auto_is_the_precision_of_the_machine_planned_for(machine: Machine) -> None:
    old = replace(machine, bf16=False)
    precisions = [
        resolve(load_experiment("fig2"), "paper", fingerprint=no_data, machine=on).runs[0].config.precision
        for on in (machine, old, with_gpus(old, 10**10))
    ]
    assert precisions == ["bf16", "fp32", "bf16"]


def test_a_machine_is_measured_only_when_asked_and_needed(
    make_run: MakeRun,
    figure: Figure,
    store: Store,
    sealed: Callable[..., RunFolder],
    calibration: Calibration,
    monkeypatch: pytest.MonkeyPatch,
    machine: Machine,
) -> None:
    from reproduce.plan import planner
    from reproduce.plan.calibration import threads_per_run

    asked: list[set[str]] = []

    def calibrate(on: Machine, precisions: set[str], threads: int, *, report: object) -> Calibration:
        assert on is machine
        asked.append(precisions)
        return calibration

    monkeypatch.setattr(planner, "calibrate", calibrate)
    new = figure("fig2", make_run())
    assert plan([new], store, machine).runs[0].basis == "not calibrated"
    assert asked == []
    assert plan([new], store, machine, measure=True, jobs=10**6).runs[0].basis == "calibrated"
    assert asked == [{"fp32"}]

    facts = {"seconds": 10.0, "trained_steps": 20, "threads": threads_per_run(machine, 1), "device": machine.cpu}
    sealed(make_run(seed=1), **facts)
    known = plan([new], store, machine, measure=True)
    assert asked[1:] == [set()]
    assert (known.runs[0].basis, basis(known)) == ("measured on this machine", "measured on this machine")
    assert known.runs[0].seconds == 10.0  # the calibration starts a process at once
    done = plan([figure("fig2", make_run(seed=1))], store, machine, measure=True)
    assert basis(done) is None
    assert asked[2:] == [set()]


def test_planning_all_loads_no_heavy_library(machine: Machine) -> None:
    code = (
        "import sys; from pathlib import Path; from reproduce.plan import *;"
        "from reproduce.specs.load import list_experiments; from reproduce.specs.resolve import resolve;"
        "from reproduce.store.runs import Store; from reproduce.machine import this_machine;"
        "all_of_them = [resolve(e, 'laptop', fingerprint=lambda d: '') for e in list_experiments()];"
        "plan(all_of_them, Store(Path('none')), this_machine());"
        "loaded = {'torch', 'pandas', 'matplotlib', 'datasets', 'sklearn'} & set(sys.modules);"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
