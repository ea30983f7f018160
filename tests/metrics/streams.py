"""Random streams for the tests: small ones drawn by hypothesis, and the paper's special cases."""

from __future__ import annotations

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

quick = settings(max_examples=30, deadline=None, derandomize=True)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def uneven(n: int, d: int, seed: int = 0) -> Tensor:
    """Float64 (n, d) with neurons and inputs of very different size, and a common direction."""
    x = gaussian(n, d, seed=seed) * gaussian(d, seed=seed + 1).exp() * gaussian(n, 1, seed=seed + 2).exp()
    return x + gaussian(d, seed=seed + 3)


def rotation(d: int, seed: int = 0) -> Tensor:
    """Orthogonal (d, d)."""
    return torch.linalg.qr(gaussian(d, d, seed=seed)).Q


def one_outlier(n: int, d: int, factor: float, seed: int = 0) -> Tensor:
    """Random signs (n, d), so that all neurons have the same RMS, but for the first, which is `factor` larger."""
    x = gaussian(n, d, seed=seed).sign()
    x[:, 0] *= factor
    return x


seeds = st.integers(0, 2**31 - 1)
streams = st.builds(uneven, n=st.integers(2, 9), d=st.integers(2, 9), seed=seeds)
