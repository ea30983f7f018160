"""What one optimiser step changes in the moments of the neurons, order by order (v1 App D, v2 App F).

With Delta = X_{t+1} - X_t on a fixed probe batch and, for each neuron j,

    a_j = (1/n) sum_a X_aj^2        b_j = (1/n) sum_a X_aj Delta_aj        c_j = (1/n) sum_a Delta_aj^2

the moments are m2 = mean_j a_j and m4 = mean_j a_j^2, and m4 / m2^2 is the kurtosis. One step changes them by exactly

    m2:  mean_j [ 2 b_j + c_j ]
    m4:  mean_j [ 4 a_j b_j + (2 a_j c_j + 4 b_j^2) + 4 b_j c_j + c_j^2 ]

because a_j becomes a_j + 2 b_j + c_j. The quadratic terms are never negative (v1 footnotes 8 and 9).
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
    """The terms of each order in the change of m2 and m4, by metric, each (). The cost is O(nd).

    Args:
        x: the stream before the step, (..., d). It is neither centred nor rescaled.
        x_next: the same after the step, (..., d).
        total: adds a tensor up over the processes, where the inputs are spread over several.

    A term is NaN where either tensor is not finite.
    Source: u_{2,l} / (nd) and u_{4,l} / (n^2 d) of v2 App F; v1 App D.
    """
    x, x_next = as_inputs(x), as_inputs(x_next)  # (n, d)
    delta = x_next - x
    n = int(total(torch.tensor(len(x))))
    # Each of a, b, c is (d,). Products are summed over the inputs in float32 or better, and over processes in float64.
    a, b, c = (total(torch.linalg.vecdot(u, v, dim=0).double()) / n for u, v in ((x, x), (x, delta), (delta, delta)))
    # a becomes a + 2b + c, so its square gains 4ab, 2ac + 4b^2, 4bc and c^2, in the order of their power of Delta.
    terms = {
        "m2_update_linear": 2 * b,
        "m2_update_quadratic": c,
        "m4_update_linear": 4 * a * b,
        "m4_update_quadratic": 2 * a * c + 4 * b * b,
        "m4_update_cubic": 4 * b * c,
        "m4_update_quartic": c * c,
    }
    return {name: finite_or_nan(term.mean()).to(x.dtype) for name, term in terms.items()}
