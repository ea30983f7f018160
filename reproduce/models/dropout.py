"""Dropout whose mask is a function of an example's key and of the place in the model, and of nothing else.

    factor = 0 with probability rate, and 1 / (1 - rate) otherwise

Torch's own dropout draws from a generator, so that its masks depend on how a batch is cut into parts and on how many
devices share it. Here each number of an example is a hash of its key, its position and neuron, and the number of the
branch: a batch in parts, on several devices or recomputed in the backward pass meets the same mask.

The hash is two rounds of lowbias32 (Wellons, https://github.com/skeeto/hash-prospector), on 32 bits in int64.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BITS = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9


def _mix(x: Tensor) -> Tensor:
    x = x & _BITS
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _BITS
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _BITS
    return x ^ (x >> 16)


def dropped(x: Tensor, keys: Tensor, branch: int, rate: float) -> Tensor:
    """`x` (B, T, D) times the factors of dropout.

    Args:
        keys: of the examples, (B,) int64.
        branch: number of the place in the model, from 0 on.
        rate: probability of a 0.
    """
    places = torch.arange(x.shape[1] * x.shape[2], device=x.device)
    noise = _mix(_mix(places + branch * _GOLDEN).view(x.shape[1:]) ^ keys[:, None, None])  # (B, T, D)
    return torch.where(noise >= rate * 2.0**32, x / (1 - rate), 0.0)
