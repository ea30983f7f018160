"""Block floating point of keys with sorted channels (Trukhanov & Soloveychik 2024, arXiv 2403.20137).

    e = floor(log2 max |x|) over a block of n values,     step = 2^(e - (m - 2)),     x ~ step * integer of m bits

m counts the sign. BFP12 has m = 4 and an exponent of 8 bits: 4 + 8 / n bits a value. Within each head the channels of
the keys are ordered by their size, so that large ones share a block. The same order for queries leaves all scores as
they are, so that it costs nothing. With n the width of a head, order changes nothing. Rotary positions pair channels,
which then have to move together: such models are refused.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MANTISSA = 4
"""Bits of the mantissa, with its sign."""
EXPONENT = 8
"""Bits of the exponent that a block shares."""
SIZES = (64, 32, 16, 8)
"""Lengths of blocks of the study."""


def bits_per_value(size: int, mantissa: int = MANTISSA) -> float:
    return mantissa + EXPONENT / size


def block_floating_point(x: Tensor, size: int, mantissa: int = MANTISSA) -> Tensor:
    """`x` (..., k) in blocks of `size` neighbours along the last axis.

    Raises:
        ValueError: the axis is no multiple of `size`.
    """
    if x.shape[-1] % size:
        raise ValueError(f"an axis of {x.shape[-1]} is no multiple of blocks of {size}")
    blocks = x.float().reshape(-1, size)
    largest = blocks.abs().amax(1, keepdim=True)
    exponent = torch.floor(torch.log2(torch.where(largest > 0, largest, 1.0)))
    step = torch.exp2(exponent - (mantissa - 2))
    limit = 2 ** (mantissa - 1)
    return (torch.round(blocks / step).clamp(-limit, limit - 1) * step).view(x.shape)


def order(keys: Tensor) -> Tensor:
    """The channels of each head from the smallest to the largest norm: keys (B, H, T, K) -> (H, K) indices."""
    return keys.float().square().sum(dim=(0, 2)).argsort(dim=-1)


class KeyQuantiser(nn.Module):
    """Keys (B, H, T, K), or (B, T, H K) before they are cut into heads, in block floating point.

    The channels are put in order first and back afterwards: the same numbers as with projections whose rows are
    permuted.
    """

    def __init__(self, size: int, heads: int, channels: Tensor | None = None, mantissa: int = MANTISSA) -> None:
        """
        Args:
            size: length of a block.
            heads: H.
            channels: order of the channels of each head (H, K); None leaves them as they are.
        """
        super().__init__()
        self.size, self.heads, self.channels, self.mantissa = size, heads, channels, mantissa

    def forward(self, x: Tensor) -> Tensor:
        whole = x.ndim == 3
        keys = x.unflatten(-1, (self.heads, -1)).transpose(1, 2) if whole else x
        if self.channels is None:
            keys = block_floating_point(keys, self.size, self.mantissa)
        else:
            index = self.channels[None, :, None].expand_as(keys)
            inside = block_floating_point(keys.gather(-1, index), self.size, self.mantissa)
            keys = torch.empty_like(inside).scatter(-1, index, inside)
        return keys.transpose(1, 2).flatten(-2) if whole else keys
