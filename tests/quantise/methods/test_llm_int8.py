"""LLM.int8(): its two ends are plain rounding and full precision, and two channels save the layer."""

from __future__ import annotations

import torch
from torch import nn

from reproduce.quantise.methods.llm_int8 import DecomposedLinear, outlier_channels
from reproduce.quantise.quantisers import Scheme
from tests.quantise.layers import outlier_layer, relative_error

X, W = outlier_layer()
ROWS, TOKENS = Scheme(8, granularity="channel"), Scheme(8, granularity="token")


def layer(threshold: float, *, relative: bool = False) -> DecomposedLinear:
    linear = nn.Linear(64, 48)
    linear.weight.data, linear.bias.data = W.clone(), torch.arange(48.0)
    return DecomposedLinear(linear.requires_grad_(False), ROWS, TOKENS, threshold, relative)


def test_no_outliers_is_plain_rounding_and_all_outliers_is_exact() -> None:
    bias = torch.arange(48.0)
    assert torch.equal(layer(float("inf"))(X), TOKENS(X) @ ROWS(W).T + bias)
    torch.testing.assert_close(layer(0.0)(X), X @ W.T + bias)


def test_the_outliers_are_the_two_large_channels() -> None:
    assert outlier_channels(X, 10.0).nonzero().flatten().tolist() == [3, 40]
    made = layer(10.0)
    error = relative_error(X, W, lambda x: made(x) - torch.arange(48.0))
    naive = relative_error(X, W, lambda x: Scheme(8)(x) @ Scheme(8)(W).T)
    assert made.mean_channels == 2
    assert error < naive / 10


def test_a_relative_threshold_follows_the_scale() -> None:
    absolute, relative = layer(6.0), layer(6.0, relative=True)
    absolute(X / 1000)
    relative(X / 1000)
    assert (absolute.channels, relative.channels) == (0, 2)
