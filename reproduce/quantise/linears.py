"""The linear layers of a model: which they are, what enters them, and quantised ones in their place.

Everything here works on any module tree: `Decoder`, or a language model of `transformers`. A quantised layer computes

    y = Q_a(T x) Q_w(W)^T + (T x) L^T + b

where T is what a method does to the inputs (a division by channel, a rotation), and L is a branch of low rank in full
precision. Without quantisers it is the layer that it replaces, since W was changed to undo T and L.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROWS = 512
"""Number of inputs of each layer that calibration keeps, for methods that compare outputs."""

Map = Callable[[Tensor], Tensor]
"""A function of activations (..., d) that keeps their shape."""
Run = Callable[[nn.Module, Tensor], object]
"""Runs a model on tokens (B, T)."""


def run_model(model: nn.Module, tokens: Tensor) -> object:
    return model(tokens)


def linear_names(model: nn.Module) -> list[str]:
    """The names of the linear layers that are quantised: all but the head and gates, in the order of the modules."""
    output_embeddings = getattr(model, "get_output_embeddings", None)
    head = output_embeddings() if callable(output_embeddings) else getattr(model, "unembedding", None)
    named = model.named_modules()
    return [name for name, module in named if isinstance(module, nn.Linear) and module is not head]


def with_plain_linears(model: nn.Module) -> nn.Module:
    """`model`, in which the layers of GPT-2 that hold their weights transposed (`Conv1D`) are linear layers."""
    for name, module in list(model.named_modules()):
        if type(module).__name__ == "Conv1D":
            inputs, outputs = module.weight.shape
            linear = nn.Linear(inputs, outputs)
            linear.weight.data, linear.bias.data = module.weight.data.T.contiguous(), module.bias.data
            replace(model, name, linear)
    return model


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` in the place of the submodule `name`."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


@dataclass
class Inputs:
    """What calibration saw enter one linear layer."""

    largest: Tensor
    """Largest magnitude of each channel, (d,)."""
    rows: Tensor
    """The first inputs, (n, d) with n at most `ROWS`."""
    shared_with: str
    """The first of the layers with the very same input, such as the queries' for queries, keys and values."""
    sum_of_squares: Tensor = field(default_factory=lambda: torch.zeros(()))
    count: int = 0

    @property
    def rms(self) -> float:
        """Root mean square over all inputs and channels."""
        return float((self.sum_of_squares / self.count).sqrt())


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Tensor], run: Run = run_model) -> dict[str, Inputs]:
    """Run `model` on batches of tokens (B, T), and return what entered each of its linear layers, by name.

    Raises:
        ValueError: there is no batch.
    """
    seen: dict[str, Inputs] = {}
    last: list[tuple[str, Tensor]] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            # Layers that share an input run one after the other on the same tensor, which `last` keeps alive.
            if not (last and last[0][1] is x):
                last[:] = [(name, x)]
            flat = x.detach().float().flatten(0, -2)
            largest = flat.abs().amax(0)
            known = seen.setdefault(name, Inputs(largest, flat[:0], last[0][0]))
            known.largest = torch.maximum(known.largest, largest)
            known.rows = torch.cat([known.rows, flat[: ROWS - len(known.rows)]])
            known.sum_of_squares = known.sum_of_squares + flat.double().square().sum().cpu()
            known.count += flat.numel()

        return look

    handles = [model.get_submodule(name).register_forward_pre_hook(hook(name)) for name in linear_names(model)]
    try:
        for tokens in batches:
            run(model, tokens)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        raise ValueError("calibration needs at least one batch")
    return seen


class QuantisedLinear(nn.Module):
    """A linear layer with quantised weight and inputs, whose method's own parts stay in full precision."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        activation: Map | None = None,
        before: Map | None = None,
        low_rank: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """
        Args:
            weight: (m, k), already on its grid.
            bias: (m,).
            activation: the quantiser of the inputs, or None to leave them in float.
            before: what is done to the inputs first, in full precision.
            low_rank: up (m, r) and down (r, k), whose product is the branch of low rank.
        """
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight, requires_grad=False), bias
        self.activation, self.before, self.low_rank = activation, before, low_rank

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.before is None else self.before(x)
        y = F.linear(x if self.activation is None else self.activation(x), self.weight, self.bias)
        if self.low_rank is None:
            return y
        up, down = self.low_rank
        return y + F.linear(F.linear(x, down), up)


def quantise_linears(
    model: nn.Module, make: Callable[[str, nn.Linear], nn.Module], names: Iterable[str] | None = None
) -> nn.Module:
    """A copy of `model` in which `make` has replaced the linear layers `names`, or all that `linear_names` gives."""
    made = copy.deepcopy(model)
    for name in linear_names(model) if names is None else names:
        linear = made.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        replace(made, name, make(name, linear))
    return made


def sharing(inputs: Mapping[str, Inputs]) -> dict[str, list[str]]:
    """First layer -> all layers with the same input, itself among them."""
    groups: dict[str, list[str]] = {}
    for name, known in inputs.items():
        groups.setdefault(known.shared_with, []).append(name)
    return groups
