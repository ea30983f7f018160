"""The transformer against its equations, its parameter counts and an independent implementation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from reproduce.config import BlockConfig, TransformerConfig
from reproduce.models.transformer import RMSNorm, Transformer, make_norm, rotary_angles, rotate
from reproduce.models.variants import VARIANTS
from reproduce.specs.load import load_experiment
from reproduce.specs.resolve import resolve

VOCAB, LENGTH = 50, 16


def build(variant: str = "pre-ln", *, vocab: int = VOCAB, seed: int = 0, **changes: object) -> Transformer:
    block = BlockConfig.model_validate({**VARIANTS[variant], **changes.pop("block", {})})
    fields: dict[str, object] = {"layers": 2, "width": 32, "heads": 4, "biases": "qk", "embed_scale": 50.0} | changes
    torch.manual_seed(seed)
    return Transformer(TransformerConfig.model_validate({**fields, "block": block}), vocab, LENGTH)


def tokens(seed: int = 1, batch: int = 3) -> Tensor:
    return torch.randint(0, VOCAB, (batch, LENGTH), generator=torch.Generator().manual_seed(seed))


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# -- norms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ln", "rms", "srms"])
def test_norms_follow_their_equation(kind: str) -> None:
    norm, x = make_norm(kind, 8), torch.randn(5, 8, dtype=torch.float64).float() * 3 + 1
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.uniform_(0.5, 1.5)
    centred = x - x.mean(-1, keepdim=True) if kind == "ln" else x
    expected = centred / centred.pow(2).mean(-1, keepdim=True).sqrt()
    if kind != "srms":
        expected = expected * norm.gain
    if kind == "ln":
        expected = expected + norm.bias
    torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-4)


def test_what_each_norm_trains() -> None:
    shapes = {kind: [p.numel() for p in make_norm(kind, 8).parameters()] for kind in ("none", "srms", "rms", "ln")}
    assert shapes == {"none": [], "srms": [], "rms": [8], "ln": [8, 8]}


def test_rms_epsilon_stands_outside_the_root() -> None:
    x = torch.full((1, 4), 1e-5)
    torch.testing.assert_close(RMSNorm(4, trained=False)(x), torch.full((1, 4), 0.5))


# -- counts and initialisation -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "vocab", "length", "variant", "changes", "millions"),
    [
        ({"layers": 6, "width": 768, "heads": 12, "biases": "qk"}, 50_000, 1024, "pre-srms", {}, 120.1),
        ({"layers": 6, "width": 768, "heads": 12, "biases": "qk"}, 50_000, 1024, "op", {}, 120.1),
        ({"layers": 12, "width": 768, "heads": 12}, 16_384, 512, "pre-ln", {"final_norm": "ln"}, 97.5),
        ({"layers": 24, "width": 1024, "heads": 16}, 16_384, 512, "pre-ln", {"final_norm": "ln"}, 318.8),
        ({"layers": 24, "width": 2048, "heads": 16}, 16_384, 512, "pre-ln", {"final_norm": "ln"}, 1241.5),
    ],
)
def test_the_paper_s_sizes(
    fields: dict[str, object], vocab: int, length: int, variant: str, changes: dict[str, object], millions: float
) -> None:
    """The 130M model is counted with the 1,024 positions of GPT-2's table, of which its 128 tokens use the first."""
    if vocab == 16_384:
        fields = fields | {"positions": "rope", "tied": True, "activation": "gelu"}
    block = BlockConfig.model_validate({**VARIANTS[variant], **changes})
    with torch.device("meta"):
        model = Transformer(TransformerConfig.model_validate({**fields, "block": block}), vocab, length)
    assert parameters(model) / 1e6 == pytest.approx(millions, rel=1e-3)


def test_blocks_of_the_130m_model_hold_42_5_million() -> None:
    with torch.device("meta"):
        model = Transformer(TransformerConfig(layers=6, width=768, heads=12), 50_000, 128)
    assert parameters(model.blocks) / 1e6 == pytest.approx(42.5, abs=0.05)


def test_initial_distributions() -> None:
    model = build(vocab=4_000, width=128, biases="all", block={"gains": "scalar", "attn_gain": 0.3})
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name
        elif name.endswith("attn_gain"):
            assert parameter.item() == pytest.approx(0.3)
        elif name.endswith("bias"):
            assert not parameter.any(), name
        else:
            assert (parameter == 1).all(), name


def test_the_embedding_scale_makes_the_stream_s_mean_square_one() -> None:
    model = build(vocab=4_000, width=256)
    stream = model.embed(torch.arange(4_000)[None, :LENGTH])
    assert stream.pow(2).mean().item() == pytest.approx(1.0, rel=0.05)


def test_tied_unembedding_is_the_embedding() -> None:
    model = build(tied=True)
    assert model.unembedding.weight is model.token_embedding.weight
    assert parameters(build()) - parameters(model) == VOCAB * 32


# -- forward pass --------------------------------------------------------------------------------------


def naive_forward(model: Transformer, ids: Tensor) -> Tensor:
    """The same function written token by token and head by head, from the paper's equations."""
    config, block = model.config, model.config.block
    outputs = []
    for sequence in ids:
        x = (
            config.embed_scale * model.token_embedding.weight[sequence]
            + config.position_scale * model.position_embedding.weight[: len(sequence)]
        )
        for place, layer in enumerate(model.blocks):
            attention = layer.attention
            x_qk = attention.norm_qk(x)
            x_v = x_qk if attention.norm_v is None else attention.norm_v(x)
            q, k = attention.query(x_qk), attention.key(x_qk)
            v = attention.value(x_v)
            heads = []
            for head in range(config.heads):
                columns = slice(head * config.head_width, (head + 1) * config.head_width)
                qh, kh, vh = attention.norm_q(q[:, columns]), attention.norm_k(k[:, columns]), v[:, columns]
                rows = []
                for t in range(len(sequence)):
                    scores = kh[: t + 1] @ qh[t] / math.sqrt(config.head_width)
                    if block.tanh_cap:
                        scores = block.tanh_cap * torch.tanh(scores / block.tanh_cap)
                    weights = torch.softmax(scores, 0)
                    if block.softmax_gamma:
                        weights = torch.clip((1 - block.softmax_gamma) * weights + block.softmax_gamma, 0, 1)
                    mixed = weights @ vh[: t + 1]
                    if block.gate is not None:
                        gate = attention.gate.weight[head] @ x_qk[t, columns] + attention.gate.bias[head]
                        mixed = mixed / (1 + torch.exp(-gate))
                    rows.append(mixed if block.attn_alpha == 0 else block.attn_alpha * vh[t] + block.attn_beta * mixed)
                heads.append(torch.stack(rows))
            x = layer.post_norm_attn(x + layer.attn_gain * attention.project(torch.cat(heads, dim=-1)))
            hidden = layer.mlp.up(config.mlp_input_scales[place] * layer.mlp.norm(x))
            slope = config.leaky_slope
            hidden = (
                torch.nn.functional.gelu(hidden)
                if config.activation == "gelu"
                else hidden.where(hidden > 0, slope * hidden)
            )
            x = layer.post_norm_mlp(x + layer.mlp_gain * layer.mlp.down(hidden))
        outputs.append(model.unembedding(model.final_norm(x)))
    return torch.stack(outputs)


FORWARD: dict[str, Callable[[Transformer, Tensor], Tensor]] = {
    "fused": lambda model, ids: model(ids),
    "written out": lambda model, ids: model.unembedding(model.encode(ids, observe=lambda *_: None)),
}
"""The two ways in which attention is computed: by one kernel, and product by product for an observer."""

CASES: list[dict[str, object]] = [
    *({"variant": name} for name in VARIANTS),
    {"variant": "op", "block": {"post_qk": "none", "tanh_cap": 2.0, "attn_gain": 0.3, "mlp_gain": 0.3}},
    {"variant": "op", "block": {"gains": "vector", "attn_gain": 0.1}, "activation": "gelu", "biases": "all"},
    {"variant": "pre-ln", "block": {"attn_alpha": 1.0, "attn_beta": 0.2, "mlp_gain": 0.2}},
    {"variant": "pre-ln", "block": {"mlp_input_scale": "unit-preactivation", "final_norm": "ln"}},
    {"variant": "op", "block": {"mlp_input_scale": "unit-stream", "attn_gain": 0.5}, "activation": "gelu"},
    {"variant": "pre-ln", "block": {"softmax_gamma": -0.1}},
    {"variant": "op", "block": {"gate": 0.5, "softmax_gamma": -0.05}},
    {"variant": "op", "block": {"pre_v": "rms", "post_qk": "rms"}},
    {"variant": "op", "block": {"pre_qk": "rms", "post_qk": "rms"}},
    {"variant": "pre-ln", "activation": "leaky-relu", "leaky_slope": 0.4},
    {"variant": "op", "position_scale": 20.0},
]


@pytest.mark.parametrize("forward", FORWARD)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_agrees_with_the_equations(case: dict[str, object], forward: str) -> None:
    model, ids = build(**case), tokens(batch=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        torch.testing.assert_close(FORWARD[forward](model, ids), naive_forward(model, ids), rtol=1e-3, atol=1e-3)


def test_a_gate_begins_at_its_probability_and_has_k_plus_one_parameters_a_head() -> None:
    """With the initial gate everywhere, attention is that probability times plain attention."""
    gated, plain = build("pre-ln-gated"), build("pre-ln")
    extra = parameters(gated) - parameters(plain)
    assert extra == gated.config.layers * gated.config.heads * (gated.config.head_width + 1)
    attention = gated.blocks[0].attention
    with torch.no_grad():
        attention.gate.weight.zero_()
    x = torch.randn(2, LENGTH, 32, generator=torch.Generator().manual_seed(3))
    values = torch.randn(2, 4, LENGTH, 8, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(attention.gate(x) * values, 0.25 * values)


def test_a_clipped_row_of_small_probabilities_is_zero_and_passes_no_gradient() -> None:
    """With gamma -0.1, probabilities of at most 0.1 / 1.1 become exactly 0: here 1 / 16 in the last row."""
    attention = build("pre-ln", block={"softmax_gamma": -0.1}).blocks[0].attention
    q = torch.zeros(1, 1, LENGTH, 8, requires_grad=True)
    mixed = attention._mix(q, torch.zeros(1, 1, LENGTH, 8), torch.ones(1, 1, LENGTH, 8), "", None)
    assert torch.equal(mixed[0, 0, -1], torch.zeros(8))
    assert torch.allclose(mixed[0, 0, 0], torch.ones(8))  # the first token attends to itself alone
    mixed[0, 0, -1].sum().backward()
    assert torch.equal(q.grad[0, 0, -1], torch.zeros(8))


def test_pre_ln_is_torchs_own_encoder_layer() -> None:
    """PyTorch's TransformerEncoderLayer with `norm_first` is a Pre-LN block; with our weights it gives our output."""
    model = build(biases="all", embed_scale=1.0)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 128, 0.0, "relu", batch_first=True, norm_first=True)
    ours = model.blocks[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        attention = ours.attention
        layer.self_attn.in_proj_weight.copy_(
            torch.cat([attention.query.weight, attention.key.weight, attention.value.weight])
        )
        layer.self_attn.in_proj_bias.copy_(torch.cat([attention.query.bias, attention.key.bias, attention.value.bias]))
        layer.self_attn.out_proj.load_state_dict(attention.project.state_dict())
        layer.linear1.load_state_dict(ours.mlp.up.state_dict())
        layer.linear2.load_state_dict(ours.mlp.down.state_dict())
        for theirs, norm in ((layer.norm1, attention.norm_qk), (layer.norm2, ours.mlp.norm)):
            theirs.weight.copy_(norm.gain)
            theirs.bias.copy_(norm.bias)
        x = model.embed(tokens())
        mask = torch.nn.Transformer.generate_square_subsequent_mask(LENGTH)
        torch.testing.assert_close(ours(x), layer(x, src_mask=mask, is_causal=True), rtol=1e-4, atol=1e-4)


def gpt2(weights: dict[str, Tensor], ids: Tensor, layers: int, heads: int) -> Tensor:
    """GPT-2 as released (Radford et al. 2019), in numpy's float64, with the names and the layout of its checkpoint.

    The matrices of a checkpoint map from their rows to their columns, queries, keys and values come out of one of them,
    and the activation is the tanh form of GELU.
    """
    w = {name: weight.double().numpy() for name, weight in weights.items()}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    outputs = []
    for sequence in ids.numpy():
        length = len(sequence)
        x = w["wte.weight"][sequence] + w["wpe.weight"][:length]  # (T, D)
        for layer in range(layers):
            q, k, v = np.split(linear(norm(x, f"h.{layer}.ln_1"), f"h.{layer}.attn.c_attn"), 3, axis=-1)
            mixed = np.empty_like(q)
            for columns in np.split(np.arange(q.shape[1]), heads):
                scores = q[:, columns] @ k[:, columns].T / math.sqrt(len(columns))
                scores[np.triu_indices(length, 1)] = -np.inf
                odds = np.exp(scores - scores.max(-1, keepdims=True))
                mixed[:, columns] = odds / odds.sum(-1, keepdims=True) @ v[:, columns]
            x = x + linear(mixed, f"h.{layer}.attn.c_proj")
            hidden = linear(norm(x, f"h.{layer}.ln_2"), f"h.{layer}.mlp.c_fc")
            hidden = 0.5 * hidden * (1 + np.tanh(math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)))
            x = x + linear(hidden, f"h.{layer}.mlp.c_proj")
        outputs.append(norm(x, "ln_f") @ w["wte.weight"].T)
    return torch.from_numpy(np.stack(outputs)).float()


def gpt2_checkpoint(model: Transformer) -> dict[str, Tensor]:
    """The weights of `model` under the names and in the layout of a GPT-2 checkpoint."""
    weights = {"wte.weight": model.token_embedding.weight, "wpe.weight": model.position_embedding.weight}
    weights |= {"ln_f.weight": model.final_norm.gain, "ln_f.bias": model.final_norm.bias}
    for index, block in enumerate(model.blocks):
        attention, mlp, at = block.attention, block.mlp, f"h.{index}"
        for name, norm in (("ln_1", attention.norm_qk), ("ln_2", mlp.norm)):
            weights |= {f"{at}.{name}.weight": norm.gain, f"{at}.{name}.bias": norm.bias}
        parts = (attention.query, attention.key, attention.value)
        weights[f"{at}.attn.c_attn.weight"] = torch.cat([part.weight for part in parts]).T
        weights[f"{at}.attn.c_attn.bias"] = torch.cat([part.bias for part in parts])
        for name, part in (("attn.c_proj", attention.project), ("mlp.c_fc", mlp.up), ("mlp.c_proj", mlp.down)):
            weights |= {f"{at}.{name}.weight": part.weight.T, f"{at}.{name}.bias": part.bias}
    return {name: weight.detach() for name, weight in weights.items()}


def test_pre_ln_with_biases_gelu_and_a_tied_unembedding_is_gpt2() -> None:
    """Up to the form of GELU: GPT-2 approximates by tanh what is exact here, at most 5e-4 a neuron."""
    fields = {"biases": "all", "embed_scale": 1.0, "tied": True, "activation": "gelu"}
    model = build("pre-ln", block={"final_norm": "ln"}, **fields)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        expected = gpt2(gpt2_checkpoint(model), tokens(), layers=2, heads=4)
        torch.testing.assert_close(model(tokens()), expected, rtol=0, atol=2e-3)
    assert expected.std() > 0.3, "the tolerance is small against what is compared"


@pytest.mark.parametrize("forward", FORWARD)
@pytest.mark.parametrize("variant", list(VARIANTS))
def test_no_token_sees_the_future(variant: str, forward: str) -> None:
    model, ids = build(variant), tokens()
    changed = ids.clone()
    changed[:, 10:] = (changed[:, 10:] + 1) % VOCAB
    with torch.no_grad():
        before, after = (FORWARD[forward](model, x)[:, :10] for x in (ids, changed))
    torch.testing.assert_close(before, after)


def test_op_at_initialisation_is_homogeneous_and_pre_v_or_plain_attention_breaks_it() -> None:
    def response(**block: object) -> float:
        layer = build("op", biases="none", init_std=0.2, block=block).blocks[0].double()
        x = torch.randn(1, LENGTH, 32, dtype=torch.float64)
        with torch.no_grad():
            return float((layer(8 * x) - 8 * layer(x)).norm() / layer(8 * x).norm())

    # The norms themselves compute in float32.
    assert response(attn_gain=0.3, mlp_gain=0.3) < 1e-4
    assert response(attn_gain=0.3, mlp_gain=0.3, pre_v="rms") > 0.01
    assert response(attn_gain=0.3, mlp_gain=0.3, pre_mlp="rms") > 0.01
    assert response(attn_gain=0.3, mlp_gain=0.3, post_qk="none") > 0.01


def test_the_rows_of_table_3_are_homogeneous_where_the_spec_says_so() -> None:
    """block(8 x) = 8 block(x) for what the branches of each row, as the spec configures it, add to x at initialisation.

    A homogeneous row is off by the epsilon of its norms, 2e-5 here, and by their float32; the others by 0.3 and more.
    """
    experiment = load_experiment("tab3")
    distances = {}
    for run in resolve(experiment, "smoke", seeds=1, fingerprint=lambda data: "").runs:
        torch.manual_seed(0)
        block = Transformer(run.config.model, VOCAB, LENGTH).blocks[0].double()
        x = torch.randn(2, LENGTH, run.config.model.width, dtype=torch.float64)
        with torch.no_grad():
            added, scaled = block(x) - x, block(8 * x) - 8 * x
        distances[run.name] = float((scaled - 8 * added).norm() / (8 * added).norm())
    published = {name: row["homogeneous"] for name, row in experiment.published.items()}
    assert {name: distance < 1e-4 for name, distance in distances.items()} == published
    assert all(distance > 0.2 for name, distance in distances.items() if not published[name])
    assert sorted(published.values()) == [False] * 5 + [True] * 3


def test_qk_norm_hides_the_scale_of_queries_and_keys() -> None:
    for variant, hidden in (("op", True), ("pre-ln", False)):
        model, ids = build(variant, biases="none", block={"post_qk": "rms"} if hidden else {}), tokens()
        with torch.no_grad():
            before = model(ids)
            model.blocks[0].attention.query.weight.mul_(100)
            model.blocks[0].attention.key.weight.mul_(100)
            assert torch.allclose(model(ids), before, atol=1e-3) is hidden


def test_without_the_softmax_the_values_alone_count() -> None:
    """At beta 0 nothing that acts on queries and keys changes the output, so `BlockConfig` refuses to choose it."""
    block = {"attn_alpha": 1.0, "attn_beta": 0.0}
    plain, normed, shared = (
        build("naive", block=block | norms) for norms in ({}, {"pre_v": "rms"}, {"pre_v": "rms", "pre_qk": "rms"})
    )
    ids = tokens()
    with torch.no_grad():
        assert torch.equal(normed(ids), shared(ids))
        before = plain(ids)
        assert not torch.allclose(before, normed(ids), rtol=1e-2)
        attention = plain.blocks[0].attention
        attention.cap = 2.0
        attention.norm_q = attention.norm_k = RMSNorm(8, trained=False)
        attention.query.weight.mul_(100)
        assert torch.equal(plain(ids), before)


def test_rotary_positions_keep_norms_and_depend_on_distance_alone() -> None:
    cos, sin = rotary_angles(LENGTH, 8, torch.device("cpu"))
    q, k = torch.randn(1, 1, 1, 8).expand(1, 1, LENGTH, 8), torch.randn(1, 1, 1, 8).expand(1, 1, LENGTH, 8)
    rotated_q, rotated_k = rotate(q, cos, sin)[0, 0], rotate(k, cos, sin)[0, 0]
    torch.testing.assert_close(rotated_q.norm(dim=-1), q[0, 0].norm(dim=-1))
    scores = rotated_q @ rotated_k.T
    torch.testing.assert_close(scores.diagonal(3), scores[0, 3].expand(LENGTH - 3), rtol=1e-4, atol=1e-4)


# -- what it shows -------------------------------------------------------------------------------------


def test_observer_sees_each_layer_s_input_its_normalised_form_and_its_masked_logits() -> None:
    model, ids = build("pre-ln"), tokens()
    seen: dict[tuple[str, str], Tensor] = {}
    with torch.no_grad():
        end = model.encode(ids, lambda point, layer, x: seen.__setitem__((point, layer), x.clone()))
    assert sorted({layer for point, layer in seen if point == "residual"}) == ["1", "2", "unembed"]
    torch.testing.assert_close(seen["residual", "1"], model.embed(ids))
    torch.testing.assert_close(seen["residual", "unembed"], end)
    torch.testing.assert_close(seen["attention-input", "2"], model.blocks[1].attention.norm_qk(seen["residual", "2"]))
    assert torch.isneginf(seen["attention-logits", "1"][..., 0, 1]).all()
    between, block = seen["mlp-input", "2"], model.blocks[1]
    torch.testing.assert_close(between, seen["residual", "2"] + block.attention(seen["residual", "2"], "", None))
    torch.testing.assert_close(seen["residual", "unembed"], between + block.mlp(between))


def test_observing_changes_nothing_beyond_rounding() -> None:
    """An observer is shown the logits, which the fused kernel does not have, so the order of operations differs."""
    model, ids = build("op"), tokens()
    with torch.no_grad():
        torch.testing.assert_close(model.encode(ids), model.encode(ids, lambda *_: None), rtol=1e-5, atol=1e-5)


def test_the_loss_is_the_cross_entropy_of_the_logits() -> None:
    model, ids = build("op"), tokens(batch=3)
    logits = model(ids)[:, :-1]
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    torch.testing.assert_close(model.next_token_loss(ids), expected)


def test_encoding_some_blocks_ends_at_the_next_one_s_input() -> None:
    model, ids = build(), tokens()
    with torch.no_grad():
        torch.testing.assert_close(model.encode(ids, blocks=1), model.blocks[0](model.embed(ids)))


def test_same_seed_same_weights() -> None:
    first, second, other = build(seed=3), build(seed=3), build(seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.unembedding.weight, other.unembedding.weight)
