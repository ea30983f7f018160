"""A home of its own, small runs in it, and a machine whose speed is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reproduce.config import RunConfig
from reproduce.machine import Machine
from reproduce.plan.calibration import Calibration, Rate
from reproduce.specs.load import load_experiment
from reproduce.specs.runs import Resolved, ResolvedRun
from reproduce.store.layout import CHECKPOINT
from reproduce.store.runs import RunFolder, Store
from reproduce.store.seal import seal
from reproduce.store.trace import TraceWriter

MakeRun = Callable[..., ResolvedRun]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """OFE_HOME, not yet made; nothing of the real machine's settings shines through."""
    for name in ("OFE_EXPERIMENTS", "OFE_MICRO_BATCH", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home)


@pytest.fixture
def machine() -> Machine:
    """A machine without accelerators, whatever this one has."""
    return Machine("a processor", 4, 16 * 10**9, True, (), "Linux")


@pytest.fixture
def calibration() -> Calibration:
    """Steps of that machine take 2 s, whatever they are, and a process starts at once."""
    return Calibration({"cpu/fp32/1": Rate(((1e30, 2.0),), 1e9, 0.0)})


@pytest.fixture
def make_run() -> MakeRun:
    """A run of 20 steps of a tiny transformer, with sections of its configuration changed."""

    def make(name: str = "cp-op", seed: int = 0, **changes: Any) -> ResolvedRun:
        tree: dict[str, Any] = {
            "model": {"kind": "transformer", "layers": 2, "width": 8, "heads": 2},
            "data": {
                "kind": "text",
                "source": "python-stdlib",
                "seq_len": 16,
                "vocab_size": 300,
                "fingerprint": "abc",
            },
            "optimizer": {"lr": 1e-3},
            "steps": 20,
            "batch_size": 2,
            "seed": seed,
            "probe": {"every": 10, "batch_size": 2},
            "eval": {"every": 10, "batches": 1},
        }
        for section, change in changes.items():
            tree[section] = tree[section] | change if isinstance(change, dict) else change
        config = RunConfig.model_validate(tree)
        return ResolvedRun(name, f"label of {name}", "codeparrot-130m", "smoke", seed, config, paper_data=False)

    return make


@pytest.fixture
def figure() -> Callable[..., Resolved]:
    """A figure of the given runs."""

    def make(name: str, *runs: ResolvedRun, extra: tuple[ResolvedRun, ...] = ()) -> Resolved:
        return Resolved(load_experiment(name), "smoke", runs, extra)

    return make


@pytest.fixture
def stopped(store: Store) -> Callable[..., RunFolder]:
    """Leave in the store what a training of `run` leaves that stopped at `step` with its state saved."""

    def make(run: ResolvedRun, step: int = 5, **progress: object) -> RunFolder:
        folder = store.create(run)
        with TraceWriter(folder.path) as trace:
            trace.record(0, "train", {"loss": 6.0})
            trace.moments(0, "1", [1.0])
        (folder.path / CHECKPOINT).write_bytes(b"state")
        folder.write_progress({"state": "interrupted", "step": step, "steps": 20, "pid": 1, "host": "here"} | progress)
        return folder

    return make


@pytest.fixture
def sealed(stopped: Callable[..., RunFolder]) -> Callable[..., RunFolder]:
    """Train and seal `run` in the store."""

    def make(run: ResolvedRun, **provenance: object) -> RunFolder:
        folder = stopped(run, 20)
        facts = {"failed": False, "failed_step": None, "substitute": True, "finished": "2026-03-04T05:06:07+00:00"}
        seal(folder.path, facts | provenance)
        return folder

    return make
