"""Small runs and their traces."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reproduce.config import RunConfig
from reproduce.specs.runs import ResolvedRun
from reproduce.store.layout import CHECKPOINT
from reproduce.store.runs import RunFolder, Store
from reproduce.store.seal import seal
from reproduce.store.trace import TraceWriter

MakeRun = Callable[..., ResolvedRun]
Train = Callable[[Path], None]

PROVENANCE: dict[str, Any] = {"failed": False, "failed_step": None, "substitute": True, "host": "somewhere"}


@pytest.fixture
def make_run() -> MakeRun:
    """A run of a tiny transformer; keyword arguments change its name, seed, precision or data fingerprint."""

    def make(
        name: str = "cp-op", seed: int = 0, precision: str = "fp32", fingerprint: str = "abc", path: str | None = None
    ) -> ResolvedRun:
        config = RunConfig.model_validate(
            {
                "model": {"kind": "transformer", "layers": 2, "width": 8, "heads": 2},
                "data": {
                    "kind": "text",
                    "source": "python-stdlib",
                    "seq_len": 16,
                    "vocab_size": 300,
                    "fingerprint": fingerprint,
                    "path": path,
                },
                "optimizer": {"lr": 1e-3},
                "steps": 20,
                "batch_size": 2,
                "precision": precision,
                "seed": seed,
                "probe": {"every": 10, "batch_size": 2},
                "eval": {"every": 10, "batches": 1},
            }
        )
        return ResolvedRun(name, f"label of {name}", "codeparrot-130m", "smoke", seed, config, paper_data=False)

    return make


@pytest.fixture
def train() -> Train:
    """Write what a training of 20 steps leaves in its folder, a checkpoint included."""

    def write(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with TraceWriter(folder) as trace:
            for step in range(0, 21, 10):
                kurtosis = {"unembed": 4.0 + step, "2": math.inf, "1": 1.0 + step / 3}
                trace.record(step, "probe", {"kurtosis": kurtosis, "attention_entropy": {"1": 0.5, "2": 0.25}})
                trace.record(step, "eval", {"loss": 5.5 - step / 10})
                for layer in ("1", "2", "unembed"):
                    trace.moments(step, layer, [0.1 * step, math.nan, 3.0])
                trace.record(step, "train", {"loss": 6.1 - step / 7, "grad_norm": math.nan, "lr": 1e-3})
        (folder / CHECKPOINT).write_bytes(b"state")
        RunFolder(folder).write_progress({"state": "running", "step": 20, "steps": 20, "pid": 1, "host": "here"})

    return write


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def make_sealed(store: Store, train: Train) -> Callable[..., RunFolder]:
    """Train and seal a run in the store."""

    def make(run: ResolvedRun, **provenance: object) -> RunFolder:
        folder = store.create(run)
        train(folder.path)
        seal(folder.path, PROVENANCE | provenance)
        return folder

    return make
