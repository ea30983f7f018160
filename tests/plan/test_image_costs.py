"""What runs on images cost, against what torch keeps and does, and what a trained run leaves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from reproduce.config import RunConfig
from reproduce.machine import this_machine
from reproduce.metrics.table import STREAM_METRICS
from reproduce.models.mlp import Mlp
from reproduce.models.size import flops, forward_flops, input_flops
from reproduce.plan.calibration import Rate
from reproduce.plan.doctor import examine
from reproduce.plan.footprint import _trace_values as trace_values
from reproduce.plan.footprint import activation_bytes, footprint
from reproduce.training.vision import build_model
from tests.plan.saved import saved_bytes

PRE_LN = {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln", "final_norm": "ln"}
MLP = {"kind": "mlp", "layers": 6, "width": 256, "norm": "srms"}
VIT = {"kind": "vit", "layers": 4, "width": 128, "heads": 4, "patch": 4, "block": PRE_LN}


def run(model: dict[str, Any], precision: str = "fp32", **data: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": model,
            "data": {"kind": "images", "source": "photo-patches", "side": 32, "train_images": 5000} | data,
            "optimizer": {"lr": 1e-3},
            "steps": 100,
            "batch_size": 8,
            "precision": precision,
            "probe": {"every": 10, "batch_size": 8},
            "eval": {"every": 50, "batches": 2},
        }
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "model",
    [*(MLP | {"norm": norm} for norm in ("none", "ln", "rms", "srms")), VIT, VIT | {"block": {"gains": "vector"}}],
)
def test_activations_come_within_a_third(precision: str, model: dict[str, Any]) -> None:
    config = run(model, precision)
    module = build_model(config)
    measured = saved_bytes(module, lambda: module(torch.zeros(8, 3, 32, 32)).sum(), precision)
    if precision == "bf16" and isinstance(module, Mlp):
        measured += 2 * module.embedding.weight.numel()  # no gradient needs this copy, but autocast's cache holds it
    assert activation_bytes(config, 8) == pytest.approx(measured, rel=1 / 3)


@pytest.mark.parametrize("model", [MLP, VIT])
def test_flops_agree_with_torchs_own_count(model: dict[str, Any]) -> None:
    config = run(model)
    with FlopCounterMode(display=False) as counter:
        model = build_model(config)
        # Observed, attention consists of products that torch counts. It counts none in its fused kernel on a CPU.
        last = model.encode(torch.zeros(3, 3, 32, 32), observe=lambda *_: None)
        model.readout(last) if isinstance(model, Mlp) else model.head(last[:, 0])
    assert 3 * forward_flops(config) == counter.get_total_flops()


def test_whitening_costs_a_product_with_all_principal_axes() -> None:
    x, axes = torch.zeros(8, 3072), torch.zeros(3072, 3072)
    with FlopCounterMode(display=False) as counter:
        x @ axes
    assert input_flops(run(MLP, whiten=True)) == counter.get_total_flops()
    assert input_flops(run(MLP)) == 0
    rate = Rate(((1e30, 2.0),), 1e9, 0.0)
    plain, whitened = (rate.run_seconds(run(MLP, whiten=whiten)) for whiten in (False, True))
    ratio = input_flops(run(MLP, whiten=True)) * 100 / flops(run(MLP))
    assert whitened - plain == pytest.approx(2.0 * 100 * ratio)


def test_images_that_stay_in_memory_count() -> None:
    held = footprint(run(MLP, source="cifar10", train_images=None)).data
    assert held == 60_000 * 3072 + 4 * 8 * 3072
    whitened = footprint(run(MLP, source="cifar10", train_images=None, whiten=True))
    assert whitened.data - held == 4 * 3072**2 + 4 * 16 * 3072
    assert whitened.memory - footprint(run(MLP, source="cifar10", train_images=None)).memory == whitened.data - held


def test_a_trace_has_accuracies_too() -> None:
    # 100 steps of loss, norm, rate, accuracy; 3 evaluations of loss, accuracy; probes at 0, 1, 2, 4, 8, 10, 20 ... 100
    streams = len(STREAM_METRICS)
    assert trace_values(run(MLP))[0] == 4 * 100 + 2 * 3 + 15 * streams * 7
    assert trace_values(run(VIT))[0] == 4 * 100 + 2 * 3 + 15 * (streams * 5 + 4)


def test_the_doctor_knows_images(monkeypatch: pytest.MonkeyPatch) -> None:
    from reproduce.data import fingerprint, open_images
    from reproduce.plan import doctor

    data = run(MLP, side=4).data
    data = data.model_copy(update={"fingerprint": fingerprint(data)})
    resolved = type("Resolved", (), {"runs": [type("Run", (), {"training": type("Config", (), {"data": data})})]})
    one = type("Experiment", (), {"id": "one", "runs": []})
    monkeypatch.setattr(doctor, "list_experiments", lambda: [one])
    monkeypatch.setattr(doctor, "resolve", lambda *arguments, **options: resolved)

    def found() -> str:
        return next(check.detail for check in examine(this_machine()) if check.name == "data photo-patches")

    assert found() == "at hand, prepared when a run first needs it"
    assert data.kind == "images"
    open_images(data)
    assert found() == "prepared"
