"""Folded gains: the function stays, and the norms have none."""

from __future__ import annotations

import pytest
import torch

from reproduce.quantise.decoder import PlacedAttention, PlacedFeedForward, decoder_of
from reproduce.quantise.folding import fold_gains
from tests.quantise.test_decoder import CHOICES, TOKENS, model


@pytest.mark.parametrize("choice", CHOICES)
def test_folded_gains_keep_the_function(choice: str) -> None:
    decoder = decoder_of(model(CHOICES[choice]))
    wanted = decoder(TOKENS)
    fold_gains(decoder)
    torch.testing.assert_close(decoder(TOKENS), wanted, rtol=1e-3, atol=1e-4)
    for module in decoder.modules():
        if isinstance(module, PlacedAttention | PlacedFeedForward):
            norms = (module.norm_qk, module.norm_v) if isinstance(module, PlacedAttention) else (module.norm,)
            kept = [parameter for norm in norms if norm is not None for parameter in norm.parameters()]
            assert all(len(parameter.unique()) == 1 for parameter in kept)
