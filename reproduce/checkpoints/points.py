"""Places inside a block where activations can be looked at, found by structure and by the names that models share.

    attn_out    what the attention branch returns
    mlp_out     what the MLP branch returns
    down_in     the input of the projection from the hidden width of the MLP down to that of the stream
    q, k        queries and keys as their projections return them, before norms and rotations

The down projection is the linear map of a block that leads from another width to that of the stream and lies in no
attention. Experts are not looked into.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from reproduce.checkpoints.fused import Split, find_fused
from reproduce.errors import OfeError

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_QUERY, _KEY = re.compile(r"^(q_proj|query|q_lin|q|wq)$"), re.compile(r"^(k_proj|key|k_lin|k|wk)$")


@dataclass(frozen=True)
class Place:
    """A module of a block, and whether its input or its output is looked at."""

    point: str
    module: nn.Module
    takes_input: bool
    part: Callable[[Tensor], Tensor] | None = None
    """Which part of what the module gives is looked at; None for all of it."""


def find_places(blocks: Sequence[nn.Module], width: int, points: Sequence[str]) -> list[Place]:
    """Where the `points` are in each of the `blocks` of a stream of this width.

    Raises:
        OfeError: a block has no such place. The message says what was looked for.
    """
    return [_place(point, block, width) for block in blocks for point in points]


def _place(point: str, block: nn.Module, width: int) -> Place:
    attention = next(((name, one) for name, one in block.named_children() if _is_attention(name, one)), None)
    inside = f"{attention[0]}." if attention else "\0"
    # The last one, since BERT has a linear map of that kind after its MLP in one module, and gated MLPs have one.
    down = [
        (name, one)
        for name, one in block.named_modules()
        if not name.startswith(inside) and (shape := _shape(one)) and shape[0] != width and shape[1] == width
    ]
    if point == "attn_out" and attention is not None:
        return Place(point, attention[1], takes_input=False)
    if point == "down_in" and down:
        return Place(point, down[-1][1], takes_input=True)
    if point == "mlp_out" and down:
        return Place(point, down[-1][1], takes_input=False)
    if point in ("q", "k") and attention is not None:
        pattern = _QUERY if point == "q" else _KEY
        found = [one for name, one in attention[1].named_modules() if pattern.match(name.rpartition(".")[2])]
        if found and _shape(found[0]):
            return Place(point, found[0], takes_input=False)
        if (fused := find_fused(attention[1])) is not None:
            matrix, split = fused
            if split is None:
                raise OfeError(
                    f"{type(attention[1]).__name__} gets queries, keys and values from one matrix, and in which order "
                    "they stand there is not known of this architecture",
                    hint=f"leave {point} out of --points",
                    exit_code=2,
                )
            return Place(point, matrix, takes_input=False, part=_part_of(split, point))
    looked = {
        "attn_out": "a part called attention or attn",
        "mlp_out": "a linear map from another width to that of the stream",
        "down_in": "a linear map from another width to that of the stream",
        "q": "a linear map of the attention that gives queries alone (q_proj, query)",
        "k": "a linear map of the attention that gives keys alone (k_proj, key)",
    }[point]
    raise OfeError(
        f"the point {point} was not found in {type(block).__name__}, which would be {looked}",
        hint=f"leave {point} out of --points",
        exit_code=2,
    )


def _part_of(split: Split, point: str) -> Callable[[Tensor], Tensor]:
    index = ("q", "k").index(point)
    return lambda y: split(y)[index]


def _is_attention(name: str, module: nn.Module) -> bool:
    norm = "norm" in type(module).__name__.lower() or "norm" in name.lower()
    if next(module.parameters(), None) is None:  # a dropout after attention
        return False
    return not norm and bool(_ATTENTION.search(name) or _ATTENTION.search(type(module).__name__))


def _shape(module: nn.Module) -> tuple[int, int] | None:
    """Widths that a linear map leads from and to. That of GPT-2, `Conv1D`, holds its matrix transposed."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
        weight = next(module.parameters())
        return weight.shape[0], weight.shape[1]
    return None
