"""The basis in which Shampoo preconditions: eigenvectors of a gradient's row and column statistics.

For a matrix W (m, n) with gradients G, averages over time being moving ones of decay b2:

    L = avg G G^T   (m, m)        Q_L (m, m), columns = eigenvectors of L, by falling eigenvalue
    R = avg G^T G   (n, n)        Q_R (n, n), likewise of R
    X' = Q_L^T X Q_R              into the eigenbasis;   X = Q_L X' Q_R^T   back

The first gradient gives the basis by an eigendecomposition. Later ones are tracked by one step of the power
iteration with a QR decomposition, from the basis before: Q <- qr(L Q), its columns first sorted by their Rayleigh
quotients diag(Q^T L Q). Source: Vyas et al., SOAP, arXiv 2409.11321, and the authors' soap.py.

An axis longer than `max_dim` (the vocabulary) is not rotated: it has no statistic and its Q stands for the identity.
The state holds L, Q_L, R, Q_R of the rotated axes only; a vector or scalar has none.

Cost per gradient: 2 (m^2 n + m n^2) multiply-adds each for the rotation, its inverse, and L and R together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SHIFT = 1e-30
"""Multiple of the identity that the authors add before the eigendecomposition."""


def start(gradient: Tensor, beta2: float, max_dim: int) -> dict[str, Tensor]:
    """L, R and their eigenvectors from the first gradient (the averages start at 0, so L = (1 - b2) G G^T)."""
    state: dict[str, Tensor] = {}
    if gradient.ndim != 2:
        return state
    rows, columns = gradient.shape
    if rows <= max_dim:
        state["L"] = (1 - beta2) * (gradient @ gradient.T)
        state["Q_L"] = eigenvectors(state["L"])
    if columns <= max_dim:
        state["R"] = (1 - beta2) * (gradient.T @ gradient)
        state["Q_R"] = eigenvectors(state["R"])
    return state


def accumulate(state: dict[str, Any], gradient: Tensor, beta2: float) -> None:
    """L <- b2 L + (1 - b2) G G^T, R <- b2 R + (1 - b2) G^T G."""
    if "L" in state:
        state["L"].addmm_(gradient, gradient.T, beta=beta2, alpha=1 - beta2)
    if "R" in state:
        state["R"].addmm_(gradient.T, gradient, beta=beta2, alpha=1 - beta2)


def rotate(x: Tensor, state: dict[str, Any]) -> Tensor:
    """X' = Q_L^T X Q_R, (m, n)."""
    if "Q_L" in state:
        x = state["Q_L"].T @ x  # (m, m) (m, n)
    if "Q_R" in state:
        x = x @ state["Q_R"]  # (m, n) (n, n)
    return x


def rotate_back(x: Tensor, state: dict[str, Any]) -> Tensor:
    """X = Q_L X' Q_R^T, (m, n)."""
    if "Q_L" in state:
        x = state["Q_L"] @ x
    if "Q_R" in state:
        x = x @ state["Q_R"].T
    return x


def refresh(state: dict[str, Any]) -> tuple[Tensor | None, Tensor | None]:
    """Move Q_L and Q_R towards the eigenvectors of today's L and R.

    Returns:
        The orders in which the old columns of Q_L and Q_R were taken, for what is stored per direction: the i-th new
        direction continues the order[i]-th old one. None for an axis that is not rotated.
    """
    rows = columns = None
    if "Q_L" in state:
        state["Q_L"], rows = power_iteration(state["L"], state["Q_L"])
    if "Q_R" in state:
        state["Q_R"], columns = power_iteration(state["R"], state["Q_R"])
    return rows, columns


def eigenvectors(statistic: Tensor) -> Tensor:
    """Eigenvectors of a symmetric matrix as columns, by falling eigenvalue; in float64 if that fails as it is."""
    shifted = statistic + SHIFT * torch.eye(len(statistic), dtype=statistic.dtype, device=statistic.device)
    try:
        vectors = torch.linalg.eigh(shifted).eigenvectors
    except torch.linalg.LinAlgError:
        vectors = torch.linalg.eigh(shifted.double()).eigenvectors.to(statistic.dtype)
    return vectors.flip(1)  # eigh sorts by rising eigenvalue


def power_iteration(statistic: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """One step of the power iteration, qr(S Q), with the columns of Q sorted by falling Rayleigh quotient.

    Returns:
        The new basis (k, k), and the order (k,) in which the old columns were taken.
    """
    product = statistic @ basis  # S Q, (k, k)
    # The diagonal of Q^T S Q, without the products off it.
    order = (basis * product).sum(dim=0).argsort(descending=True, stable=True)
    return torch.linalg.qr(product[:, order]).Q, order
