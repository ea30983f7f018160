"""Granularity: which numbers of a tensor share one scale.

`blocked` shows a tensor as blocks (n, m), a row for each scale, and `Blocks.restore` gives it its shape back.

    tensor       one scale for all                                   (1, numel)
    token        one for each position of activations (..., d)       (positions, d)
    channel      one for each output of a weight (outputs, inputs)   (outputs, inputs)
    group        one for g neighbours along the last axis            (numel / g, g)
    group-out    one for g neighbouring outputs of each input        (numel / g, g), of the transposed weight

`token` and `channel` are the same operation, the last axis, under the names that activations and weights have for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Granularity = Literal["tensor", "token", "channel", "group", "group-out"]


@dataclass(frozen=True)
class Blocks:
    """A tensor as rows that share a scale each."""

    rows: Tensor
    """(n, m)."""
    restore: Callable[[Tensor], Tensor]
    """From rows back to the tensor's own shape."""


def blocked(x: Tensor, granularity: Granularity, size: int = 0) -> Blocks:
    """The blocks of `x`.

    Args:
        x: any shape; a matrix for group-out.
        granularity: which numbers share a scale.
        size: length g of a group.

    Raises:
        ValueError: the axis is no multiple of the group's length.
    """
    if granularity == "tensor":
        return Blocks(x.reshape(1, -1), lambda rows: rows.view(x.shape))
    if granularity in ("token", "channel"):
        return Blocks(x.reshape(-1, x.shape[-1]), lambda rows: rows.view(x.shape))
    if granularity == "group-out":
        turned = blocked(x.T.contiguous(), "group", size)
        return Blocks(turned.rows, lambda rows: turned.restore(rows).T)
    if size < 1 or x.shape[-1] % size:
        raise ValueError(f"an axis of {x.shape[-1]} is no multiple of groups of {size}")
    return Blocks(x.reshape(-1, size), lambda rows: rows.view(x.shape))


def scales_per_weight(shape: tuple[int, int], granularity: Granularity, size: int = 0) -> float:
    """Number of scales of a weight (outputs, inputs), divided by the number of its entries."""
    outputs, inputs = shape
    entries = {"tensor": outputs * inputs, "channel": inputs, "token": inputs, "group": size, "group-out": size}
    return 1 / entries[granularity]
