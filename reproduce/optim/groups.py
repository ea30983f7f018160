"""Parameter groups by role: what a parameter is for decides its weight decay and the scale of its learning rate.

    role         default rule          parameters
    embedding    decays                token and position embeddings, class token, the layers at both ends of a model
    matrix       decays                weights of all other linear layers and convolutions
    vector       does not decay        biases, gains of norms
    gain         does not decay        strengths of residual branches: SkipInit scalars, LayerScale vectors

The number of axes tells matrices from vectors, and the type of a module tells an embedding. What neither can tell, a
module says in its attribute `ROLES`, which maps names of its own parameters to roles: that a linear layer is the
unembedding, or a vector a residual gain. The paper's released code decays the same parameters, by the number of axes.

Every group holds its `role`, so that an optimiser may treat roles differently, as Muon does with matrices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from reproduce.errors import OfeError
from reproduce.optim.records import GROUP_RULES, GroupRule, Role


def parameter_roles(model: nn.Module) -> dict[str, Role]:
    """The role of every parameter by its name in `model`; a tied parameter is named once, where it is met first."""
    named: dict[str, Role] = {}  # what modules say themselves, by full name
    tables: set[str] = set()  # weights of nn.Embedding
    for prefix, module in model.named_modules():
        at = f"{prefix}." if prefix else ""
        roles: Mapping[str, Role] = getattr(module, "ROLES", {})
        named |= {at + name: role for name, role in roles.items()}
        if isinstance(module, nn.Embedding):
            tables.add(at + "weight")

    def role(name: str, axes: int) -> Role:
        if name in named:
            return named[name]
        if name in tables:
            return "embedding"
        return "matrix" if axes >= 2 else "vector"

    return {name: role(name, parameter.ndim) for name, parameter in model.named_parameters()}


def parameter_groups(
    model: nn.Module, weight_decay: float, overrides: Mapping[Role, GroupRule] | None = None
) -> list[dict[str, Any]]:
    """Optimiser groups of the trained parameters, one a role; each parameter (a tied one too) is in exactly one.

    A role without parameters has no group: a model without norms, biases and trained gains has no vectors.

    Args:
        weight_decay: of the roles whose rule says that they decay.
        overrides: rules that replace those of `GROUP_RULES`.

    Raises:
        OfeError: an override is for a role that no trained parameter has (exit code 2).
    """
    overrides = overrides or {}
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    members: dict[Role, list[nn.Parameter]] = {role: [] for role in GROUP_RULES}
    for name, role in parameter_roles(model).items():
        if name in trained:
            members[role].append(trained[name])
    for role in overrides:
        if not members[role]:
            raise OfeError(
                f"the optimiser has a rule for {role} parameters, and the model has none",
                hint="choose another optimiser for this model, or drop that rule from the optimiser's record",
                exit_code=2,
            )
    rules = {**GROUP_RULES, **overrides}
    return [
        {
            "params": parameters,
            "role": role,
            "weight_decay": weight_decay if rules[role].decays else 0.0,
            "rate_scale": rules[role].rate_scale,
        }
        for role, parameters in members.items()
        if parameters
    ]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Make `rate` the learning rate of the next step, times the scale of each group's role."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate_scale"]
