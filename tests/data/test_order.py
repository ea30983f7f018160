from __future__ import annotations

import numpy as np
import pytest

from reproduce.data.order import epoch_rows, permutation, place


def test_the_order_is_the_same_on_every_machine_and_with_every_numpy() -> None:
    assert permutation(8, 0, 0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert permutation(8, 1, 0).tolist() == [3, 5, 2, 7, 0, 6, 1, 4]
    assert permutation(8, 0, 1).tolist() == [5, 3, 7, 2, 4, 1, 0, 6]


def test_a_permutation_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        permutation(8, 0, 0)[0] = 1


def test_a_step_has_its_place_in_an_epoch_of_whole_batches_and_a_rest() -> None:
    places = [place(10, step, 4) for step in range(4)]
    assert places == [(0, 0, 4), (0, 4, 8), (0, 8, 10), (1, 0, 4)]
    assert place(8, 2, 4) == (1, 0, 4)
    assert place(3, 1, 4) == (1, 0, 3)  # a batch larger than an epoch is all of it


@pytest.mark.parametrize(("count", "batch_size"), [(50, 8), (48, 8), (5, 8)])
def test_every_epoch_has_every_image_once_in_an_order_of_its_own(count: int, batch_size: int) -> None:
    steps = -(-count // batch_size)
    epochs = [
        np.concatenate([epoch_rows(count, 0, epoch * steps + step, batch_size) for step in range(steps)])
        for epoch in range(3)
    ]
    assert all(sorted(rows) == list(range(count)) for rows in epochs)
    assert (epochs[0] != epochs[1]).any()
    assert (epoch_rows(count, 1, 0, batch_size) != epoch_rows(count, 0, 0, batch_size)).any()
