"""Integer products: exact on the extremes, told where the machine's own are wrong, equal to the simulation and torchao.

torchao is a second, independent implementation. Its symmetric scale is the largest magnitude divided by 127.5.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reproduce.quantise.blocks import blocked
from reproduce.quantise.grids import Grid
from reproduce.quantise.integers import EXACT, arithmetic, integer_linear
from reproduce.quantise.quantisers import Scheme
from reproduce.quantise.ranges import largest
from tests.quantise.layers import outlier_layer

X, W = outlier_layer()
BIAS = torch.linspace(-1, 1, 48)


@pytest.fixture(autouse=True)
def fresh() -> None:
    arithmetic.cache_clear()


def test_products_of_extremes_are_exact() -> None:
    how = arithmetic()
    x = torch.tensor([-128, 127], dtype=torch.int8).repeat_interleave(300).view(2, 300)
    wanted = x.long() @ x.long().T
    assert torch.equal(how.product(x, x).long(), wanted)
    assert torch.equal(EXACT.product(x, x).long(), wanted)


def test_a_machine_that_saturates_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of products saturate at 16 bits without VNNI; the fallback is exact and says what is wrong."""

    def saturating(x: Tensor, y: Tensor) -> Tensor:
        pairs = x.int()[:, None, :] * y.T.int()[None]
        return pairs.unflatten(-1, (-1, 2)).sum(-1).clamp(-32768, 32767).sum(-1).int()

    monkeypatch.setattr(torch, "_int_mm", saturating)
    how = arithmetic()
    assert not how.fast
    assert "gives wrong products here" in how.why
    assert "exact" in how.why
    x = torch.full((2, 256), -128, dtype=torch.int8)
    assert how.product(x, x).tolist() == [[256 * 128**2] * 2] * 2


def test_a_machine_without_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_int_mm")
    assert not arithmetic().fast
    assert "does not run here" in arithmetic().why


@pytest.mark.parametrize("activation", ["tensor", "token"])
@pytest.mark.parametrize("grid", ["symmetric", "asymmetric"])
@pytest.mark.parametrize("weight", ["tensor", "channel"])
def test_integers_are_the_simulation(activation: str, grid: str, weight: str) -> None:
    x_scheme, w_scheme = Scheme(8, grid, activation), Scheme(8, granularity=weight)
    simulated = x_scheme(X).double() @ w_scheme(W).double().T + BIAS
    x = X.view(8, 64, 64)  # sequences
    for how in (EXACT, arithmetic()):
        got = integer_linear(x_scheme.fit(x), w_scheme.fit(W), BIAS, how)
        torch.testing.assert_close(got.view(512, 48).double(), simulated, rtol=1e-5, atol=1e-5)


def test_unsigned_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="signed weights of at most 8 bits"):
        integer_linear(Scheme(8).fit(X), Scheme(8, "asymmetric").fit(W), None)


# -- torchao -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torchao() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torchao.quantization", reason="torchao is not installed: it is the second oracle")


def at_127_5(x: Tensor, granularity: str) -> tuple[Grid, Any]:
    blocks = blocked(x, granularity)
    scale = largest(blocks.rows) / 127.5
    return Grid(scale, torch.zeros_like(scale), -128, 127), blocks


@pytest.mark.parametrize("rows", [True, False])
def test_integer_linear_is_torchao_s(torchao: Any, rows: bool) -> None:
    linear = nn.Linear(64, 48)
    linear.weight.data, linear.bias.data = W.clone(), BIAS.clone()
    theirs = nn.Sequential(copy.deepcopy(linear))
    granularity = torchao.PerRow() if rows else torchao.PerTensor()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchao.quantize_(theirs, torchao.Int8DynamicActivationInt8WeightConfig(version=2, granularity=granularity))
        with torch.no_grad():
            wanted = theirs(X)
    kinds = ("token", "channel") if rows else ("tensor", "tensor")
    ours = integer_linear(at_127_5(X, kinds[0]), at_127_5(W, kinds[1]), BIAS)
    # The largest magnitude lies on a tie, -127.5, which torchao's product with 1 / scale rounds either way.
    assert float((ours - wanted).norm() / wanted.norm()) < 3e-3
    x_127, w_127 = Scheme(8, granularity=kinds[0]).fit(X), Scheme(8, granularity=kinds[1]).fit(W)
    with_127 = integer_linear(x_127, w_127, BIAS)
    assert float((with_127 - wanted).norm() / wanted.norm()) > 2 * float((ours - wanted).norm() / wanted.norm())


def test_levels_are_those_of_torchao(torchao: Any) -> None:
    from torchao.quantization.quant_primitives import MappingType, choose_qparams_affine, quantize_affine

    scale, zero = choose_qparams_affine(X, MappingType.ASYMMETRIC, X.shape, torch.uint8, eps=1e-8)
    grid, blocks = Scheme(8, "asymmetric").fit(X)
    assert float(grid.scale) == pytest.approx(float(scale))
    assert float(grid.zero_point) == float(zero)
    theirs = quantize_affine(X, X.shape, scale, zero, torch.uint8)
    assert torch.equal(blocks.restore(grid.integers(blocks.rows)), theirs.float())
