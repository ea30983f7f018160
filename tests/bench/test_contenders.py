from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reproduce.bench.contenders import (
    SIZES,
    alternate,
    bare_products,
    config,
    library_step,
    our_step,
    passes_over_text,
    product_shapes,
)
from reproduce.models.size import parameter_shapes

CPU = torch.device("cpu")
TINY = SIZES["laptop"] | {"layers": 2, "width": 32, "heads": 2, "vocab_size": 300, "seq_len": 16}


@pytest.mark.parametrize("block", ["pre-ln", "pre-srms", "op"])
def test_the_bare_products_are_those_of_the_model_s_matrices(block: str) -> None:
    """Every matrix but the token and position embeddings, which are looked up, is multiplied once by all positions."""
    run = config(TINY, block, "fp32")
    matrices = sorted(shape for shape in parameter_shapes(run.model, run.data) if len(shape) == 2)
    for embedding in ((300, 32), (16, 32)):  # (V, d) and (T, d)
        matrices.remove(embedding)
    shapes = product_shapes(run)
    assert {n for n, _, _ in shapes} == {4 * 16}
    assert sorted((m, k) for _, k, m in shapes) == matrices


def test_contenders_take_steps_in_turn(tmp_path: Path) -> None:
    run = config(TINY, "op", "fp32")
    steps = {"ours": our_step(run, CPU, tmp_path / "run"), "products": bare_products(run, CPU)}
    order: list[str] = []
    told = {name: lambda name=name, step=step: (order.append(name), step())[1] for name, step in steps.items()}
    seconds = alternate(told, CPU, rounds=3, warm_up=1)
    assert order == ["ours", "products"] * 4
    assert seconds["ours"] > seconds["products"] > 0


def test_what_is_measured_passes_through_the_blocks_that_plain_passes_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    steps = passes_over_text(config(TINY, "pre-ln", "fp32"), CPU, tmp_path / "gpt2")
    seen: list[tuple[int, ...]] = []
    block = transformers.models.gpt2.modeling_gpt2.GPT2Block
    original = block.forward
    monkeypatch.setattr(
        block, "forward", lambda self, x, *a, **k: (seen.append(x.shape), original(self, x, *a, **k))[1]
    )
    steps["plain"]()
    plain = seen.copy()
    seen.clear()
    steps["measured"]()
    assert plain == seen == [(4, 16, 32)] * 2


def test_the_library_trains_a_model_of_the_same_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    made = []
    original = transformers.GPT2LMHeadModel.__init__
    monkeypatch.setattr(
        transformers.GPT2LMHeadModel, "__init__", lambda self, *a, **k: (original(self, *a, **k), made.append(self))[0]
    )
    run = config(TINY, "pre-ln", "fp32")
    step = library_step(run, CPU)
    (model,) = made
    before = model.lm_head.weight.detach().clone()
    step()
    assert not torch.equal(before, model.lm_head.weight)
    matrices = sorted(tuple(sorted(p.shape)) for p in model.parameters() if p.ndim == 2)
    # GPT-2 keeps queries, keys and values in one matrix of three times the width.
    assert matrices.count((32, 96)) == 2
    assert matrices.count((32, 128)) == 4
    assert matrices.count((32, 300)) == 2
