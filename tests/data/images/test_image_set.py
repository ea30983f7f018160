from __future__ import annotations

import numpy as np
import pytest

from reproduce.data.images.image_set import Labelled, StoredImages, epoch_rows, place


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


def test_stored_images_keep_their_labels() -> None:
    labels = np.arange(30)
    images = np.broadcast_to(labels[:, None, None, None], (30, 3, 2, 2)).astype(np.uint8)
    stored = StoredImages("thirty", Labelled(images[:20], labels[:20]), Labelled(images[20:], labels[20:]))
    assert (stored.train_images, stored.test_images) == (20, 10)
    for batch in (stored.train_batch(0, 2, 8), stored.test_batch(0, 10)):
        assert (batch.images[:, 0, 0, 0] == batch.labels).all()
    assert len(stored.train_batch(0, 2, 8).labels) == 4
    assert sorted(stored.test_batch(0, 10).labels) == list(range(20, 30))
    assert (stored.test_batch(0, 10).labels != np.arange(20, 30)).any()
    np.testing.assert_array_equal(stored.test_batch(3, 5).labels, stored.test_batch(0, 10).labels[3:5])
