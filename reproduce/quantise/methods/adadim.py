"""AdaDim (Heo et al., ICLR 2024, arXiv 2309.15531): weights are grouped along inputs or outputs, whichever loses less.

    per-OC    groups of g neighbouring inputs in each row of W (outputs, inputs)
    per-IC    groups of g neighbouring outputs in each column: per-OC of W^T, transposed back
    choice    argmin over the two of the mean of (f(x; W) - f(x; Q(W)))^2 on calibration inputs

With per-IC an activation outlier on one channel meets weights whose scale no other channel shares. f is the attention
block for queries, keys and values, the MLP for its first layer, and the linear layer itself for the others. Layers are
chosen in the order of the model: those before stay quantised, and f(x; W) is computed anew with them. Source:
`quantize/rtn_ada.py` of johnheo/adadim-llm.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reproduce.quantise.linears import Inputs, QuantisedLinear, replace, sharing
from reproduce.quantise.methods.smoothquant import reads_the_stream
from reproduce.quantise.quantisers import Scheme

Dimension = Literal["oc", "ic"]
DIMENSIONS: tuple[Dimension, ...] = ("oc", "ic")


def per(weight: Tensor, dimension: Dimension, scheme: Scheme) -> Tensor:
    """`weight` (m, k) in groups along inputs (oc) or outputs (ic); `scheme` has their length and their grid.

    Raises:
        ValueError: the axis is no multiple of the group's length.
    """
    return scheme(weight) if dimension == "oc" else scheme(weight.T.contiguous()).T


def choose(output: Callable[[Tensor], Tensor], weight: Tensor, scheme: Scheme) -> tuple[Dimension, Tensor]:
    """The better dimension for one layer, and its weight quantised along it.

    Args:
        output: what the layer's block gives with this weight in the layer's place; any shape.
        weight: the layer's weight (m, k).
        scheme: as for `per`.
    """
    wanted = output(weight)
    tried = {dimension: per(weight, dimension, scheme) for dimension in DIMENSIONS}
    errors = {dimension: float((wanted - output(made)).square().mean()) for dimension, made in tried.items()}
    best = min(DIMENSIONS, key=lambda dimension: errors[dimension])
    return best, tried[best]


@dataclass(frozen=True)
class _Call:
    """The arguments with which a block is called on calibration text."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@torch.no_grad()
def quantise(
    model: nn.Module, inputs: Mapping[str, Inputs], run: Callable[[nn.Module], object], scheme: Scheme
) -> tuple[nn.Module, dict[str, Dimension]]:
    """A copy of `model` with quantised linear layers, and the dimension of each.

    Args:
        inputs: what calibration saw enter each linear layer, in the order of the model.
        run: runs the model on calibration text.
        scheme: asymmetric, in groups along the last axis.
    """
    blocks = {name: _block_of(model, name, group) for group in sharing(inputs).values() for name in group}
    calls = _record(model, [block for block in blocks.values() if block is not None], run)
    made, chosen = copy.deepcopy(model), dict[str, Dimension]()
    for name, known in inputs.items():
        linear, block = made.get_submodule(name), blocks[name]
        assert isinstance(linear, nn.Linear)
        weight = linear.weight.data

        def output(tried: Tensor, linear: Any = linear, block: str | None = block, x: Tensor = known.rows) -> Tensor:
            if block is None:
                return x @ tried.T
            linear.weight.data = tried
            call = calls[block]
            given = made.get_submodule(block)(*call.args, **call.kwargs)
            return given if isinstance(given, Tensor) else given[0]

        chosen[name], quantised = choose(output, weight, scheme)
        replace(made, name, QuantisedLinear(quantised, linear.bias))
    return made, chosen


def _block_of(model: nn.Module, name: str, group: Sequence[str]) -> str | None:
    """The module whose output judges a layer that reads the stream: the one that holds it. None for other layers."""
    return name.rpartition(".")[0] if reads_the_stream(model, group) else None


def _record(model: nn.Module, blocks: Sequence[str], run: Callable[[nn.Module], object]) -> dict[str, _Call]:
    """The arguments of the first call of each block."""
    calls: dict[str, _Call] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def look(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.setdefault(name, _Call(args, kwargs))

        return look

    handles = [
        model.get_submodule(name).register_forward_pre_hook(hook(name), with_kwargs=True)
        for name in dict.fromkeys(blocks)
    ]
    try:
        run(model)
    finally:
        for handle in handles:
            handle.remove()
    return calls
