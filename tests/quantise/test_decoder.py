"""The decoder with places against the transformer that is trained: the same logits, whatever the block."""

from __future__ import annotations

import pytest
import torch

from reproduce.config import BlockConfig, TransformerConfig
from reproduce.models.transformer import Transformer
from reproduce.models.variants import VARIANTS
from reproduce.quantise import protocol
from reproduce.quantise.decoder import decoder_of

CHOICES = {
    **{name: {"block": fields} for name, fields in VARIANTS.items()},
    "clipped": {"block": VARIANTS["pre-ln"] | {"softmax_gamma": -0.1}},
    "capped": {"block": {"tanh_cap": 3.0}},
    "value-skipinit": {"block": VARIANTS["pre-ln"] | {"attn_alpha": 0.5, "attn_beta": 0.3}},
    "layer-scale": {"block": VARIANTS["op"] | {"gains": "vector", "attn_gain": 0.3, "mlp_gain": 0.2}},
    "scalar gains, tied": {"tied": True, "block": {"post_qk": "ln", "gains": "scalar", "attn_gain": 0.2}},
    "scaled embeddings and positions": {"embed_scale": 2.0, "position_scale": 3.0, "block": VARIANTS["pre-ln"]},
    "pre-v alone": {"block": {"pre_v": "rms", "post_qk": "rms", "final_norm": "ln"}},
    "rope, gelu, biases": {"positions": "rope", "activation": "gelu", "biases": "all", "embed_scale": 50.0},
    "leaky": {"activation": "leaky-relu", "leaky_slope": 0.2, "block": {"mlp_input_scale": "unit-preactivation"}},
}


def model(changes: dict[str, object], seed: int = 0) -> Transformer:
    """A small transformer, whose norms and biases differ from their initialisation."""
    block = BlockConfig.model_validate(changes.get("block", {}))
    config = TransformerConfig.model_validate(
        {"layers": 2, "width": 16, "heads": 2, "init_std": 0.3, **changes, "block": block}
    )
    torch.manual_seed(seed)
    made = Transformer(config, vocab_size=40, max_length=12).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn_like(parameter)
    return made


TOKENS = torch.randint(0, 40, (3, 12), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("choice", CHOICES)
def test_logits_are_those_of_the_transformer(choice: str) -> None:
    trained = model(CHOICES[choice])
    with torch.no_grad():
        wanted = trained(TOKENS)
    torch.testing.assert_close(decoder_of(trained)(TOKENS), wanted, rtol=1e-4, atol=1e-5)
    assert wanted.std() > 0.01


def test_the_decoder_holds_copies() -> None:
    trained = model({})
    decoder = decoder_of(trained)
    before = decoder(TOKENS)
    with torch.no_grad():
        trained.token_embedding.weight.zero_()
    assert torch.equal(decoder(TOKENS), before)


@pytest.mark.parametrize("block", ["pre-ln", "pre-ln-gated"])
def test_opt_125m_has_257_quantisers(block: str) -> None:
    """21 L + 5 (arXiv 2306.12929's code), here of 12 layers, whatever their width."""
    fields = {"layers": 12, "biases": "all", "tied": True, "block": VARIANTS[block] | {"final_norm": "ln"}}
    assert len(protocol.quantise(decoder_of(model(fields)), 4, 4)) == 257


def test_op_has_quantisers_at_its_qk_norms() -> None:
    """OP of the OPT models has norms of queries and keys alone: 21 L + 3, without those of a final norm."""
    fields = {"biases": "all", "tied": True, "block": {"post_qk": "ln", "gains": "scalar"}}
    made = protocol.quantise(decoder_of(model(fields)))
    assert len(made) == 21 * 2 + 3
    assert "blocks.1.attention.norm-q" in made.places
    assert "blocks.1.attention.norm_q.gain" in made.weights
    assert not any("attn_gain" in name or "bias" in name for name in made.weights)


def test_head_and_gates_stay_in_float() -> None:
    decoder = decoder_of(model({"tied": True, "block": VARIANTS["pre-ln-gated"]}))
    made = protocol.quantise(decoder, 2, None).decoder
    kept = {name for name, tensor in decoder.state_dict().items() if torch.equal(tensor, made.state_dict()[name])}
    biases = {name for name, _ in decoder.named_parameters() if name.endswith("bias")}
    gates = {f"blocks.{layer}.attention.gate.weight" for layer in range(2)}
    assert kept == biases | gates | {"unembedding.weight"}


def test_sixteen_bits_change_little() -> None:
    """Static ranges still clip at their percentile, so that the loss is nearly but not quite that in full precision."""
    decoder = decoder_of(model(CHOICES["op"]))
    made = protocol.quantise(decoder, 16, 16).calibrate([TOKENS])
    difference = (made.decoder(TOKENS) - decoder(TOKENS)).abs().max()
    assert 0 < difference < 0.02 * decoder(TOKENS).std()


def test_static_ranges_need_a_batch() -> None:
    made = protocol.quantise(decoder_of(model({})))
    with pytest.raises(ValueError, match="at least one calibration batch"):
        made.calibrate([])


def test_ranges_are_frozen_after_calibration() -> None:
    made = protocol.quantise(decoder_of(model(CHOICES["pre-ln"]))).calibrate([TOKENS])
    scales = {name: float(place.grid.scale) for name, place in made.places.items() if place.grid is not None}
    made.decoder(TOKENS.flip(0))
    assert {name: float(place.grid.scale) for name, place in made.places.items() if place.grid is not None} == scales
