"""The second moment of a gradient, whole (Adam) or as a product of its marginals (AdaFactor).

For a gradient G (m, n), averages over time being moving ones of decay b2:

    whole        V_ij  = avg G_ij^2                          state V (m, n)
    factored     V'_ij = r_i c_j / mean(r)                   state r (m,), c (n,)
                 r_i = avg mean_j G_ij^2,  c_j = avg mean_i G_ij^2,  so mean(r) = mean(c)

V' is the rank-one matrix with V's row and column means: Shazeer and Stern, arXiv 1804.04235, Sec 3. It equals V
where V has rank one. The bias correction 1 / (1 - b2^t) of r and c cancels to one such factor on V', so it is the
same for both kinds, and left to the optimiser.

Which of the two a parameter has is seen from its state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def zeros(gradient: Tensor, *, factored: bool) -> dict[str, Tensor]:
    """The state before the first gradient. Only matrices are factored, vectors and scalars never."""
    if factored and gradient.ndim == 2:
        rows, columns = gradient.shape
        return {"r": gradient.new_zeros(rows), "c": gradient.new_zeros(columns)}
    return {"V": torch.zeros_like(gradient)}


def accumulate(state: dict[str, Any], gradient: Tensor, beta2: float) -> None:
    """Take one more gradient into the moving averages."""
    if "V" in state:
        state["V"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    else:
        square = gradient.square()  # (m, n)
        state["r"].lerp_(square.mean(dim=1), 1 - beta2)
        state["c"].lerp_(square.mean(dim=0), 1 - beta2)


def root(state: dict[str, Any]) -> Tensor:
    """sqrt(V) or sqrt(V'), in the gradient's shape, before bias correction.

    The factored root is an outer product of roots: r_i c_j itself would underflow in float32 at gradients of 1e-10.
    A gradient that has always been 0 gives 0, as the whole moment does.
    """
    if "V" in state:
        return state["V"].sqrt()
    r, c = state["r"], state["c"]
    # sqrt(r_i / mean(r)) sqrt(c_j), with a mean that cannot be 0.
    share = r / r.mean().clamp(min=torch.finfo(r.dtype).tiny)
    return torch.outer(share.sqrt(), c.sqrt())


def permute(state: dict[str, Any], rows: Tensor | None, columns: Tensor | None) -> None:
    """Reorder the axes by index tensors (m,) and (n,); None leaves an axis as it is."""
    for axis, order in enumerate((rows, columns)):
        if order is None:
            continue
        if "V" in state:
            state["V"] = state["V"].index_select(axis, order)
        else:
            marginal = "r" if axis == 0 else "c"
            state[marginal] = state[marginal][order]
