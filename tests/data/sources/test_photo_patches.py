from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reproduce.config import ImageData
from reproduce.data import fingerprint, open_images
from reproduce.data.images.patches import Patches
from reproduce.data.sources import photo_patches
from reproduce.errors import OfeError, SpecError

DATA = ImageData(source="photo-patches", side=8, train_images=100)


@pytest.fixture(scope="module")
def numbered() -> np.ndarray:
    """Photographs whose pixels say where they are: photograph, row and column, less their higher bits."""
    photograph, row, column = np.indices((2, 427, 640))
    return np.stack([photograph * 128 + row // 256 * 64 + column // 256, row % 256, column % 256], -1).astype(np.uint8)


def patches_of(photographs: np.ndarray, side: int, train_images: int) -> Patches:
    rows = (photo_patches.TRAIN_ROWS, photo_patches.TEST_ROWS)
    return Patches("", photographs, side, train_images, strips=photo_patches.STRIPS, rows=rows)


def pixels(images: np.ndarray) -> np.ndarray:
    """Photograph, row and column of every pixel of patches (N, 3, S, S) of the numbered photographs: (3, N, S, S)."""
    first, row, column = images.astype(int).transpose(1, 0, 2, 3)
    return np.stack([first // 128, row + 256 * (first % 128 // 64), column + 256 * (first % 64)])


def test_no_pixel_is_both_trained_on_and_held_out(numbered: np.ndarray) -> None:
    patches = patches_of(numbered, 32, 1000)
    seen = np.zeros((2, 427, 640), bool)
    for step in range(20):
        seen[tuple(pixels(patches.train_batch(0, step, 500).images))] = True
    seen[tuple(pixels(patches.fitting_images()[:4000]))] = True
    held_out = np.zeros_like(seen)
    held_out[tuple(pixels(patches.test_batch(0, 10_000).images))] = True
    assert not (seen & held_out).any()
    assert seen.mean() > 0.6
    assert held_out.mean() > 0.3


def test_a_patch_lies_in_the_strip_of_its_class_and_is_whole(numbered: np.ndarray) -> None:
    patches = patches_of(numbered, 16, 1000)
    for images, labels in (patches.train_batch(3, 0, 1000), patches.test_batch(0, 1000)):
        photograph, row, column = pixels(images)
        assert (5 * photograph + column // 128 == labels[:, None, None]).all()
        assert (np.diff(row, axis=1) == 1).all()
        steps = np.diff(column, axis=2)
        assert (steps == steps[:, :1, :1]).all()
        assert abs((steps[:, 0, 0] == -1).mean() - 0.5) < 0.05
        assert np.bincount(labels, minlength=10).min() > 60


def test_batches_are_a_function_of_seed_and_step(numbered: np.ndarray) -> None:
    first, second = (patches_of(numbered, 8, 100) for _ in range(2))
    batch = first.train_batch(1, 5, 32)
    second.train_batch(1, 4, 32)
    np.testing.assert_array_equal(second.train_batch(1, 5, 32).images, batch.images)
    others = [first.train_batch(1, 6, 32), first.train_batch(2, 5, 32)]
    assert all((other.images != batch.images).any() for other in others)


def test_an_epoch_ends_with_what_is_left_of_it(numbered: np.ndarray) -> None:
    patches = patches_of(numbered, 8, 100)
    assert [len(patches.train_batch(0, step, 32).labels) for step in range(5)] == [32, 32, 32, 4, 32]


def test_the_photographs_are_those_of_scikit_learn(tmp_path: Path) -> None:
    from sklearn.datasets import load_sample_images

    images = open_images(DATA)
    np.testing.assert_array_equal(np.load(images.folder / "photographs.npy"), load_sample_images().images)
    assert images.set.test_images == 10_000
    assert images.description == "patches of two photographs"


def test_the_fingerprint_follows_the_photographs_and_the_inputs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = fingerprint(DATA)
    assert fingerprint(DATA.model_copy(update={"train_images": 7})) == first
    others = {fingerprint(DATA.model_copy(update=change)) for change in ({"side": 16}, {"whiten": True})}
    path = tmp_path / "china.jpg"
    path.write_bytes(b"another")
    monkeypatch.setattr(photo_patches, "photographs", lambda: {"china.jpg": path})
    assert len({first, fingerprint(DATA), *others}) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 4}, "photo-patches has 10 classes, not 4"),
        ({"side": 37}, "photo-patches has no patches of side 37"),
        ({"train_images": None}, "nothing says how many patches make an epoch"),
        ({"path": "here"}, "the source photo-patches reads no path"),
    ],
)
def test_what_it_does_not_have(change: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        fingerprint(DATA.model_copy(update=change))
    assert caught.value.hint


def test_an_installation_without_photographs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_patches, "NAMES", ("nowhere.jpg",))
    with pytest.raises(OfeError, match="photographs are missing"):
        fingerprint(DATA)
