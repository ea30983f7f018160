"""What quantisation costs: the loss, the noise in each tensor, and what one tensor alone does to the logits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reproduce.quantise.linears import Map, QuantisedLinear, linear_names, quantise_linears
from reproduce.quantise.quantisers import Scheme, sqnr

Logits = Callable[[nn.Module, Tensor], Tensor]
"""Runs a model on tokens (B, T) and gives its logits (B, T, V)."""


@torch.no_grad()
def mean_loss(model: nn.Module, batches: Iterable[Tensor], logits: Logits) -> float:
    """Mean cross entropy in nats over the predicted tokens of all batches (B, T), summed in float64."""
    total, count = 0.0, 0
    for tokens in batches:
        predicted = logits(model, tokens)[:, :-1].float()
        losses = F.cross_entropy(predicted.flatten(0, 1), tokens[:, 1:].flatten().to(predicted.device), reduction="sum")
        total += float(losses.double())
        count += tokens[:, 1:].numel()
    return total / count


def kl_divergence(wanted: Tensor, got: Tensor) -> float:
    """Mean over positions of KL(softmax(wanted) || softmax(got)) in nats, for logits (B, T, V)."""
    p, q = (torch.log_softmax(logits.double(), dim=-1) for logits in (wanted, got))
    return float((p.exp() * (p - q)).sum(-1).mean())


@dataclass(frozen=True)
class TensorLoss:
    """What is lost of one tensor, quantised alone with one scale."""

    layer: str
    """Name of the linear layer."""
    tensor: str
    """`input` or `weight`."""
    sqnr_db: float
    kl: float | None
    """Of the logits, in nats; None where it was not asked for."""


@torch.no_grad()
def tensor_losses(
    model: nn.Module, tokens: Tensor, logits: Logits, weights: Scheme, activations: Scheme, count: int
) -> list[TensorLoss]:
    """The SQNR of the weight and of the input of each linear layer, the lowest first.

    Args:
        tokens: one batch (B, T), whose activations are quantised.
        logits: see `Logits`.
        weights, activations: how they are quantised.
        count: number of tensors, from the first on, of which the KL of the logits is computed too. Each takes a pass.
    """
    names = linear_names(model)
    found: dict[tuple[str, str], float] = {}

    def look(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[name, "input"] = sqnr(inputs[0], activations(inputs[0]))

        return hook

    handles = [model.get_submodule(name).register_forward_pre_hook(look(name)) for name in names]
    wanted = logits(model, tokens)
    for handle in handles:
        handle.remove()
    for name in names:
        weight = model.get_parameter(f"{name}.weight").detach()
        found[name, "weight"] = sqnr(weight, weights(weight))

    ordered = sorted(found, key=lambda place: found[place])
    divergences: dict[tuple[str, str], float] = {}
    for layer, tensor in ordered[:count]:

        def make(_: str, linear: nn.Linear, tensor: str = tensor) -> nn.Module:  # fmt: skip
            matrix = weights(linear.weight.data) if tensor == "weight" else linear.weight.data
            activation: Map | None = activations if tensor == "input" else None
            return QuantisedLinear(matrix, linear.bias, activation)

        divergences[layer, tensor] = kl_divergence(wanted, logits(quantise_linears(model, make, [layer]), tokens))
    return [
        TensorLoss(layer, tensor, found[layer, tensor], divergences.get((layer, tensor))) for layer, tensor in ordered
    ]
