from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reproduce.config import ImageData, MlpConfig
from reproduce.models.mlp import Mlp
from reproduce.models.size import parameter_shapes


def make(**changes: object) -> Mlp:
    torch.manual_seed(0)
    return Mlp(MlpConfig.model_validate({"layers": 3, "width": 8, "norm": "srms"} | changes), 12, 5)


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 2, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", ["none", "ln", "rms", "srms"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_it_computes_the_equations_of_its_docstring(norm: str, activation: str) -> None:
    model = make(norm=norm, activation=activation)
    torch.nn.init.normal_(model.readout.weight)
    x = images().flatten(1)
    stream = x @ model.embedding.weight.T
    for block in model.blocks:
        normed = stream
        if norm == "ln":
            normed = F.layer_norm(stream, (8,))
        elif norm != "none":
            normed = stream / (stream.square().mean(1, keepdim=True).sqrt() + 1e-5)
        hidden = normed @ block.up.weight.T
        hidden = hidden.relu() if activation == "relu" else F.gelu(hidden)
        stream = stream + hidden @ block.down.weight.T
    torch.testing.assert_close(model(images()), stream @ model.readout.weight.T / math.sqrt(8))


def test_the_readout_begins_at_zero_and_the_rest_as_pytorch_begins() -> None:
    model = make(width=256)
    assert (model(images()) == 0).all()
    for weight in (model.embedding.weight, model.blocks[0].up.weight, model.blocks[2].down.weight):
        bound = 1 / math.sqrt(weight.shape[1])
        assert 0.95 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)


@pytest.mark.parametrize("norm", ["none", "ln", "rms", "srms"])
def test_every_mlp_has_exactly_the_shapes_that_are_planned(norm: str) -> None:
    config = MlpConfig.model_validate({"layers": 2, "width": 8, "norm": norm})
    found = Counter(tuple(parameter.shape) for parameter in Mlp(config, 48, 10).parameters())
    assert found == Counter(parameter_shapes(config, ImageData(source="x", side=4)))


def test_the_paper_s_has_15_74_million_parameters() -> None:
    with torch.device("meta"):
        model = Mlp(MlpConfig(layers=6, width=1024, norm="srms"), 3 * 32**2, 10)
    assert sum(parameter.numel() for parameter in model.parameters()) == 15_738_880


def test_the_observer_sees_the_stream_entering_every_block_and_the_readout() -> None:
    model, seen = make(), []
    x = model.encode(images(), lambda point, layer, stream: seen.append((point, layer, stream)))
    assert [entry[:2] for entry in seen] == [("residual", layer) for layer in ("1", "2", "3", "unembed")]
    for blocks, (_, _, stream) in enumerate(seen[:3]):
        assert torch.equal(model.encode(images(), blocks=blocks), stream)
    assert torch.equal(seen[3][2], x)


def test_the_stream_stays_float32_in_mixed_precision() -> None:
    model = make()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.encode(images()).dtype == torch.float32
        assert model(images()).dtype == torch.float32
