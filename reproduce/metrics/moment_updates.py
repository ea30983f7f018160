"""What one optimiser step changes in the moments of the neurons, order by order (v1 App D, v2 App F).

With Delta = X_{t+1} - X_t on a fixed probe batch and, for each neuron j,

    a_j = (1/n) sum_a X_aj^2        b_j = (1/n) sum_a X_aj Delta_aj        c_j = (1/n) sum_a Delta_aj^2

the moments m2 = mean_j a_j and m4 = mean_j a_j^2, whose ratio m4 / m2^2 is the kurtosis, change by exactly

    m2:  mean_j [ 2 b_j + c_j ]
    m4:  mean_j [ 4 a_j b_j + (2 a_j c_j + 4 b_j^2) + 4 b_j c_j + c_j^2 ]

since a_j becomes a_j + 2 b_j + c_j. The quadratic terms are never negative (v1 footnotes 8 and 9).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reproduce.metrics.inputs import as_inputs, finite_or_nan


def _own(x: Tensor) -> Tensor:
    return x


@torch.no_grad()
def moment_updates(x: Tensor, x_next: Tensor, total: Callable[[Tensor], Tensor] = _own) -> dict[str, Tensor]:
    """The terms of each order of m2's and m4's change from `x` to `x_next`, both (..., d), in O(nd).

    Nothing is centred or rescaled. NaN where either tensor is not finite. Where the inputs are spread over processes,
    `total` adds a tensor up over them.
    Source: u_{2,l} / (nd) and u_{4,l} / (n^2 d) of v2 App F; v1 App D.
    """
    x, x_next = as_inputs(x), as_inputs(x_next)
    delta = x_next - x
    n = int(total(torch.tensor(len(x))))
    a, b, c = (total(torch.linalg.vecdot(u, v, dim=0).double()) / n for u, v in ((x, x), (x, delta), (delta, delta)))
    terms = {
        "m2_update_linear": 2 * b,
        "m2_update_quadratic": c,
        "m4_update_linear": 4 * a * b,
        "m4_update_quadratic": 2 * a * c + 4 * b * b,
        "m4_update_cubic": 4 * b * c,
        "m4_update_quartic": c * c,
    }
    return {name: finite_or_nan(term.mean()).to(x.dtype) for name, term in terms.items()}
