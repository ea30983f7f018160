"""SmoothQuant (Xiao et al., ICML 2023, arXiv 2211.10438): part of the outliers moves from activations to weights.

    s_j = max_a |X_aj|^alpha / max_i |W_ij|^(1 - alpha),     Y = (X diag(s)^-1) (diag(s) W^T)

The maximum over the weights is over all layers that share the input. The authors smooth only the layers that read the
stream (queries, keys, values and the first of the MLP), with alpha = 0.5, and fold 1 / s into the norm before them.
Here the division is carried out on the inputs, which any block allows; it is counted as FLOPs. Where a norm with a gain
or a linear layer is directly before, it can be folded and costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from reproduce.quantise.linears import Inputs, sharing

ALPHA = 0.5
"""Strength of the migration, as the authors set it for OPT."""
SMALLEST = 1e-5
"""Least value of a weight's maximum and of a scale, as in the authors' `smooth.py`."""


class Divide:
    """Divides activations (..., k) by one number for each channel."""

    def __init__(self, by: Tensor) -> None:
        self.by = by

    def __call__(self, x: Tensor) -> Tensor:
        return x / self.by


def smoothing_scales(
    largest: Tensor, weights: Sequence[Tensor], alpha: float = ALPHA, beta: float | None = None
) -> Tensor:
    """The scale s_j of each input channel, (k,).

    Args:
        largest: largest magnitude of each input channel (k,), from calibration.
        weights: matrices (m, k) of all layers with this input.
        alpha: exponent of the activations.
        beta: exponent of the weights; 1 - alpha if None.
    """
    of_weights = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0).clamp(min=SMALLEST)
    scale = largest.clamp(min=SMALLEST) ** alpha / of_weights ** (1 - alpha if beta is None else beta)
    return scale.clamp(min=SMALLEST)


def reads_the_stream(model: nn.Module, group: Sequence[str]) -> bool:
    """Whether these layers with one input read the stream: several do, or one that has more outputs than inputs."""
    first = model.get_submodule(group[0])
    assert isinstance(first, nn.Linear)
    return len(group) > 1 or first.out_features > first.in_features


def smooth(model: nn.Module, inputs: Mapping[str, Inputs], alpha: float = ALPHA) -> dict[str, Tensor]:
    """The scales (k,) of every layer that is smoothed, by name; layers with one input have the same scales."""
    scales: dict[str, Tensor] = {}
    for group in sharing(inputs).values():
        if reads_the_stream(model, group):
            weights = [model.get_parameter(f"{name}.weight").detach() for name in group]
            shared = smoothing_scales(inputs[group[0]].largest, weights, alpha)
            scales |= dict.fromkeys(group, shared)
    return scales
