"""One record for each optimiser: everything the rest of the package has to know of it without building it.

A new optimiser is a module in this folder and a row in `OPTIMIZERS`. The row makes its name valid in a spec, refuses
constants that it does not read, prices its state and its FLOPs in `ofe plan`, and gives it a numerics version. Nothing
here imports torch: `build_optimizer` loads the class that `built_by` names when a training starts.

Shapes: a parameter of shape (m, n), or (m, ...) taken as (m, product of the others); a vector (m,); a scalar ().
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from reproduce.config import OptimizerConfig

Shape = tuple[int, ...]

Role = Literal["embedding", "matrix", "vector", "gain"]
"""What a parameter is for, which decides how it is optimised; `reproduce.optim.groups` says which has which.

    embedding   the two ends of a model: inputs or positions into the stream, the stream into outputs
    matrix      the weight of any other linear layer or convolution
    vector      biases and the gains of norms
    gain        the strength of a residual branch: a SkipInit scalar or a LayerScale vector
"""


@dataclass(frozen=True)
class GroupRule:
    """How the parameters of one role are optimised."""

    decays: bool
    """Whether the configured weight decay applies."""
    rate_scale: float = 1.0
    """Factor on the learning rate of the step."""


GROUP_RULES: dict[Role, GroupRule] = {
    "embedding": GroupRule(decays=True),
    "matrix": GroupRule(decays=True),
    "vector": GroupRule(decays=False),
    "gain": GroupRule(decays=False),
}
"""The rule of each role, unless an optimiser's record has one of its own. The paper's code makes the same division."""


def _no_flops(shapes: Iterable[Shape], config: OptimizerConfig) -> float:
    """An elementwise update is not counted, as nothing elementwise is in `reproduce.models.size`."""
    return 0.0


@dataclass(frozen=True)
class OptimizerRecord:
    """What is known of one optimiser without torch."""

    built_by: str
    """`module:callable` that makes it, called with the parameter groups and the configuration."""
    reads: tuple[str, ...]
    """Fields of `OptimizerConfig` that change what it computes, beside `lr` and `weight_decay`, which all read."""
    elementwise: bool
    """Whether it does the same to a part of a tensor as to the whole: a part is what FSDP2 leaves on a device."""
    state_size: Callable[[Shape, OptimizerConfig], int]
    """Numbers that it keeps for a parameter of that shape, beside its step count."""
    step_flops: Callable[[Iterable[Shape], OptimizerConfig], float] = _no_flops
    """FLOPs a step of its matrix work for parameters of those shapes, averaged over steps."""
    group_rules: Mapping[Role, GroupRule] = field(default_factory=dict)
    """Rules that replace those of `GROUP_RULES`."""
    numerics_version: int = 1
    """Raised by whoever changes what it computes, even in the last digit; it takes part in the keys of runs."""


# ---------------------------------------------------------------------------------------------------
# State


def _momentum(shape: Shape, config: OptimizerConfig) -> int:
    """M, of the parameter's shape."""
    return math.prod(shape)


def _adam(shape: Shape, config: OptimizerConfig) -> int:
    """M and V, each of the parameter's shape."""
    return 2 * math.prod(shape)


def _factored(shape: Shape, config: OptimizerConfig) -> int:
    """M (m, n) with r (m,) and c (n,) in place of V; a vector keeps V whole."""
    if len(shape) < 2:
        return _adam(shape, config)
    size = math.prod(shape)
    return size + shape[0] + size // shape[0]


def _eigenbases(shape: Shape, config: OptimizerConfig) -> int:
    """For each rotated axis of length k, a statistic (k, k) and its eigenvectors (k, k)."""
    return sum(2 * axis**2 for axis in rotated_axes(shape, config.max_precond_dim))


def _soap(shape: Shape, config: OptimizerConfig) -> int:
    return _adam(shape, config) + _eigenbases(shape, config)


def _rotated_adafactor(shape: Shape, config: OptimizerConfig) -> int:
    return _factored(shape, config) + _eigenbases(shape, config)


# ---------------------------------------------------------------------------------------------------
# FLOPs


def rotated_axes(shape: Shape, max_dim: int) -> list[int]:
    """Lengths of the axes that SOAP rotates: those of a matrix that are no longer than `max_dim`."""
    if len(shape) < 2:
        return []
    matrix = (shape[0], math.prod(shape[1:]))
    return [axis for axis in matrix if axis <= max_dim]


def _preconditioning(shapes: Iterable[Shape], config: OptimizerConfig) -> float:
    """FLOPs a step of statistics, rotations, and of the new bases every so often (`reproduce.optim.eigenbasis`).

    A matrix (m, n) with both axes rotated takes 6 (m^2 n + m n^2) a step for L, R and the rotation there and back.
    Every `precond_freq` steps it takes 4 (m^2 n + m n^2) to carry M over, 2 (m^3 + n^3) for L Q and R Q, and
    8/3 (m^3 + n^3) for the two QR decompositions with explicit Q (Golub and Van Loan, Sec 5.2).
    """
    total = 0.0
    for shape in shapes:
        for axis in rotated_axes(shape, config.max_precond_dim):
            product = float(axis) * math.prod(shape)  # m^2 n for the rows, m n^2 for the columns
            total += 6 * product + (4 * product + (2 + 8 / 3) * axis**3) / config.precond_freq
    return total


# ---------------------------------------------------------------------------------------------------
# The table

_ADAM_READS = ("beta1", "beta2", "eps")
_ROTATED_READS = (*_ADAM_READS, "precond_freq", "max_precond_dim")

OPTIMIZERS: dict[str, OptimizerRecord] = {
    "adamw": OptimizerRecord(
        "reproduce.optim.adamw:adamw", (*_ADAM_READS, "placement"), elementwise=True, state_size=_adam
    ),
    "sgd": OptimizerRecord("reproduce.optim.sgd:Sgd", ("beta1",), elementwise=True, state_size=_momentum),
    "adafactor": OptimizerRecord(
        "reproduce.optim.adafactor:AdaFactor", _ADAM_READS, elementwise=False, state_size=_factored
    ),
    "soap": OptimizerRecord(
        "reproduce.optim.soap:Soap",
        _ROTATED_READS,
        elementwise=False,
        state_size=_soap,
        step_flops=_preconditioning,
    ),
    "adafactor-rotated": OptimizerRecord(
        "reproduce.optim.soap:RotatedAdaFactor",
        _ROTATED_READS,
        elementwise=False,
        state_size=_rotated_adafactor,
        step_flops=_preconditioning,
    ),
}
"""Every optimiser by the name that specs give it."""
