"""Queries and keys of attention that gets them, with the values, from one matrix.

H heads of width h; G groups of heads that share their keys and values:

    parts      q (H h) | k (G h) | v (G h)                 GPT-2 (G = H), Phi-3; Falcon-7B and GPT-BigCode (G = 1)
    groups     for each group q (H/G h) | k (h) | v (h)    GPT-NeoX and BLOOM (G = H), Falcon-40B

A layout is looked up by the class of the attention, because the shape of a matrix does not tell layouts apart.
Source: `transformers` 5.24, `models/*/modeling_*.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Split = Callable[[Tensor], tuple[Tensor, Tensor]]
"""What the matrix returns (B, T, all) -> queries (B, T, H h) and keys (B, T, G h)."""

FUSED = re.compile(r"^(query_key_value|qkv|qkv_proj|c_attn|Wqkv|in_proj|qkv_layer|att_proj)$")
"""Names of such a matrix."""


def find_fused(attention: nn.Module) -> tuple[nn.Module, Split | None] | None:
    """The matrix that gives queries, keys and values together, and how to part them; None where there is no such one.

    The second value is None if the layout of this class of attention is not known.
    """
    matrix = next((one for name, one in attention.named_modules() if FUSED.match(name.rpartition(".")[2])), None)
    if matrix is None:
        return None
    layout = next((split for kind, split in _LAYOUTS.items() if type(attention).__name__.startswith(kind)), None)
    return matrix, None if layout is None else layout(attention)


def _parts(queries: int, keys: int) -> Split:
    return lambda y: (y[..., :queries], y[..., queries : queries + keys])


def _groups(groups: int, queries: int, width: int) -> Split:
    """For each of `groups` the queries of so many heads, one key and one value."""

    def split(y: Tensor) -> tuple[Tensor, Tensor]:
        parted = y.unflatten(-1, (groups, queries + 2, width))  # (B, T, G, H/G + 2, h)
        return parted[..., :-2, :].flatten(2), parted[..., -2, :].flatten(2)

    return split


def _gpt2(attention: Any) -> Split:
    return _parts(attention.embed_dim, attention.embed_dim)


def _phi3(attention: Any) -> Split:
    config = attention.config
    return _parts(config.num_attention_heads * attention.head_dim, config.num_key_value_heads * attention.head_dim)


def _neox(attention: Any) -> Split:
    return _groups(attention.config.num_attention_heads, 1, attention.head_size)


def _bloom(attention: Any) -> Split:
    return _groups(attention.num_heads, 1, attention.head_dim)


def _falcon(attention: Any) -> Split:
    heads, width = attention.num_heads, attention.head_dim
    if attention.new_decoder_architecture:
        return _groups(attention.num_kv_heads, heads // attention.num_kv_heads, width)
    return _parts(heads * width, width) if attention.multi_query else _groups(heads, 1, width)


def _bigcode(attention: Any) -> Split:
    if attention.multi_query:
        return _parts(attention.embed_dim, attention.kv_dim)
    return _groups(attention.num_heads, 1, attention.head_dim)


_LAYOUTS: dict[str, Callable[[Any], Split]] = {
    "GPT2Attention": _gpt2,
    "Phi3Attention": _phi3,
    "GPTNeoXAttention": _neox,
    "BloomAttention": _bloom,
    "Falcon": _falcon,
    "GPTBigCode": _bigcode,
}
"""How the name of a class of attention starts -> its layout."""
