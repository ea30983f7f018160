from __future__ import annotations

import numpy as np
import pytest

from reproduce.data.images.image_set import Labelled, StoredImages, checked_labels
from reproduce.errors import OfeError


@pytest.mark.parametrize("label", [None, -1, 10, "3", 2.5])
def test_a_label_that_is_no_class_is_named_wherever_it_stands(label: object) -> None:
    for row in (0, 7):
        labels: list[object] = list(range(10))
        labels[row] = label
        with pytest.raises(OfeError, match=f"the label of image {row} of these is {label!r}, not a number from 0 to 9"):
            checked_labels(labels, 10, "these")
    assert checked_labels([0, 9, 3], 10, "these").tolist() == [0, 9, 3]


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
