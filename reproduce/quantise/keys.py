"""The keys of a decoder's attention in block floating point, their channels sorted or as they are.

The keys are those after QK-Norm where there is one: before it they have another size, and its gains are part of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reproduce.quantise.decoder import Decoder, Place, PlacedAttention
from reproduce.quantise.methods.block_floating_point import KeyQuantiser, order


def quantise(decoder: Decoder, size: int, sorted_on: Sequence[Tensor] = ()) -> Decoder:
    """A copy of `decoder` whose keys are rounded.

    Args:
        size: length of a block, which divides the width of a head.
        sorted_on: batches of tokens (B, T), on whose keys the channels of each head are sorted by size; none leaves
            them as they are.
    """
    made, seen = copy.deepcopy(decoder), _keys_of(decoder, sorted_on)
    for name, module in made.named_modules():
        if isinstance(module, PlacedAttention):
            channels = order(torch.cat(seen[name])) if seen else None
            _place(module).quantiser = KeyQuantiser(size, module.heads, channels)
    return made


def _place(attention: PlacedAttention) -> Place:
    place = attention.places["norm-k" if "norm-k" in attention.places else "key"]
    assert isinstance(place, Place)
    return place


@torch.no_grad()
def _keys_of(decoder: Decoder, batches: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """Keys (B, H, T, K) of each attention on calibration batches, by the name of its module."""
    seen: dict[str, list[Tensor]] = {}
    handles = []
    for name, module in decoder.named_modules():
        if isinstance(module, PlacedAttention):
            place, heads = _place(module), module.heads

            def look(_: nn.Module, args: tuple[Tensor, ...], name: str = name, heads: int = heads) -> None:
                keys = args[0]
                keys = keys if keys.ndim == 4 else keys.unflatten(-1, (heads, -1)).transpose(1, 2)
                seen.setdefault(name, []).append(keys)

            handles.append(place.register_forward_pre_hook(look))
    for tokens in batches:
        decoder(tokens)
    for handle in handles:
        handle.remove()
    return seen
