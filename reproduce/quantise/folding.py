"""Gain and bias of norms, folded into the layers that read them: W (g x + b) = (W g) x + W b.

Rotations need it, since a gain for each channel does not commute with them. Norms of queries and keys (QK-Norm) and the
final norm, whose reader is the head, are left as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from reproduce.models.transformer import HeadGate
from reproduce.quantise.decoder import Decoder, PlacedAttention, PlacedFeedForward


def fold_gains(decoder: Decoder) -> None:
    """Fold the norms before queries, keys, values, gates and MLPs, in place. The function stays as it is."""
    for module in decoder.modules():
        if isinstance(module, PlacedAttention):
            reads_qk = [module.query, module.key]
            if module.norm_v is None:
                reads_qk.append(module.value)
            else:
                _fold(module.norm_v, [module.value])
            _fold(module.norm_qk, reads_qk, gate=module.gate)
        elif isinstance(module, PlacedFeedForward):
            _fold(module.norm, [module.up], module.input_scale)


def _fold(norm: Any, readers: list[nn.Linear], scale: float = 1.0, gate: HeadGate | None = None) -> None:
    """Fold one norm into the linear layers and the gates that read it; `scale` multiplies the norm's output first."""
    gain, bias = getattr(norm, "gain", None), getattr(norm, "bias", None)
    if gain is None:
        return
    if bias is not None:
        for linear in readers:
            before: Any = 0.0 if linear.bias is None else linear.bias.data
            linear.bias = nn.Parameter(before + scale * (linear.weight.data @ bias.data), requires_grad=False)
        if gate is not None:  # each head reads its slice of the norm's output: (H, K)
            gate.bias.data = gate.bias.data + (gate.weight.data * bias.data.view(gate.weight.shape)).sum(1)
        bias.data = torch.zeros_like(bias.data)
    for linear in readers:
        linear.weight.data = linear.weight.data * gain.data
    if gate is not None:
        gate.weight.data = gate.weight.data * gain.data.view(gate.weight.shape)
    gain.data = torch.ones_like(gain.data)
