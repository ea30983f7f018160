"""SVDQuant: ends of the rank, errors that fall with it, and iterations that never worsen."""

from __future__ import annotations

import pytest
import torch

from reproduce.quantise.methods.smoothquant import smoothing_scales
from reproduce.quantise.methods.svdquant import decompose, low_rank, output_error, search_scales
from reproduce.quantise.quantisers import Scheme
from tests.quantise.layers import outlier_layer

X, W = outlier_layer()
S = smoothing_scales(X.abs().amax(0), [W], 0.5)
XS, WS = X / S, W * S
Q = Scheme(4, granularity="group", size=16)


def test_the_function_is_kept_without_rounding() -> None:
    quantised, up, down, error = decompose(XS, WS, 4, lambda x: x, lambda w: w)
    torch.testing.assert_close(XS @ quantised.T + (XS @ down.T) @ up.T, X @ W.T, rtol=1e-4, atol=1e-4)
    assert error < 1e-6


def test_low_rank_is_the_best_approximation() -> None:
    """Its error is the norm of the singular values that are left out (Eckart and Young)."""
    up, down = low_rank(WS, 5)
    left_out = torch.linalg.svdvals(WS.double())[5:].norm()
    assert float((WS - up @ down).norm()) == pytest.approx(float(left_out), rel=1e-5)
    assert (up.shape, down.shape) == ((48, 5), (5, 64))


def test_rank_zero_is_plain_rounding_and_full_rank_leaves_the_inputs_alone() -> None:
    quantised, up, down, _ = decompose(XS, WS, 0, Q, Q)
    assert torch.equal(quantised, Q(WS))
    assert up.numel() == down.numel() == 0
    *_, error = decompose(XS, WS, 48, Q, Q)
    assert error < 1e-4  # the branch sees the inputs in full precision


def test_the_error_falls_with_the_rank() -> None:
    """Smoothing helps most, then each branch is better than the one before, and iterating better than one pass."""
    naive = output_error(X, W, (Q(W), W[:, :0], W[:0]), Q)
    smoothed, *ranks = (decompose(XS, WS, rank, Q, Q)[3] for rank in (0, 1, 2, 4, 8, 16))
    once = [decompose(XS, WS, rank, Q, Q, iterations=0)[3] for rank in (1, 2, 4, 8, 16)]
    assert smoothed < naive
    assert [smoothed, *ranks] == sorted([smoothed, *ranks], reverse=True)
    assert all(iterated <= single for iterated, single in zip(ranks, once, strict=True))


def test_the_search_smooths_no_worse_than_a_half_and_layers_with_one_input_share_its_scales() -> None:
    scales = search_scales(X, X.abs().amax(0), [W[:16], W[16:]], Q, Q)
    assert torch.equal(scales, search_scales(X, X.abs().amax(0), [W], Q, Q))
    assert decompose(X / scales, W * scales, 0, Q, Q)[3] <= decompose(XS, WS, 0, Q, Q)[3]
