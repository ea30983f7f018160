"""Runs on images through the real worker: what their trace holds, and that a killed one ends in the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from reproduce.config import RunConfig
from reproduce.data import fingerprint
from reproduce.jobs.worker import main
from reproduce.specs.runs import ResolvedRun
from reproduce.store.frame import metric_rows
from reproduce.store.runs import RunFolder
from reproduce.store.trace import read_live
from reproduce.training.tasks import build_task
from reproduce.training.train import Execution, Training
from tests.runs import create
from tests.training.kills import check_kills

MLP = {"kind": "mlp", "layers": 2, "width": 16, "norm": "srms"}
VIT = {
    **{"kind": "vit", "layers": 2, "width": 16, "heads": 2, "patch": 4, "drop_path": 0.2},
    "block": {"post_qk": "ln", "gains": "vector", "attn_gain": 0.1, "mlp_gain": 0.1},
}
VARIED = {"flip": True, "erase": 0.25, "mixup": 0.8, "cutmix": 1.0, "label_smoothing": 0.1}


def image_run(model: dict[str, Any] = MLP, data: dict[str, Any] | None = None, **changes: Any) -> ResolvedRun:
    tree: dict[str, Any] = {
        "model": model,
        "data": {"kind": "images", "source": "photo-patches", "side": 8, "train_images": 100} | (data or {}),
        "optimizer": {"lr": 3e-3},
        "schedule": {"kind": "cosine", "warmup_steps": 2},
        "steps": 60,
        "batch_size": 32,
        "probe": {"every": 7, "batch_size": 64},
        "eval": {"every": 20, "batches": 2},
    }
    config = RunConfig.model_validate(tree | changes)
    known = config.data.model_copy(update={"fingerprint": fingerprint(config.data)})
    config = config.model_copy(update={"data": known})
    return ResolvedRun("mlp", "MLP", "codeparrot-130m", "smoke", 0, config, paper_data=False)


def trained(home: Path, run: ResolvedRun) -> RunFolder:
    folder = create(home, run)
    assert main([str(folder.path)]) == 0
    return folder


def named(trace: pd.DataFrame, metric: str) -> pd.Series:
    frame = trace.assign(run="mlp", label="MLP", setting="cifar-mlp", seed=0)
    rows = metric_rows(frame, metric)
    return rows.set_index("step").value


def test_plots_and_claims_find_every_metric(tmp_path: Path) -> None:
    folder = trained(tmp_path, image_run())
    trace = folder.read_trace()
    assert named(trace, "train_loss").index.tolist() == list(range(60))
    assert named(trace, "train_accuracy").index.tolist() == list(range(60))
    assert named(trace, "eval_loss").index.tolist() == named(trace, "test_accuracy").index.tolist() == [0, 20, 40, 60]
    assert named(trace, "train_accuracy").between(0, 1).all()
    assert named(trace, "eval_loss").iloc[0] == pytest.approx(0.1)  # the readout begins at zero
    assert named(trace, "eval_loss").iloc[-1] < 0.095
    kurtosis = trace[(trace.metric == "kurtosis") & (trace.step == 60)]
    assert kurtosis.layer.tolist() == ["1", "2", "unembed"]
    assert not trace.duplicated(["step", "split", "metric", "layer"]).any()
    provenance = folder.provenance()
    assert provenance["data"]["description"] == "patches of two photographs"
    assert provenance["substitute"] is True


@pytest.mark.parametrize(
    "optimizer", [{"name": "sgd", "lr": 3.0}, {"name": "adamw", "lr": 3e-3}, {"name": "soap", "lr": 3e-3}]
)
@pytest.mark.parametrize("norm", ["none", "srms"])
def test_the_mlp_learns_with_the_paper_s_optimisers(tmp_path: Path, optimizer: dict[str, Any], norm: str) -> None:
    run = image_run(MLP | {"norm": norm}, {"whiten": True, "train_images": 4096}, optimizer=optimizer)
    folder = trained(tmp_path, run)
    loss = named(folder.read_trace(), "eval_loss")
    assert loss.iloc[-1] < loss.iloc[0] - 0.003
    assert not folder.provenance()["failed"]


def test_the_vit_learns_from_varied_images(tmp_path: Path) -> None:
    folder = trained(tmp_path, image_run(VIT, {"augment": VARIED}))
    trace = folder.read_trace()
    loss = named(trace, "eval_loss")
    assert loss.iloc[0] == pytest.approx(2.3, abs=0.05)
    assert loss.iloc[-1] < loss.iloc[0] - 0.05
    entropy = trace[(trace.metric == "attention_entropy") & (trace.step == 0)]
    assert entropy.layer.tolist() == ["1", "2"]
    assert entropy.value.between(1, 1.6095).all()  # at most log 5, and more than the log(5!) / 5 of causal attention


def test_accumulated_gradients_give_the_same_losses(tmp_path: Path) -> None:
    traces = []
    for size in (None, 5):
        folder = create(tmp_path / str(size), image_run(VIT, {"augment": VARIED}))
        task, _ = build_task(folder.config(), torch.device("cpu"))
        Training(folder.config(), task, folder, Execution(torch.device("cpu"), micro_batch=size)).run()
        traces.append(read_live(folder.path))
    for metric in ("train_loss", "train_accuracy"):
        whole, parts = (named(trace, metric).tolist() for trace in traces)
        assert parts[:20] == pytest.approx(whole[:20], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "data"),
    [(MLP, {"whiten": True, "train_images": 300}), (VIT, {"augment": VARIED})],
    ids=["mlp", "vit"],
)
def test_a_killed_run_ends_in_the_same_bytes(tmp_path: Path, model: dict[str, Any], data: dict[str, Any]) -> None:
    check_kills(image_run(model, data), tmp_path)
