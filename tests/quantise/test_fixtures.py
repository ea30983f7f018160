"""The published W8A8 code against ours: `fixtures` holds its outputs on tensors and models of ours (README there).

OFE_FIXTURES names another folder of the same layout. Every model that its index `opt_tiny.json` names is taken.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from reproduce.quantise import opt, protocol
from reproduce.quantise.decoder import Decoder
from reproduce.quantise.grids import asymmetric_grid
from reproduce.quantise.quantisers import Scheme
from reproduce.quantise.ranges import RunningRange

OWN = Path(__file__).parent / "fixtures"
FOLDER = Path(os.environ.get("OFE_FIXTURES", OWN))  # read here: a test's own environment has no OFE_ variables
WIDTHS = {"fp": (None, None), "w8": (8, None), "a8": (None, 8), "w8a8": (8, 8), "w6a6": (6, 6), "w4a4": (4, 4),
          "w16a16": (16, 16)}  # fmt: skip
SCALES = {"rel": 1e-4}
LOSSES = {"abs": 1e-4}


MODELS: dict[str, Any] = json.loads((FOLDER / "opt_tiny.json").read_text())
PRIMITIVES: dict[str, Any] = json.loads((OWN / "primitives.json").read_text())
TENSORS = load_file(OWN / "primitives.safetensors")


# -- primitives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in PRIMITIVES if name.startswith("weight_")])
def test_fixture_weight(name: str) -> None:
    """Scale and mean squared error of the search for the least squared error, on 4 weights at 3 widths."""
    published = PRIMITIVES[name]
    weight = TENSORS[name.replace("weight_", "w_").rpartition("_")[0]]
    scheme = Scheme(published["n_bits"], range="least-squares")
    grid, _ = scheme.fit(weight)
    assert float(grid.scale) == pytest.approx(published["scale"], rel=1e-5)
    assert (grid.low, grid.high) == (published["int_min"], published["int_max"])
    assert float((scheme(weight) - weight).square().mean()) == pytest.approx(published["mse"], rel=1e-5)


@pytest.mark.parametrize("percent", [None, 99.999, 99.0])
def test_fixture_running_range(percent: float | None) -> None:
    """The range after each of four batches, the grid after the last, and the first batch on it."""
    published, running = PRIMITIVES[f"act_running_{percent}"], RunningRange(percent=percent)
    for batch, (low, high) in enumerate(published["history"]):
        ours = running.update(TENSORS[f"act_{batch}"])
        assert [float(end) for end in ours] == pytest.approx([low, high], rel=1e-5)
    grid = asymmetric_grid(*ours, bits=8)
    assert float(grid.scale) == pytest.approx(published["scale"], rel=1e-5)
    assert float(grid.zero_point) == published["zero_point"]
    # Equal levels: the scales agree to float32 rounding, and numbers are scale times level.
    levels = torch.round(TENSORS[f"act_0_quantised_{percent}"] / published["scale"])
    assert torch.equal(grid.integers(TENSORS["act_0"]) - grid.zero_point, levels)


def test_fixture_probabilities() -> None:
    published, running = PRIMITIVES["act_probs"], RunningRange(percent=99.999)
    grid = asymmetric_grid(*running.update(TENSORS["probs"]), bits=8)
    assert float(grid.scale) == pytest.approx(published["scale"], rel=1e-5)
    assert float(grid.zero_point) == 0


# -- models --------------------------------------------------------------------------------------------


def load(name: str) -> tuple[Decoder, list[Tensor], list[Tensor]]:
    """The model `name` of the folder, its calibration batches and its evaluation sequences."""
    tensors = load_file(FOLDER / f"opt_tiny_{name}.safetensors")
    said = MODELS[name]["config"]
    gated = any(".self_attn.alpha" in tensor for tensor in tensors)
    assert gated == (said["gate"] not in (None, "none"))
    gamma = 0.0 if said["alpha"] is None else -said["alpha"] / said["T"]
    config = opt.opt_config(said["layers"], said["d"], said["heads"], said["ffn"], gated=gated, gamma=gamma)
    decoder = Decoder(config, said["vocab"], said["T"] + opt.FIRST_POSITION, opt.FIRST_POSITION).eval()
    decoder.load_state_dict(opt.weights_from_opt(tensors, said["layers"], said["heads"]))

    def sequences(kind: str) -> list[Tensor]:
        names = sorted((n for n in tensors if n.startswith(kind)), key=lambda n: int(n.partition(".")[2]))
        return [tensors[name] for name in names]

    return decoder.requires_grad_(False), sequences("calib."), sequences("eval.")


def loss(decoder: Decoder, tokens: Tensor) -> float:
    return float(F.cross_entropy(decoder(tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()))


@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize("name", MODELS)
def test_fixture_losses(name: str, widths: str) -> None:
    decoder, calibration, evaluation = load(name)
    weights, activations = WIDTHS[widths]
    quantised = protocol.quantise(decoder, weights, activations).calibrate(calibration)
    published, ours = MODELS[name][widths], [loss(quantised.decoder, tokens) for tokens in evaluation]
    mean = sum(ours) / len(ours)
    assert mean == pytest.approx(published["mean_loss"], **LOSSES)
    assert math.exp(mean) == pytest.approx(published["ppl"], rel=1e-4)
    # Single sequences of 31 tokens differ more where a number falls on the edge between two levels.
    assert ours == pytest.approx(published["loss"], abs=1e-5 if widths == "fp" else 2e-3)


PUBLISHED_PLACES = {
    "self_attn.attn_scores_act_quantizer": "attention.scores",
    "self_attn.attn_probs_act_quantizer": "attention.probabilities",
    "self_attn.context_act_quantizer": "attention.context",
    "self_attn_layer_norm": "attention.norm-qk",
    "self_attn_res_act_quantizer": "attention-sum",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.out_proj": "attention.project",
    "fc1_act": "mlp.up",
    "fc2": "mlp.down",
    "ffn_res_act_quantizer": "mlp-sum",
    "embed_sum_act_quantizer": "embedding-sum",
}
WEIGHT_NAMES = {"attention.norm-qk": "attention.norm_qk.gain", "mlp.norm-mlp": "mlp.norm.gain"}


def our_name(theirs: str) -> tuple[str, str]:
    """Where the quantiser that the published code calls `theirs` is in ours: `weights` or `places`, and its name."""
    path, _, kind = theirs.removeprefix("model.decoder.").rpartition(".")
    of = "weights" if kind == "weight_quantizer" else "places"
    top = {"embed_tokens": "token_embedding.weight", "embed_positions.quant_embedding": "position_embedding.weight",
           "embed_sum_act_quantizer": "embedding-sum"}  # fmt: skip
    if path in top:
        return of, top[path]
    if path == "final_layer_norm":
        return of, "final_norm.gain" if of == "weights" else "final-norm"
    _, layer, inner = path.split(".", 2)
    place = "mlp.norm-mlp" if inner == "final_layer_norm" else PUBLISHED_PLACES[inner]
    if of == "weights":
        place = WEIGHT_NAMES.get(place, f"{place}.weight")
    return of, f"blocks.{layer}.{place}"


@pytest.mark.parametrize("name", MODELS)
def test_fixture_quantisers(name: str) -> None:
    """Every quantiser of the published code at W8A8 is one of ours with its scale and zero point, and none is left."""
    decoder, calibration, _ = load(name)
    quantised = protocol.quantise(decoder).calibrate(calibration)
    published = MODELS[name]["w8a8"]["quantisers"]
    assert (
        len(quantised) == len(published) == MODELS[name]["w8a8"]["count"] == 21 * MODELS[name]["config"]["layers"] + 5
    )
    found = set()
    for theirs, values in published.items():
        of, ours = our_name(theirs)
        found.add((of, ours))
        grid = quantised.weights[ours] if of == "weights" else quantised.places[ours].grid
        assert grid is not None
        assert float(grid.scale) == pytest.approx(values["scale"], **SCALES), theirs
        assert float(grid.zero_point) == values["zero_point"], theirs
        assert grid.high == values["int_max"], theirs
    assert len(found) == len(published)
