"""The lab: every row is the model itself where nothing is rounded, and each loses what its method leaves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from reproduce.models.variants import VARIANTS
from reproduce.quantise.decoder import Decoder, decoder_of
from reproduce.quantise.lab import Lab, NotApplicable
from reproduce.quantise.linears import calibrate, linear_names, sharing
from reproduce.quantise.methods import block_floating_point, quarot, smoothquant, splitquant
from reproduce.quantise.quantisers import Scheme, StaticQuantiser
from reproduce.quantise.rows import CAUSES, METHODS, ROWS
from tests.quantise.test_decoder import TOKENS, model

BLOCKS = {
    "pre-ln": {"biases": "all", "block": VARIANTS["pre-ln"] | {"final_norm": "ln"}},
    "gated": {"block": VARIANTS["pre-ln-gated"]},
    "op": {"biases": "qk", "block": VARIANTS["op"] | {"gains": "vector", "attn_gain": 0.3, "mlp_gain": 0.3}},
}
SMALL = [row for row in ROWS if not row.startswith("keys-") or row in ("keys-8", "keys-8-sorted")]
"""Rows that apply to heads of 8 channels."""


def lab(block: str = "pre-ln", **options: int) -> Lab:
    batches = [TOKENS, TOKENS.flip(0)]
    decoder = decoder_of(model(BLOCKS[block]))
    return Lab(decoder, batches, batches[:1], batches[1:], length=TOKENS.shape[1], **options)


def logits(made: nn.Module) -> Tensor:
    with torch.no_grad():
        return made(TOKENS)


@pytest.fixture
def unrounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No grid rounds: what is left of a method is its change of the model, which has to be exact."""
    monkeypatch.setattr(Scheme, "__call__", lambda self, x: x)
    monkeypatch.setattr("reproduce.quantise.lab.IntegerLinear", lambda linear, *schemes: linear)
    monkeypatch.setattr(StaticQuantiser, "forward", lambda self, x: x)
    monkeypatch.setattr("reproduce.quantise.protocol.Scheme.fit", lambda self, x: (lambda rows: rows, Kept(x)))
    monkeypatch.setattr(block_floating_point, "block_floating_point", lambda x, size, mantissa: x)


class Kept:
    """A tensor as the one row of its blocks."""

    def __init__(self, x: Tensor) -> None:
        self.rows, self.restore = x, lambda rows: rows


@pytest.mark.usefixtures("unrounded")
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("row", SMALL)
def test_every_row_is_the_model_itself_where_nothing_is_rounded(row: str, block: str) -> None:
    one = lab(block)
    torch.testing.assert_close(logits(one.prepare(row).model), logits(one.model), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("row", SMALL)
def test_every_row_rounds_and_leaves_the_model_as_it_was(row: str) -> None:
    one = lab()
    before = {name: tensor.clone() for name, tensor in one.model.state_dict().items()}
    wanted = logits(one.model)
    made = one.prepare(row)
    assert not torch.equal(logits(made.model), wanted)
    assert all(torch.equal(before[name], tensor) for name, tensor in one.model.state_dict().items())
    assert torch.equal(logits(one.model), wanted)
    assert 2 <= made.weight_bits <= 32
    assert made.flops >= 0


def error(row: str, block: str = "pre-ln", **options: int) -> float:
    one = lab(block, **options)
    wanted = logits(one.model)
    return float((logits(one.prepare(row).model) - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("row", ["tensor", "token", "vector", "smoothquant", "quarot", "llm-int8", "published"])
def test_more_bits_lose_less(row: str) -> None:
    errors = [error(row, weights=bits, activations=bits) for bits in (3, 6, 10)]
    assert errors == sorted(errors, reverse=True)


def with_outliers() -> Decoder:
    """A model of width 64 in which a norm's gain makes one channel 100 times as large, and weights undo it."""
    decoder = decoder_of(model(BLOCKS["pre-ln"] | {"width": 64, "init_std": 0.1}))
    for one in decoder.blocks:
        for norm, readers in ((one.attention.norm_qk, (one.attention.query, one.attention.key, one.attention.value)),
                              (one.mlp.norm, (one.mlp.up,))):  # fmt: skip
            for parameter in norm.parameters():
                parameter.data[9] *= 100
            for linear in readers:
                linear.weight.data[:, 9] /= 100
    return decoder


def test_methods_against_outliers_recover_what_outliers_cost() -> None:
    """A function that has no outliers, written with one: plain rounding per tensor loses, and the methods do not."""
    plain = Lab(with_outliers(), [TOKENS], length=TOKENS.shape[1])
    wanted = logits(plain.model)
    losses = {
        row: float((logits(plain.prepare(row).model) - wanted).norm() / wanted.norm())
        for row in ("tensor", "outlier-channels", "smoothquant", "quarot")
    }
    assert losses["tensor"] > 0.2
    for row in ("outlier-channels", "smoothquant", "quarot"):
        assert losses[row] < losses["tensor"] / 3, (row, losses)


def test_the_first_position_alone_stays_in_float() -> None:
    one = lab()
    made = one.prepare("first-token").model
    assert isinstance(made, Decoder)
    x = torch.randn(2, 12, 16)
    rounded = made.blocks[0].attention.query.activation(x)
    assert torch.equal(rounded[:, 0], x[:, 0])
    assert torch.equal(rounded[:, 1:], Scheme(8, "asymmetric")(x[:, 1:]))
    flat = made.blocks[0].attention.query.activation(x.flatten(0, 1))  # as models that flatten their activations do
    assert torch.equal(flat.view(2, 12, 16), rounded)


def test_the_layers_with_one_input_are_known() -> None:
    one = lab()
    groups = {tuple(name.removeprefix("blocks.0.") for name in group) for group in sharing(one.inputs).values()}
    assert ("attention.query", "attention.key", "attention.value") in groups
    assert ("mlp.down",) in groups
    assert "unembedding" not in one.inputs


def test_calibration_sees_every_input() -> None:
    one = lab()
    seen: dict[str, list[Tensor]] = {}
    for name in linear_names(one.model):
        one.model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: seen.setdefault(name, []).append(args[0].flatten(0, -2))
        )
    found = calibrate(one.model, [TOKENS, TOKENS.flip(0)])
    for name, known in found.items():
        every = torch.cat(seen[name])
        torch.testing.assert_close(known.largest, every.abs().amax(0))
        assert known.rms == pytest.approx(float(every.square().mean().sqrt()), rel=1e-5)
        assert torch.equal(known.rows, every[:512])


def test_bits_and_flops_are_counted() -> None:
    """One block of width 16: 12 x 256 entries, biases apart. Groups of 16 entries have a 16-bit scale each."""
    one = lab()
    entries = 2 * 12 * 256
    assert one.prepare("w4a4-groups").weight_bits == 4 + 16 / 16
    assert one.prepare("tensor").weight_bits == pytest.approx(8 + 16 * 12 / entries)
    branches = 2 * ((3 * 16 + 16) + (16 + 16) + (64 + 16) + (16 + 64)) * 4  # (m + k) r: qkv, project, up and down
    assert one.prepare("svdquant-4").weight_bits == pytest.approx(5 + 16 * branches / entries)
    assert one.prepare("quarot").flops == 2 * (16 * 4 + 64 * 6)  # 16 log2 16 and 64 log2 64; the stream costs nothing
    assert one.prepare("tensor").flops == 0


def test_what_cannot_be_folded_is_counted_and_said() -> None:
    """Pre-LN folds all, OP has no gain before its layers, and gates read the stream in slices."""
    plain, op, gated = lab(), lab("op"), lab("gated")
    assert [one.prepare("smoothquant").flops for one in (plain, op, gated)] == [0, 2 * (16 + 16), 0]
    assert plain.notes["smoothquant"] == "all divisions can be folded into the norms"
    assert op.notes["smoothquant"].startswith("4 of 4 inputs are divided as they pass")
    assert op.prepare("quarot").flops == plain.prepare("quarot").flops
    assert gated.prepare("quarot").flops == 2 * (3 * 16 * 4 + 64 * 6)
    assert "gates read slices" in gated.notes["quarot"]


@pytest.mark.parametrize("row", ["smoothquant", "quarot", "svdquant-4", "w4-splitquant"])
def test_a_rewriting_that_changes_the_function_is_refused(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rehearsal in full precision, before anything is rounded."""
    one = lab()
    one.prepare(row)
    monkeypatch.setattr(smoothquant.Divide, "__call__", lambda self, x: 0.99 * x / self.by)
    monkeypatch.setattr(quarot.Multiply, "__call__", lambda self, x: 0.99 * x @ self.by)
    monkeypatch.setattr(splitquant, "split", lambda weight, at: [weight, 0.01 * weight])
    with pytest.raises(NotApplicable, match="another function: its logits differ by"):
        one.prepare(row)


def test_a_method_that_does_not_apply_says_why() -> None:
    rope = Lab(decoder_of(model({"positions": "rope"})), [TOKENS], length=12)
    with pytest.raises(NotApplicable, match="rotary positions pair channels"):
        rope.prepare("keys-8")
    with pytest.raises(NotApplicable, match="no multiple of 64"):
        lab().prepare("keys-64")
    plain = Lab(nn.Sequential(nn.Embedding(40, 8), nn.Linear(8, 40)), [TOKENS], length=12)
    for row in ("published", "published-other-text", "dynamic-random"):
        with pytest.raises(NotApplicable, match="place at each tensor"):
            plain.prepare(row)
    with pytest.raises(NotApplicable, match="rank 8, less than 16"):
        plain.prepare("svdquant-16")
    with pytest.raises(ValueError, match="no row w5"):
        plain.prepare("w5")


def test_integer_arithmetic_is_the_simulation() -> None:
    one = lab()
    made, simulated = one.prepare("integers"), one.prepare("tensor")
    torch.testing.assert_close(logits(made.model), logits(simulated.model), rtol=1e-3, atol=1e-3)
    assert "integer products" in one.notes["integers"]
    with pytest.raises(NotApplicable, match="at most 8 bits"):
        lab(weights=10).prepare("integers")


def test_the_rows_are_in_their_families() -> None:
    assert not set(CAUSES) & set(METHODS)
    published = {name for name, row in ROWS.items() if row.family == "published"}
    assert set(CAUSES) | set(METHODS) | published == set(ROWS)


def test_dynamic_ranges_do_not_see_the_calibration_text_and_static_ones_do() -> None:
    """The study of calibration sets: exactly no difference for dynamic rows, one for the published protocol."""
    decoder = decoder_of(model(BLOCKS["pre-ln"]))
    other = torch.randint(0, 40, TOKENS.shape, generator=torch.Generator().manual_seed(9))
    own, changed = (Lab(decoder, [batch], length=12) for batch in (TOKENS, other))
    for row in ("tensor", "token", "vector", "llm-int8"):
        assert torch.equal(logits(own.prepare(row).model), logits(changed.prepare(row).model))
    assert not torch.equal(logits(own.prepare("published").model), logits(changed.prepare("published").model))
    sets = Lab(decoder, [TOKENS], other_text=[other], length=12)
    assert torch.equal(logits(sets.prepare("dynamic").model), logits(sets.prepare("dynamic-other-text").model))
    assert not torch.equal(logits(changed.prepare("dynamic").model), logits(changed.prepare("published").model))
    assert torch.equal(logits(sets.prepare("published-other-text").model), logits(changed.prepare("published").model))
    with pytest.raises(NotApplicable, match="no such text"):
        sets.prepare("published-random")
