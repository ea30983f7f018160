"""OPT in this package's model: what its configuration is, and how the names of its weights map.

OPT (Zhang et al., arXiv 2205.01068) is a Pre-LN decoder with ReLU, learnt positions, biases everywhere, a final norm
and a tied head. Its table of positions begins with two rows that no token uses. The checkpoints of Bondarenko et al.
(arXiv 2306.12929) may add gates, one linear layer for each head, under the name `self_attn.alpha`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from reproduce.config import BlockConfig, TransformerConfig
from reproduce.errors import OfeError

FIRST_POSITION = 2
"""Row of the table of positions that the first token uses."""

_TOP = {
    "token_embedding.weight": "embed_tokens.weight",
    "position_embedding.weight": "embed_positions.weight",
    "final_norm.gain": "final_layer_norm.weight",
    "final_norm.bias": "final_layer_norm.bias",
}
_NORMS = {"attention.norm_qk": "self_attn_layer_norm", "mlp.norm": "final_layer_norm"}
_LINEARS = {
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.project": "self_attn.out_proj",
    "mlp.up": "fc1",
    "mlp.down": "fc2",
}
"""Names in our model -> names in OPT's, within a block."""


def opt_config(
    layers: int, width: int, heads: int, mlp_width: int, *, gated: bool = False, gamma: float = 0.0
) -> TransformerConfig:
    """The configuration of an OPT model.

    Args:
        gated: whether it has gated attention.
        gamma: of clipped softmax; 0 for the plain one.
    """
    norms = {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln", "final_norm": "ln"}
    block = BlockConfig.model_validate(norms | {"gate": 0.25 if gated else None, "softmax_gamma": gamma})
    return TransformerConfig(
        layers=layers, width=width, heads=heads, mlp_ratio=mlp_width / width, biases="all", tied=True, block=block
    )


def weights_from_opt(weights: Mapping[str, Tensor], layers: int, heads: int) -> dict[str, Tensor]:
    """The weights of a `Decoder` from those of an OPT checkpoint, by their names in `transformers`.

    Raises:
        OfeError: a weight is missing, or its gates are not one linear layer for each head.
    """
    prefix = next((p for p in ("model.decoder.", "decoder.", "") if p + "embed_tokens.weight" in weights), "")

    def get(name: str) -> Tensor:
        if prefix + name not in weights:
            raise OfeError(f"the checkpoint has no tensor {prefix + name}, which OPT has")
        return weights[prefix + name]

    ours = {name: get(theirs) for name, theirs in _TOP.items()}
    ours["unembedding.weight"] = weights.get("lm_head.weight", ours["token_embedding.weight"])
    for layer in range(layers):
        for name, theirs in _NORMS.items():
            ours[f"blocks.{layer}.{name}.gain"] = get(f"layers.{layer}.{theirs}.weight")
            ours[f"blocks.{layer}.{name}.bias"] = get(f"layers.{layer}.{theirs}.bias")
        for name, theirs in _LINEARS.items():
            for part in ("weight", "bias"):
                ours[f"blocks.{layer}.{name}.{part}"] = get(f"layers.{layer}.{theirs}.{part}")
        gate = f"layers.{layer}.self_attn.alpha"
        if any(name.startswith(prefix + gate) for name in weights):
            rows = [get(f"{gate}.{head}.weight").flatten() for head in range(heads)]
            ours[f"blocks.{layer}.attention.gate.weight"] = torch.stack(rows)  # (H, K)
            biases = [get(f"{gate}.{head}.bias").flatten() for head in range(heads)]
            ours[f"blocks.{layer}.attention.gate.bias"] = torch.cat(biases)  # (H,)
    return ours
