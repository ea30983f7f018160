"""AdaDim (Heo et al., ICLR 2024, arXiv 2309.15531): weights are grouped along inputs or outputs, whichever loses less.

    per-OC    groups of g neighbouring inputs in each row of W (outputs, inputs)
    per-IC    groups of g neighbouring outputs in each column: per-OC of W^T, transposed back
    choice    argmin over the two of the mean of (x W^T - x Q(W)^T)^2 on calibration inputs

With per-IC an activation outlier on one channel meets weights whose scale no other channel shares. The authors measure
the error of queries, keys and values after the whole attention block, and the others' as here, at the layer's output.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from reproduce.quantise.quantisers import Scheme

Dimension = Literal["oc", "ic"]


def per(weight: Tensor, dimension: Dimension, bits: int, size: int) -> Tensor:
    """`weight` (m, k) in asymmetric groups of `size` along inputs (oc) or outputs (ic)."""
    return Scheme(bits, "asymmetric", "group" if dimension == "oc" else "group-out", size=size)(weight)


def choose(x: Tensor, weight: Tensor, bits: int, size: int) -> tuple[Dimension, Tensor]:
    """The better dimension for inputs x (n, k), and the weight quantised along it.

    Raises:
        ValueError: an axis of the weight is no multiple of `size`.
    """
    found: dict[Dimension, tuple[float, Tensor]] = {}
    dimensions: tuple[Dimension, ...] = ("oc", "ic")
    for dimension in dimensions:
        tried = per(weight, dimension, bits, size)
        found[dimension] = float((x @ (weight - tried).T).square().mean()), tried
    best = min(dimensions, key=lambda dimension: found[dimension][0])
    return best, found[best][1]
