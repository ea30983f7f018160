"""Sizes from configurations against the modules themselves and against published counts."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reproduce.config import ImageData, MlpConfig, OptimizerConfig, RunConfig, TextData, TransformerConfig, VitConfig
from reproduce.models import size
from reproduce.models.transformer import Transformer
from reproduce.models.variants import VARIANTS

CODEPARROT: dict[str, Any] = {"layers": 6, "width": 768, "heads": 12, "biases": "qk", "positions": "learnt"}
LANGUINI: dict[str, Any] = {"tied": True, "positions": "rope", "activation": "gelu"}


def text(seq_len: int = 128, vocab_size: int = 50_000) -> TextData:
    return TextData(source="codeparrot", seq_len=seq_len, vocab_size=vocab_size)


def run(model: dict[str, Any], data: dict[str, Any], batch_size: int = 32, **fields: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": model,
            "data": data,
            "optimizer": {"lr": 1e-3},
            "steps": 100,
            "batch_size": batch_size,
            "probe": {"every": 10, "batch_size": 4},
            "eval": {"every": 10, "batches": 1},
        }
        | fields
    )


def count(model: Any, data: Any) -> int:
    return sum(map(math.prod, size.parameter_shapes(model, data)))


NORMS = st.sampled_from(["none", "ln", "rms", "srms"])
PRE_BLOCKS = st.fixed_dictionaries(
    {"pre_qk": NORMS, "pre_v": NORMS, "pre_mlp": NORMS, "post_qk": NORMS, "final_norm": NORMS}
)
BLOCKS = st.one_of(PRE_BLOCKS, st.fixed_dictionaries({"post_norm": NORMS, "post_qk": NORMS}))


@settings(max_examples=150, deadline=None)
@given(
    block=BLOCKS,
    gains=st.sampled_from(["fixed", "scalar", "vector"]),
    layers=st.integers(1, 3),
    heads=st.integers(1, 3),
    head_width=st.sampled_from([2, 4, 8]),
    mlp_ratio=st.sampled_from([1.0, 2.7, 4.0]),
    positions=st.sampled_from(["learnt", "rope"]),
    biases=st.sampled_from(["none", "qk", "all"]),
    tied=st.booleans(),
    vocab_size=st.integers(257, 300),
    seq_len=st.integers(2, 20),
)
def test_every_transformer_has_exactly_the_shapes_of_its_module(
    block: dict[str, Any], gains: str, heads: int, head_width: int, vocab_size: int, seq_len: int, **fields: Any
) -> None:
    model = TransformerConfig.model_validate(
        {"heads": heads, "width": heads * head_width, "block": block | {"gains": gains}} | fields
    )
    with torch.device("meta"):
        module = Transformer(model, vocab_size, seq_len)
    ours = Counter(size.parameter_shapes(model, text(seq_len, vocab_size)))
    assert ours == Counter(tuple(parameter.shape) for parameter in module.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_named_variants_count_as_their_modules(variant: str) -> None:
    config = run({"kind": "transformer", "layers": 2, "width": 8, "heads": 2, "block": VARIANTS[variant]},
                 {"kind": "text", "source": "x", "seq_len": 16, "vocab_size": 300})  # fmt: skip
    with torch.device("meta"):
        module = Transformer(config.model, 300, 16)
    assert size.parameters(config) == sum(parameter.numel() for parameter in module.parameters())


def test_codeparrot_has_the_papers_size() -> None:
    # The published count has GPT-2's 1,024 rows of positions; a model for sequences of 128 has only those.
    model = TransformerConfig(**CODEPARROT)
    assert round(count(model, text(seq_len=1024)) / 1e6, 1) == 120.1
    assert round(count(model, text(seq_len=128)) / 1e6, 1) == 119.4


@pytest.mark.parametrize(
    ("layers", "width", "heads", "millions"), [(12, 768, 12, 97.5), (24, 1024, 16, 318.8), (24, 2048, 16, 1241.5)]
)
def test_languini_matrices_have_the_papers_size(layers: int, width: int, heads: int, millions: float) -> None:
    model = TransformerConfig(layers=layers, width=width, heads=heads, **LANGUINI)
    assert round(count(model, text(512, 16_384)) / 1e6, 1) == millions
    with torch.device("meta"):
        module = Transformer(model, 16_384, 512)
    assert round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 1) == millions


def test_image_models_have_the_published_sizes() -> None:
    mlp = MlpConfig(layers=6, width=1024)
    assert round(count(mlp, ImageData(source="cifar10")) / 1e6, 1) == 15.7
    pre_ln = {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln", "final_norm": "ln"}
    vit = VitConfig.model_validate({"layers": 12, "width": 768, "heads": 12, "block": pre_ln})
    # ViT-B/16 of torchvision and timm.
    assert count(vit, ImageData(source="imagenet-1k", side=224, classes=1000)) == 86_567_656


def test_flops_are_six_per_matrix_weight_and_token_and_the_attention_term() -> None:
    data = {"kind": "text", "source": "x", "seq_len": 128, "vocab_size": 50_000}
    config = run({"kind": "transformer"} | CODEPARROT, data, steps=80_000)
    matrices = 6 * 12 * 768**2 + 50_000 * 768
    assert size.tokens(config) == 327_680_000
    assert size.flops(config) == pytest.approx((6 * matrices + 12 * 6 * 128 * 768) * 327_680_000)
    assert 6 * matrices * 327_680_000 == pytest.approx(1.6e17, rel=0.02)  # the paper's recipe, by 6 P T


def test_a_run_that_stops_early_costs_what_it_trains() -> None:
    data = {"kind": "text", "source": "x", "seq_len": 16, "vocab_size": 300}
    model = {"kind": "transformer", "layers": 1, "width": 8, "heads": 1}
    assert size.flops(run(model, data, stop_after=25)) == size.flops(run(model, data)) / 4


def test_flops_agree_with_torchs_own_count() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    config = run({"kind": "transformer", "layers": 2, "width": 32, "heads": 2},
                 {"kind": "text", "source": "x", "seq_len": 16, "vocab_size": 300}, batch_size=3)  # fmt: skip
    module = Transformer(config.model, 300, 16)
    with FlopCounterMode(display=False) as counter:
        # Observed, attention consists of products that torch counts. It counts none in its fused kernel on a CPU.
        module.unembedding(module.encode(torch.zeros(3, 16, dtype=torch.long), observe=lambda *_: None))
    assert 3 * size.forward_flops(config) == counter.get_total_flops()


def test_image_flops_count_matrices_once_an_example() -> None:
    config = run({"kind": "mlp", "layers": 6, "width": 1024}, {"kind": "images", "source": "cifar10"}, batch_size=2048)
    assert size.forward_flops(config) == 2 * size.parameters(config)
    assert size.positions(config) == 1


@pytest.mark.parametrize("name", ["soap", "adafactor-rotated"])
def test_preconditioning_grows_with_the_cube_of_the_rotated_axes(name: str) -> None:
    model = {"kind": "mlp", "layers": 6, "width": 64}
    fields = {"optimizer": OptimizerConfig(name=name, lr=1e-3, max_precond_dim=64).model_dump()}
    config = run(model, {"kind": "images", "source": "cifar10"}, **fields)
    # 12 matrices of both axes 64, and the 64 axis of the input (64 x 3072) and the readout (10 x 64, both rotated).
    products = 12 * 2 * 64**3 + 64 * 64 * 3072 + (64 + 10) * 640
    cubes = 12 * 2 * 64**3 + 64**3 + 64**3 + 10**3
    assert size.preconditioner_flops(config) == pytest.approx(6.4 * products + (14 / 3) / 10 * cubes)
    adamw = config.model_copy(update={"optimizer": OptimizerConfig(lr=1e-3)})
    assert size.preconditioner_flops(adamw) == 0


def test_the_module_needs_no_torch() -> None:
    code = "import sys, reproduce.models.size; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
