"""What autograd keeps for the backward pass, counted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def saved_bytes(module: nn.Module, loss: Callable[[], Tensor], precision: str, *, cache: bool = True) -> int:
    """Bytes of the tensors that `loss` saves, each storage once, the weights of `module` left out.

    Args:
        precision: "fp32" or "bf16".
        cache: whether autocast keeps its copies of the weights.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=cache)
    with saved_tensors_hooks(pack, lambda tensor: tensor), autocast:
        value = loss()  # held: what it saved lives as long as it does
    assert value.requires_grad
    return sum(kept.values())
