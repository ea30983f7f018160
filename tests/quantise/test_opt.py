"""OPT's weights in our model against `transformers`' own OPT."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from reproduce.errors import OfeError
from reproduce.models.transformer import Transformer
from reproduce.quantise import opt
from reproduce.quantise.decoder import Decoder

VOCAB, LENGTH, WIDTH, HEADS, LAYERS = 60, 20, 32, 4, 3
TOKENS = torch.randint(0, VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: it is the reference")
    torch.manual_seed(0)
    model = transformers.OPTForCausalLM(
        transformers.OPTConfig(
            vocab_size=VOCAB, hidden_size=WIDTH, word_embed_proj_dim=WIDTH, num_hidden_layers=LAYERS, ffn_dim=4 * WIDTH,
            num_attention_heads=HEADS, max_position_embeddings=LENGTH, init_std=0.2, dropout=0.0
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def test_logits_are_those_of_transformers_opt(theirs: nn.Module) -> None:
    """For the decoder with places and for the transformer that is trained, which has no unused positions."""
    config = opt.opt_config(LAYERS, WIDTH, HEADS, 4 * WIDTH)
    weights = opt.weights_from_opt(theirs.state_dict(), LAYERS, HEADS)
    decoder = Decoder(config, VOCAB, LENGTH + opt.FIRST_POSITION, opt.FIRST_POSITION)
    decoder.load_state_dict(weights)
    trained = Transformer(config, VOCAB, LENGTH)
    trained.load_state_dict(
        weights | {"position_embedding.weight": weights["position_embedding.weight"][opt.FIRST_POSITION :]}
    )
    with torch.no_grad():
        wanted = theirs(TOKENS).logits
        torch.testing.assert_close(decoder(TOKENS), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(trained(TOKENS), wanted, rtol=1e-4, atol=1e-5)


def test_a_missing_tensor_is_named(theirs: nn.Module) -> None:
    weights = theirs.state_dict()
    del weights["model.decoder.layers.1.fc1.bias"]
    with pytest.raises(OfeError, match=r"has no tensor model\.decoder\.layers\.1\.fc1\.bias"):
        opt.weights_from_opt(weights, LAYERS, HEADS)
