from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reproduce.config import ImageData, VitConfig
from reproduce.models.size import parameter_shapes
from reproduce.models.transformer import Observer
from reproduce.models.vit import Vit, drop_rates

PRE_LN = {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln", "final_norm": "ln"}
OP = {"post_qk": "ln", "gains": "vector", "attn_gain": 1e-4, "mlp_gain": 1e-4}


def make(block: dict[str, Any] = PRE_LN, **changes: Any) -> Vit:
    torch.manual_seed(0)
    fields = {"layers": 3, "width": 16, "heads": 2, "patch": 4, "block": block} | changes
    return Vit(VitConfig.model_validate(fields), 8, 5)


def images(count: int = 3) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("observe", [None, lambda *_: None], ids=["fused", "written out"])
@pytest.mark.parametrize("ratio", [4.0, 2.0])
def test_it_is_torchs_own_encoder_with_the_same_weights(ratio: float, observe: Observer | None) -> None:
    """The MLP of width 16 is 64 or 32 wide, and torch refuses weights of any other shape."""
    model = make(mlp_ratio=ratio)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = F.unfold(images(), 4, stride=4).transpose(1, 2) @ model.patches.weight.flatten(1).T + model.patches.bias
    x = torch.cat((model.class_token.expand(3, 1, 16), x), 1) + model.positions
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(16, 2, int(16 * ratio), 0.0, "gelu", batch_first=True, norm_first=True)
        attention, mlp = block.attention, block.mlp
        projections = (attention.query, attention.key, attention.value)
        values = {
            "self_attn.in_proj_weight": torch.cat([linear.weight for linear in projections]),
            "self_attn.in_proj_bias": torch.cat([linear.bias for linear in projections]),
            "self_attn.out_proj.weight": attention.project.weight,
            "self_attn.out_proj.bias": attention.project.bias,
            "linear1.weight": mlp.up.weight,
            "linear1.bias": mlp.up.bias,
            "linear2.weight": mlp.down.weight,
            "linear2.bias": mlp.down.bias,
            "norm1.weight": attention.norm_qk.gain,
            "norm1.bias": attention.norm_qk.bias,
            "norm2.weight": mlp.norm.gain,
            "norm2.bias": mlp.norm.bias,
        }
        layer.load_state_dict(values)
        x = layer(x)
    x = F.layer_norm(x, (16,), model.final_norm.gain, model.final_norm.bias)
    logits = model.head(model.encode(images(), observe)[:, 0])
    torch.testing.assert_close(logits, model.head(x[:, 0]), rtol=1e-4, atol=1e-4)
    assert observe is not None or torch.equal(logits, model(images()))


@pytest.mark.parametrize("block", [PRE_LN, PRE_LN | {"gains": "vector"}, OP])
def test_every_vit_has_exactly_the_shapes_that_are_planned(block: dict[str, Any]) -> None:
    model = make(block)
    config = VitConfig.model_validate({"layers": 3, "width": 16, "heads": 2, "patch": 4, "block": block})
    planned = parameter_shapes(config, ImageData(source="x", side=8, classes=5))
    assert Counter(tuple(parameter.shape) for parameter in model.parameters()) == Counter(planned)


def test_vit_b_has_the_published_number_of_parameters() -> None:
    config = VitConfig.model_validate({"layers": 12, "width": 768, "heads": 12, "block": PRE_LN})
    with torch.device("meta"):
        model = Vit(config, 224, 1000)
    assert sum(parameter.numel() for parameter in model.parameters()) == 86_567_656


def test_initialisation_is_deit_s() -> None:
    model = make(OP, width=64)
    assert model.head.weight.std().item() == pytest.approx(0.02, rel=0.2)
    assert model.positions.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.class_token.abs().max() < 0.1
    assert (model.blocks[1].attention.query.bias == 0).all()
    assert (model.blocks[2].mlp_gain == 1e-4).all()
    assert model.blocks[2].mlp_gain.shape == (64,)


def test_the_observer_sees_every_block_and_the_last_stream() -> None:
    model, seen = make(OP), {}
    model.encode(images(), lambda point, layer, x: seen.update({(point, layer): x}))
    for layer in ("1", "2", "3"):
        assert seen["residual", layer].shape == (3, 5, 16)
        assert seen["attention-logits", layer].shape == (3, 2, 5, 5)
        assert seen["attention-logits", layer].isfinite().all()  # nothing is masked
        assert torch.equal(seen["residual", layer], model.encode(images(), blocks=int(layer) - 1))
    assert ("residual", "unembed") in seen


def test_skipped_branches_leave_the_stream_and_others_make_up_for_them() -> None:
    model = make()
    none, all_of = torch.zeros(3, 3, 2), torch.ones(3, 3, 2)
    assert torch.equal(model.encode(images(), keep=none), model.final_norm(model.embed(images())))
    torch.testing.assert_close(model.encode(images(), keep=all_of), model.encode(images()))
    one = none.clone()
    one[1] = 1
    mixed = model.encode(images(), keep=one)
    torch.testing.assert_close(mixed[1], model.encode(images())[1])
    torch.testing.assert_close(mixed[2], model.encode(images(), keep=none)[2])


def test_drop_rates_rise_linearly() -> None:
    config = VitConfig(layers=5, width=8, heads=1, drop_path=0.1)
    assert drop_rates(config) == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    assert drop_rates(config.model_copy(update={"layers": 1})) == [0]
