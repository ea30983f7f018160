"""SOAP against an independent implementation, its written equations, Adam, and its symmetry."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from pytorch_optimizer import SOAP as IndependentSoap
from torch import Tensor

from reproduce.config import OptimizerConfig
from reproduce.optim import build_optimizer

from .toys import (
    ROTATED,
    Weight,
    configuration,
    drive,
    gradients,
)

BASES = ("Q_L", "Q_R")


def assert_eigenbasis(statistic: Tensor, basis: Tensor, tolerance: float) -> None:
    """`basis` diagonalises `statistic`, eigenvalues falling; signs and ties are an implementation's own."""
    rotated = basis.T @ statistic @ basis
    torch.testing.assert_close(basis.T @ basis, torch.eye(len(basis), dtype=basis.dtype), rtol=0, atol=tolerance)
    assert (rotated - rotated.diag().diag()).norm() < tolerance * rotated.norm()
    assert (rotated.diag().diff() < tolerance * rotated.norm()).all()


@pytest.mark.parametrize(
    ("shape", "max_dim"),
    [((8, 8), 100), ((6, 10), 100), ((10, 6), 8), ((6, 10), 8), ((7,), 100)],
    ids=["square", "wide", "rows-unrotated", "columns-unrotated", "vector"],
)
@pytest.mark.parametrize("frequency", [10, 3])
def test_agrees_with_pytorch_optimizer_step_by_step(shape: tuple[int, ...], max_dim: int, frequency: int) -> None:
    """45 float32 steps of the published hyperparameters, with up to 14 changes of basis.

    A gradient of shape (6, 10) leaves R a null space whose basis rounding decides. The independent implementation
    therefore takes over our first eigenvectors, once they are seen to be eigenvectors of its statistics.
    """
    config = configuration(
        "soap", beta1=0.95, beta2=0.95, weight_decay=0.1, precond_freq=frequency, max_precond_dim=max_dim
    )
    ours, theirs = Weight(*shape, dtype=torch.float32), Weight(*shape, dtype=torch.float32)
    sequence = gradients(*shape, count=45, dtype=torch.float32)
    optimizer = build_optimizer(config, ours)
    reference = IndependentSoap(
        [theirs.weight],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay if len(shape) == 2 else 0.0,
        precondition_frequency=frequency,
        max_precondition_dim=max_dim,
        eps=config.eps,
    )
    first, expected_first = drive(optimizer, ours.weight, sequence[:1]), drive(reference, theirs.weight, sequence[:1])
    assert torch.equal(first[0], expected_first[0])
    state, reference_state = optimizer.state[ours.weight], reference.state[theirs.weight]
    rotated = [axis for axis, size in enumerate(shape) if len(shape) == 2 and size <= max_dim]
    assert [axis for axis in (0, 1) if BASES[axis] in state] == rotated
    for axis in rotated:
        assert_eigenbasis(reference_state["GG"][axis], state[BASES[axis]], 1e-5)
        reference_state["Q"][axis] = state[BASES[axis]].clone()

    trajectory = drive(optimizer, ours.weight, sequence[1:])
    expected = drive(reference, theirs.weight, sequence[1:])
    torch.testing.assert_close(torch.stack(trajectory), torch.stack(expected), rtol=1e-4, atol=1e-4)
    for axis in rotated:
        statistic = BASES[axis].removeprefix("Q_")
        torch.testing.assert_close(state[statistic], reference_state["GG"][axis], rtol=1e-4, atol=1e-4)
    for axis in [axis for axis in rotated if shape[axis] == min(shape)]:  # the longer axis has the null space
        torch.testing.assert_close(state[BASES[axis]], reference_state["Q"][axis], rtol=1e-3, atol=1e-3)


def written_soap(config: OptimizerConfig, W: Tensor, sequence: list[Tensor], Q_L: Tensor, Q_R: Tensor) -> list[Tensor]:
    """SOAP's equations one by one, for one matrix with both axes rotated, from given first eigenvectors.

    Momentum is kept here in the weight's own space and rotated when used, which must make no difference.
    """
    b1, b2 = config.beta1, config.beta2
    L, R = (1 - b2) * sequence[0] @ sequence[0].T, (1 - b2) * sequence[0].T @ sequence[0]
    M, V = torch.zeros_like(W), torch.zeros_like(W)
    trajectory = [W]
    for t, G in enumerate(sequence[1:], start=1):
        M = b1 * M + (1 - b1) * G
        V = b2 * V + (1 - b2) * (Q_L.T @ G @ Q_R) ** 2
        step = Q_L @ ((Q_L.T @ M @ Q_R) / (V.sqrt() + config.eps)) @ Q_R.T
        W = W - config.lr * math.sqrt(1 - b2**t) / (1 - b1**t) * step
        W = W - config.lr * config.weight_decay * W
        L, R = b2 * L + (1 - b2) * G @ G.T, b2 * R + (1 - b2) * G.T @ G
        if t % config.precond_freq == 0:
            rows = (Q_L.T @ L @ Q_L).diag().argsort(descending=True)
            columns = (Q_R.T @ R @ Q_R).diag().argsort(descending=True)
            V = V[rows][:, columns]
            Q_L, Q_R = torch.linalg.qr(L @ Q_L[:, rows]).Q, torch.linalg.qr(R @ Q_R[:, columns]).Q
        trajectory.append(W)
    return trajectory


@pytest.mark.parametrize("shape", [(6, 6), (5, 8)])
@pytest.mark.parametrize(("beta1", "eps"), [(0.95, 1e-8), (0.0, 1e-8), (0.9, 0.3)])
def test_follows_the_written_equations(shape: tuple[int, int], beta1: float, eps: float) -> None:
    config = configuration("soap", beta1=beta1, eps=eps, weight_decay=0.1, precond_freq=4)
    model, sequence = Weight(*shape), gradients(*shape, count=45)
    start = model.weight.detach().clone()
    optimizer = build_optimizer(config, model)
    trajectory = drive(optimizer, model.weight, sequence[:1])
    state = optimizer.state[model.weight]
    assert_eigenbasis(sequence[0] @ sequence[0].T, state["Q_L"], 1e-12)
    assert_eigenbasis(sequence[0].T @ sequence[0], state["Q_R"], 1e-12)
    expected = written_soap(config, start, sequence, state["Q_L"].clone(), state["Q_R"].clone())
    trajectory += drive(optimizer, model.weight, sequence[1:])
    torch.testing.assert_close(torch.stack(trajectory), torch.stack(expected), rtol=1e-8, atol=1e-8)


def test_the_first_call_moves_nothing() -> None:
    model = Weight(4, 5)
    before = model.weight.detach().clone()
    after = drive(
        build_optimizer(configuration("soap", weight_decay=0.1), model), model.weight, gradients(4, 5, count=1)
    )
    assert torch.equal(after[0], before)


@pytest.mark.parametrize(("shape", "max_dim"), [((6, 5), 1), ((7,), 100), ((), 100)])
def test_is_adam_after_its_first_call_where_nothing_is_rotated(shape: tuple[int, ...], max_dim: int) -> None:
    """With eps = 0 its place does not matter, and without weight decay neither does that of the decay."""
    sequence = gradients(*shape, count=30)
    ours, theirs = Weight(*shape), Weight(*shape)
    config = configuration("soap", max_precond_dim=max_dim, eps=0.0)
    trajectory = drive(build_optimizer(config, ours), ours.weight, sequence)
    adam = build_optimizer(configuration("adamw", eps=0.0), theirs)
    expected = drive(adam, theirs.weight, sequence[1:])
    torch.testing.assert_close(torch.stack(trajectory[1:]), torch.stack(expected), rtol=1e-10, atol=1e-12)


def trajectory_on(
    name: str, loss: Callable[[Tensor], Tensor], start: Tensor, inner: Tensor, outer: Tensor
) -> list[Tensor]:
    """Weights W~ of training loss(A W~ B) from W~ = A^T W_0 B^T, mapped to the space of W = A W~ B."""
    model = Weight(*start.shape)
    with torch.no_grad():
        model.weight.copy_(outer.T @ start @ inner.T)
    rotation = {"precond_freq": 5} if name in ROTATED else {}
    optimizer = build_optimizer(configuration(name, weight_decay=0.1, **rotation), model)
    trajectory = []
    for _ in range(30):
        optimizer.zero_grad()
        loss(outer @ model.weight @ inner).backward()
        optimizer.step()
        trajectory.append(outer @ model.weight.detach() @ inner)
    return trajectory


@pytest.mark.parametrize(
    ("name", "equivariant"),
    [("soap", True), ("adafactor-rotated", True), ("sgd", True), ("adamw", False), ("adafactor", False)],
)
def test_equivariance_to_rotations_of_a_weights_input_and_output_space(name: str, equivariant: bool) -> None:
    torch.manual_seed(0)
    size = 6
    inputs, targets = torch.randn(size, 20, dtype=torch.float64), torch.randn(size, 20, dtype=torch.float64)
    start = torch.randn(size, size, dtype=torch.float64)
    A, B = (torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q for _ in range(2))
    identity = torch.eye(size, dtype=torch.float64)

    def loss(W: Tensor) -> Tensor:
        return (torch.tanh(W @ inputs) - targets).square().mean()

    plain = torch.stack(trajectory_on(name, loss, start, identity, identity))
    mapped = torch.stack(trajectory_on(name, loss, start, B, A))
    distance = ((plain - mapped).norm() / (plain - start).norm()).item()
    assert distance < 1e-6 if equivariant else distance > 1e-2


def test_a_kernel_is_treated_as_its_outputs_by_its_inputs() -> None:
    kernel, matrix = Weight(12, 3, 2, 2), Weight(12, 12)
    sequence = gradients(12, 3, 2, 2, count=12)
    config = configuration("soap", precond_freq=5)
    ours = drive(build_optimizer(config, kernel), kernel.weight, sequence)
    flat = drive(build_optimizer(config, matrix), matrix.weight, [g.flatten(1) for g in sequence])
    assert torch.equal(ours[-1].flatten(1), flat[-1])


def test_state_is_float32_and_of_the_documented_shapes() -> None:
    model = Weight(4, 9, dtype=torch.float32)
    optimizer = build_optimizer(configuration("soap", max_precond_dim=8), model)
    drive(optimizer, model.weight, gradients(4, 9, count=12, dtype=torch.float32))
    state = optimizer.state[model.weight]
    tensors = {key: value for key, value in state.items() if key != "step"}
    assert {key: tuple(value.shape) for key, value in tensors.items()} == {
        "M": (4, 9),
        "V": (4, 9),
        "L": (4, 4),
        "Q_L": (4, 4),
    }
    assert {value.dtype for value in tensors.values()} == {torch.float32}
    assert state["step"] == 11
