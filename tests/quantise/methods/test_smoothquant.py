"""SmoothQuant: the layer is the same in full precision, and the scales do what the equation says."""

from __future__ import annotations

import pytest
import torch

from reproduce.quantise.methods.smoothquant import smoothing_scales
from reproduce.quantise.quantisers import Scheme
from tests.quantise.layers import outlier_layer, relative_error

X, W = outlier_layer()
LARGEST = X.abs().amax(0)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_the_function_is_kept(alpha: float) -> None:
    s = smoothing_scales(LARGEST, [W], alpha)
    torch.testing.assert_close((X / s) @ (W * s).T, X @ W.T, rtol=1e-5, atol=1e-5)


def test_at_a_half_both_sides_are_equally_large() -> None:
    """max |X^_j| = max |W^_j| = sqrt(max |X_j| max |W_j|)."""
    s = smoothing_scales(LARGEST, [W], 0.5)
    wanted = (LARGEST * W.abs().amax(0)).sqrt()
    torch.testing.assert_close((X / s).abs().amax(0), wanted)
    torch.testing.assert_close((W * s).abs().amax(0), wanted)


def test_the_ends() -> None:
    """alpha = 1 gives inputs of at most 1, and alpha = 0 scales by the weights alone."""
    torch.testing.assert_close((X / smoothing_scales(LARGEST, [W], 1.0)).abs().amax(0), torch.ones(64))
    torch.testing.assert_close((W * smoothing_scales(LARGEST, [W], 0.0)).abs().amax(0), torch.ones(64))


def test_layers_with_one_input_share_the_maximum() -> None:
    other = 5 * W.flip(0)
    torch.testing.assert_close(smoothing_scales(LARGEST, [W, other]), smoothing_scales(LARGEST, [other]))


def test_the_error_is_smallest_in_between() -> None:
    """Naive W8A8 per tensor loses most, and so does moving everything into the weights (a U shape, least near 0.5)."""
    q = Scheme(8)

    def error(alpha: float | None) -> float:
        s = torch.ones(64) if alpha is None else smoothing_scales(LARGEST, [W], alpha)
        return relative_error(X, W, lambda x: q(x / s) @ q(W * s).T)

    naive, quarter, half, whole = error(None), error(0.25), error(0.5), error(1.0)
    assert half < quarter < naive
    assert half < whole
    assert naive == pytest.approx(0.045, rel=0.5)
