"""States in words, and times from runs alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from reproduce.machine import Machine
from reproduce.plan import history
from reproduce.plan.history import History
from reproduce.specs.runs import ResolvedRun
from reproduce.store.layout import CHECKPOINT, PROVENANCE
from reproduce.store.runs import RunFolder, Store

MakeRun = Callable[..., ResolvedRun]
Leave = Callable[..., RunFolder]


def reason(store: Store, machine: Machine, run: ResolvedRun) -> str:
    return History(store, machine, 1).state(run).reason


def test_a_sealed_run_says_when(make_run: MakeRun, store: Store, machine: Machine, sealed: Leave) -> None:
    sealed(make_run())
    assert reason(store, machine, make_run()) == "sealed on 2026-03-04"


def test_a_run_that_diverged_is_a_result(make_run: MakeRun, store: Store, machine: Machine, sealed: Leave) -> None:
    sealed(make_run(), failed=True, failed_step=7)
    assert History(store, machine, 1).state(make_run()).state == "sealed"
    assert reason(store, machine, make_run()) == "sealed on 2026-03-04, diverged at step 7"


def test_a_stopped_run_says_how_far_it_came(make_run: MakeRun, store: Store, machine: Machine, stopped: Leave) -> None:
    folder = stopped(make_run(), step=15)
    state = History(store, machine, 1).state(make_run())
    assert (state.state, state.remaining) == ("resumable", 0.25)
    assert "step 15 of 20" in state.reason
    (folder.path / CHECKPOINT).unlink()
    assert History(store, machine, 1).state(make_run()).remaining == 1


def test_a_failed_run_says_what_failed(make_run: MakeRun, store: Store, machine: Machine, stopped: Leave) -> None:
    stopped(make_run(), state="failed", error="no space is left")
    assert reason(store, machine, make_run()) == "no space is left"


def test_a_missing_run_says_what_is_there_instead(
    make_run: MakeRun, store: Store, machine: Machine, sealed: Leave
) -> None:
    assert reason(store, machine, make_run()) == "never trained here"
    store.create(make_run())
    assert reason(store, machine, make_run()) == "prepared here and never trained"
    sealed(make_run(data={"fingerprint": "old"}))
    sealed(make_run(seed=1, precision="bf16"))
    sealed(make_run(seed=2, optimizer={"lr": 5e-3}, steps=10))
    assert reason(store, machine, make_run(seed=9)) == "never trained here"
    assert reason(store, machine, make_run(data={"fingerprint": "new"})) == (
        "trained here on other data only (fingerprint old)"
    )
    assert reason(store, machine, make_run(seed=1)) == "trained here in bf16 only"
    assert (
        reason(store, machine, make_run(seed=2)) == "trained here with optimizer.lr 0.005, not 0.001, steps 10, not 20"
    )


def test_a_raised_numerics_version_is_the_reason(
    make_run: MakeRun, store: Store, machine: Machine, sealed: Leave, monkeypatch: pytest.MonkeyPatch
) -> None:
    from reproduce import keys

    sealed(make_run())
    monkeypatch.setitem(keys.NUMERICS_VERSION, "adamw", 2)
    assert reason(store, machine, make_run()) == "trained here with version 1 of adamw, not 2"


def test_a_shipped_trace_is_mentioned(
    make_run: MakeRun, store: Store, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_run().recipe
    monkeypatch.setattr(history, "find_reference", lambda wanted, scale: "a folder" if wanted == recipe else None)
    assert reason(store, machine, make_run()) == "never trained here; a reference trace of the recipe is at hand"


def test_a_damaged_folder_is_a_reason_and_not_the_end(
    make_run: MakeRun, store: Store, machine: Machine, sealed: Leave
) -> None:
    (sealed(make_run()).path / PROVENANCE).write_text("{")
    state = History(store, machine, 1).state(make_run())
    assert state.state == "failed"
    assert "provenance.json cannot be read" in state.reason


def test_runs_of_the_same_size_tell_the_time_of_a_step(
    make_run: MakeRun, store: Store, machine: Machine, sealed: Leave
) -> None:
    here = {"trained_steps": 20, "threads": 1, "device": machine.cpu}
    sealed(make_run(seed=1), seconds=10.0, **here)
    sealed(make_run(seed=2, optimizer={"lr": 1.0}), seconds=30.0, **here)
    sealed(make_run(seed=3), seconds=1e9, **here | {"threads": 4})
    sealed(make_run(seed=4), seconds=1e9, **here | {"device": "another"})
    past = History(store, machine, 1)
    assert past.step_seconds(make_run(steps=400)) == 1.0  # the median of 0.5 s and 1.5 s
    assert past.step_seconds(make_run(model={"width": 16})) is None
    assert past.step_seconds(make_run(optimizer={"name": "soap"})) is None
    assert past.step_seconds(make_run(batch_size=4)) is None
