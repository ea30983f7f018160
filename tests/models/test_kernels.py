"""The kernels against automatic differentiation of the equations that they compute."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reproduce.models import kernels
from reproduce.models.kernels import linear_cross_entropy, rms_norm

EPS = 1e-5


def leaf(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()


def naive_norm(x: Tensor, gain: Tensor | None, eps: float) -> Tensor:
    y = x / (x.square().mean(-1, keepdim=True).sqrt() + eps)
    return y if gain is None else y * gain


def naive_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(hidden @ weight.T, targets)


@pytest.mark.parametrize("eps", [EPS, 0.5], ids=["small epsilon", "large epsilon"])
@pytest.mark.parametrize("trained", [True, False], ids=["gain", "no gain"])
def test_the_norm_and_its_gradients_are_those_of_the_equation(trained: bool, eps: float) -> None:
    x, gain, weights = leaf(3, 5, 8, scale=2.0), leaf(8, seed=1) if trained else None, leaf(3, 5, 8, seed=2).detach()
    inputs = [x] if gain is None else [x, gain]
    ours, theirs = rms_norm(x, gain, eps), naive_norm(x, gain, eps)
    torch.testing.assert_close(ours, theirs)
    gradients = (torch.autograd.grad((y * weights).sum(), inputs) for y in (ours, theirs))
    torch.testing.assert_close(*gradients)


def test_a_row_of_zeros_stays_zero_and_has_a_finite_gradient() -> None:
    x = torch.zeros(1, 4, requires_grad=True)
    y = rms_norm(x, None, EPS)
    y.backward(torch.ones(1, 4))
    assert y.tolist() == [[0.0] * 4]
    torch.testing.assert_close(x.grad, torch.full((1, 4), 1 / EPS))


def test_the_gain_alone_can_be_trained() -> None:
    x, gain = leaf(5, 8).detach(), leaf(8, seed=1)
    rms_norm(x, gain, EPS).sum().backward()
    torch.testing.assert_close(gain.grad, naive_norm(x, None, EPS).sum(0))


@pytest.mark.parametrize("rows", [7, 8, 20], ids=["in one chunk", "in chunks", "in chunks and a rest"])
def test_the_loss_and_its_gradients_are_those_of_the_equation(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "logit_rows", lambda vocab_size, device: {7: 8, 8: 4, 20: 6}[rows])
    hidden, weight = (
        leaf(rows, 6).float().detach().requires_grad_(),
        leaf(11, 6, seed=1).float().detach().requires_grad_(),
    )
    targets = torch.arange(rows) % 11
    factor = 0.25  # a part of a batch is weighted by its share
    ours, theirs = (loss(hidden, weight, targets) * factor for loss in (linear_cross_entropy, naive_loss))
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(loss, (hidden, weight)) for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_the_loss_of_a_long_vocabulary_takes_256_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    original = torch.Tensor.exp_
    monkeypatch.setattr(torch.Tensor, "exp_", lambda z: sizes.append(len(z)) or original(z))
    linear_cross_entropy(torch.randn(600, 2), torch.randn(10_000, 2), torch.zeros(600, dtype=torch.long))
    assert sizes == [256, 256, 88]


@pytest.mark.parametrize("rows", [64, 24])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_products_have_the_type_of_autocast_and_the_softmax_is_float32(
    kind: torch.dtype, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A softmax in bfloat16 would change the loss by up to 2^-8 of it. The 64 rows are taken `rows` at a time."""
    monkeypatch.setattr(kernels, "logit_rows", lambda vocab_size, device: rows)
    hidden, weight = (
        leaf(64, 32).float().detach().requires_grad_(),
        leaf(50, 32, seed=1).float().detach().requires_grad_(),
    )
    targets = torch.arange(64) % 50
    with torch.autocast("cpu", dtype=kind):
        ours = linear_cross_entropy(hidden, weight, targets)
        theirs = F.cross_entropy((hidden @ weight.T).float(), targets)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(loss, (hidden, weight)) for loss in (ours, theirs)]
    for mine, plain in zip(*gradients, strict=True):
        assert mine.dtype == torch.float32
        assert float((mine - plain).norm() / plain.norm()) < 0.01


def test_logits_far_from_zero_overflow_nothing() -> None:
    hidden = torch.tensor([[100.0]])
    weight = torch.tensor([[10.0], [9.99], [-10.0]], requires_grad=True)  # logits of 1000, 999 and -1000
    loss = linear_cross_entropy(hidden, weight, torch.tensor([1]))
    loss.backward()
    assert loss.item() == pytest.approx(1 + math.log1p(math.exp(-1)), rel=1e-4)
    assert weight.grad is not None
    share = 1 / (1 + math.exp(-1))  # of the first token; that of the last one is e^-2000
    torch.testing.assert_close(weight.grad, torch.tensor([[share], [-share], [0.0]]) * 100, rtol=1e-3, atol=0)


def test_float16_keeps_the_gradient_of_an_unlikely_token() -> None:
    """A probability of 1e-6 divided by 4,096 rows is 2e-10, which float16 rounds to 0."""
    rows = 4096
    hidden = torch.ones(rows, 1, requires_grad=True)
    weight = torch.tensor([[0.0], [math.log(1e-6)]], requires_grad=True)
    with torch.autocast("cpu", dtype=torch.float16):
        loss = linear_cross_entropy(hidden, weight, torch.zeros(rows, dtype=torch.long))
    loss.backward()
    assert weight.grad is not None
    assert weight.grad[1].item() == pytest.approx(1e-6, rel=0.05)


def test_without_gradients_none_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "scatter_add_", lambda *_, **__: pytest.fail("the gradient was computed"))
    hidden, weight, targets = leaf(4, 3), leaf(5, 3, seed=1), torch.arange(4)
    with torch.no_grad():
        torch.testing.assert_close(
            linear_cross_entropy(hidden, weight, targets).double(),
            naive_loss(hidden, weight, targets),
            rtol=1e-6,
            atol=1e-6,
        )


def test_differentiating_twice_is_refused() -> None:
    loss = linear_cross_entropy(leaf(4, 3), leaf(5, 3, seed=1), torch.arange(4))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
