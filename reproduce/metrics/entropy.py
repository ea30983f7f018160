"""Entropy of attention: how widely queries spread their attention (v2 Eq 10).

    H = -(1/T) sum_{s,t} A_st log A_st        0 log 0 = 0,  natural logarithm,  mean over heads and sequences

It is log(T!)/T when causal attention is uniform, and falls to 0 when each query attends to one key (entropy collapse).
"""

from __future__ import annotations

import torch
from torch import Tensor

from reproduce.metrics.inputs import upcast


@torch.no_grad()
def attention_entropy(p: Tensor) -> Tensor:
    """Mean entropy of the attention probabilities `p` (..., T, T), whose last axis sums to 1; -> (), in O(BHT^2).

    With Value-SkipInit, `p` is the softmax before the identity is added. NaN if `p` is not finite.
    Source: v2 Eq 10.
    """
    return torch.special.entr(upcast(p)).sum(-1).mean()


@torch.no_grad()
def attention_entropy_from_logits(z: Tensor) -> Tensor:
    """Mean entropy of softmax(z) for masked, scaled, capped logits `z` (..., T, T), masked = -inf; -> (), in O(BHT^2).

    From the probabilities: softmax subtracts the largest logit, -p log p is never negative and vanishes where p
    underflows. The other form, logsumexp(z) - sum_t p_t z_t, is the difference of two numbers as large as the logits
    and loses all digits when these grow, which is when entropy collapses. NaN for a row that is masked throughout.
    Source: v2 Eq 10; the form is ours.
    """
    return attention_entropy(upcast(z).softmax(-1))
