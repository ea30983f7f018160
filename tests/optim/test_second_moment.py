"""The two forms of the second moment."""

from __future__ import annotations

import pytest
import torch

from reproduce.optim import second_moment

from .toys import gradients


def accumulated(sequence: list[torch.Tensor], *, factored: bool, beta2: float = 0.9) -> dict[str, torch.Tensor]:
    state = second_moment.zeros(sequence[0], factored=factored)
    for gradient in sequence:
        second_moment.accumulate(state, gradient, beta2)
    return state


def test_factored_moment_has_the_whole_ones_row_and_column_means_and_rank_one() -> None:
    sequence = gradients(5, 8, count=12)
    whole = second_moment.root(accumulated(sequence, factored=False)) ** 2
    factored = second_moment.root(accumulated(sequence, factored=True)) ** 2
    torch.testing.assert_close(factored.mean(0), whole.mean(0))
    torch.testing.assert_close(factored.mean(1), whole.mean(1))
    assert torch.linalg.matrix_rank(factored) == 1
    assert not torch.allclose(factored, whole, rtol=0.01)


def test_whole_moment_is_the_moving_average_of_squares() -> None:
    sequence = gradients(3, 2, count=3)
    expected = 0.1 * (0.81 * sequence[0] ** 2 + 0.9 * sequence[1] ** 2 + sequence[2] ** 2)
    torch.testing.assert_close(accumulated(sequence, factored=False)["V"], expected)


@pytest.mark.parametrize("shape", [(4,), ()])
def test_vectors_and_scalars_are_never_factored(shape: tuple[int, ...]) -> None:
    assert second_moment.zeros(torch.ones(shape), factored=True).keys() == {"V"}


@pytest.mark.parametrize("factored", [False, True])
def test_permuting_the_state_is_permuting_the_gradients(factored: bool) -> None:
    rows, columns = torch.tensor([2, 0, 1]), torch.tensor([3, 1, 0, 2])
    sequence = gradients(3, 4, count=5)
    state = accumulated(sequence, factored=factored)
    second_moment.permute(state, rows, columns)
    expected = accumulated([gradient[rows][:, columns] for gradient in sequence], factored=factored)
    torch.testing.assert_close(second_moment.root(state), second_moment.root(expected))


def test_an_axis_without_an_order_stays() -> None:
    state = accumulated(gradients(3, 4, count=5), factored=True)
    rows = state["r"].clone()
    second_moment.permute(state, None, torch.tensor([3, 1, 0, 2]))
    torch.testing.assert_close(state["r"], rows)


def test_tiny_gradients_do_not_underflow() -> None:
    """r_i c_j is 1e-72 here, far below what float32 can hold."""
    unit, tiny = (
        accumulated([scale * g for g in gradients(4, 6, count=3, dtype=torch.float32)], factored=True)
        for scale in (1.0, 1e-18)
    )
    torch.testing.assert_close(second_moment.root(tiny), 1e-18 * second_moment.root(unit), rtol=1e-4, atol=0)


def test_a_gradient_that_was_always_zero_has_moment_zero() -> None:
    state = accumulated([torch.zeros(3, 4)], factored=True)
    assert torch.equal(second_moment.root(state), torch.zeros(3, 4))
