"""Entropy of attention: how widely queries spread their attention (v2 Eq 10).

    H = -(1/T) sum_{s,t} A_st log A_st        0 log 0 = 0,  natural logarithm,  mean over heads and sequences

The entropy is log(T!)/T when causal attention is uniform, and 0 when each query attends to one key (entropy collapse).
"""

from __future__ import annotations

import torch
from torch import Tensor

from reproduce.metrics.inputs import upcast


@torch.no_grad()
def attention_entropy(p: Tensor) -> Tensor:
    """Mean entropy of attention probabilities `p`, (..., T, T) -> (), in O(BHT^2). The last axis of `p` sums to 1.

    With Value-SkipInit, `p` is the softmax before the identity is added. The result is NaN if `p` is not finite.
    Source: v2 Eq 10.
    """
    # entr(p) = -p log p, with entr(0) = 0: (..., T, T) -> (..., T) -> ()
    return torch.special.entr(upcast(p)).sum(-1).mean()


@torch.no_grad()
def attention_entropy_from_logits(z: Tensor) -> Tensor:
    """Mean entropy of softmax(z), (..., T, T) -> (), in O(BHT^2), for scaled and capped logits with -inf where masked.

    The result is NaN if all keys of a query are masked.
    Source: v2 Eq 10; the form is ours.
    """
    # The other form, logsumexp(z) - sum_t p_t z_t, is a difference of two numbers as large as the logits. It loses all
    # digits when the logits grow, which is just when entropy collapses; each -p log p is accurate by itself.
    return attention_entropy(upcast(z).softmax(-1))
