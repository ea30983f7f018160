"""ImageNet's loading code on a small image folder, and on a made-up hub: never on the network."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pytest
from PIL import Image

from reproduce.config import AugmentConfig, ImageData
from reproduce.data import fingerprint, open_images
from reproduce.data.images.decoding import _draws, centre_box, random_box
from reproduce.data.sources import imagenet
from reproduce.data.sources.imagenet import DATASET
from reproduce.errors import OfeError, SpecError

CLASSES = ("n01", "n02", "n03")


def encoded(value: int, size: tuple[int, int] = (40, 30)) -> bytes:
    """A PNG of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, (value, 2 * value, 3)).save(file, "png")
    return file.getvalue()


def fill(root: Path, test: str = "val") -> ImageData:
    """12 training and 6 held-out images; the red of an image is 10 times its class and its number."""
    for split, count in (("train", 4), (test, 2)):
        for label, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                (root / split / name / f"{number}.PNG").write_bytes(encoded(10 * label + number))
    (root / "train" / "n01" / "notes.txt").write_text("no image")
    return ImageData(source="imagenet-1k", path=str(root), side=16, classes=3)


@pytest.fixture
def folder(tmp_path: Path) -> ImageData:
    return fill(tmp_path / "imagenet")


def reds(images: np.ndarray) -> list[int]:
    assert (images[:, 0] == images[:, :1, 0, 0][..., None]).all()
    return images[:, 0, 0, 0].tolist()


def test_an_epoch_reads_every_image_once_with_its_label(folder: ImageData) -> None:
    images = open_images(folder).set
    assert (images.train_images, images.test_images) == (12, 6)
    batches = [images.train_batch(0, step, 5) for step in range(3)]
    assert [batch.images.shape for batch in batches] == [(5, 3, 16, 16), (5, 3, 16, 16), (2, 3, 16, 16)]
    seen = [red for batch in batches for red in reds(batch.images)]
    assert sorted(seen) == [10 * label + number for label in range(3) for number in range(4)]
    assert [red // 10 for red in seen] == [label for batch in batches for label in batch.labels]
    test = images.test_batch(0, 6)
    assert [red // 10 for red in reds(test.images)] == test.labels.tolist()
    assert sorted(reds(test.images)) == [0, 1, 10, 11, 20, 21]


def test_what_is_no_image_and_classes_without_any_are_counted(folder: ImageData) -> None:
    root = Path(str(folder.path))
    (root / "train/n00").mkdir()
    (root / "val/n03/b.gif").write_bytes(b"GIF")
    (root / "val/list.csv").write_text("a")
    lines: list[str] = []
    images = open_images(folder, progress=lines.append)
    assert [line for line in lines if "left out" in line] == [
        "1 of 4 class folders is without images and is left out: train/n00",
        "1 of 13 files is no image and is left out: train/n01/notes.txt",
        "2 of 8 files are no image and are left out: val/list.csv, val/n03/b.gif",
    ]
    assert images.description == "ImageNet-1K (imagenet), without 1 of 4 class folders (without images)"
    meta = json.loads((images.folder / "meta.json").read_text())
    assert [one["count"] for one in meta["left_out"]] == [1, 1, 2]


def test_reading_ahead_changes_nothing(folder: ImageData) -> None:
    data = folder.model_copy(update={"augment": AugmentConfig(crop=True)})
    ahead, alone = open_images(data).set, open_images(data).set
    ahead.train_batch(0, 0, 5)
    for step in (1, 3, 2):
        expected = open_images(data).set.train_batch(0, step, 5)
        for images in (ahead, alone):
            found = images.train_batch(0, step, 5)
            np.testing.assert_array_equal(found.images, expected.images)
            np.testing.assert_array_equal(found.labels, expected.labels)


def test_held_out_images_are_resized_and_cropped_as_deit_does(folder: ImageData) -> None:
    assert folder.path is not None
    draw = np.random.default_rng(0)
    original = Image.fromarray(draw.integers(0, 256, (64, 96, 3), np.uint8))
    original.save(Path(folder.path) / "val" / "n01" / "0.PNG", "png")
    # Shorter side to 32 = 28 / 0.875, then the central 28 x 28.
    expected = np.asarray(original.resize((48, 32), Image.Resampling.BICUBIC).crop((10, 2, 38, 30))).transpose(2, 0, 1)
    images = open_images(folder.model_copy(update={"side": 28})).set.test_batch(0, 6).images
    assert min(np.abs(image.astype(int) - expected).max() for image in images) <= 1


def test_random_crops_fit_and_have_the_sizes_they_are_drawn_from() -> None:
    boxes = np.array([random_box(100, 60, draws) for draws in _draws(3000, 0, 0)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 100).all()
    assert (boxes[:, 3] <= 60).all()
    area = width * height / 6000
    assert 0.07 < area.min() < 0.1
    assert area.max() > 0.7
    assert (width / height).min() > 0.7
    assert (width / height).max() < 1.45
    assert {boxes[:, 0].min(), boxes[:, 1].min()} == {0}
    assert boxes[:, 2].max() == 100


def test_an_image_in_which_nothing_fits_is_cropped_to_its_centre() -> None:
    assert random_box(1000, 10, _draws(1, 0, 0)[0] * 0 + 0.9) == centre_box(1000, 10)


def test_crops_follow_seed_and_step(folder: ImageData) -> None:
    assert folder.path is not None
    for path in (Path(folder.path) / "train").rglob("*.PNG"):
        ramp = np.arange(40, dtype=np.uint8)[None, :, None] * np.ones((30, 1, 3), np.uint8)
        Image.fromarray(ramp).save(path, "png")
    plain = open_images(folder).set.train_batch(0, 0, 12).images
    assert (plain == plain[0]).all()
    cropped = open_images(folder.model_copy(update={"augment": AugmentConfig(crop=True)})).set
    first, again, other = (cropped.train_batch(seed, 0, 12).images for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert len({image.tobytes() for image in first}) == 12


def test_a_moved_folder_is_the_same_images(folder: ImageData, tmp_path: Path) -> None:
    moved = fill(tmp_path / "elsewhere", test="validation")
    assert folder.path is not None
    first = fingerprint(folder)
    renamed = Path(folder.path).rename(tmp_path / "moved")
    assert fingerprint(folder.model_copy(update={"path": str(renamed)})) == first
    (renamed / "train/n01/0.PNG").unlink()
    assert fingerprint(folder.model_copy(update={"path": str(renamed)})) != first
    assert open_images(moved).set.test_images == 6


def test_a_damaged_image_is_named(folder: ImageData) -> None:
    assert folder.path is not None
    images = open_images(folder).set
    (Path(folder.path) / "val/n02/1.PNG").write_bytes(b"no image")
    with pytest.raises(OfeError, match=r"val/n02/1\.PNG cannot be read as an image"):
        images.test_batch(0, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 4}, "these images have 3 classes, not 4"),
        ({"whiten": True}, "too large to be whitened"),
        ({"train_images": 5}, "has all its images"),
        ({"path": "/nowhere"}, "has no folders train and val"),
    ],
)
def test_what_it_does_not_have(folder: ImageData, change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        fingerprint(folder.model_copy(update=change))
    assert caught.value.hint


def test_held_out_classes_are_trained_ones(folder: ImageData) -> None:
    assert folder.path is not None
    (Path(folder.path) / "val/n02").rename(Path(folder.path) / "val/n09")
    with pytest.raises(OfeError, match="are not those of"):
        fingerprint(folder)


def test_a_source_that_reads_no_files_cannot_crop() -> None:
    data = ImageData(source="photo-patches", train_images=10, augment=AugmentConfig(crop=True))
    with pytest.raises(SpecError, match="photo-patches has no files to crop"):
        fingerprint(data)


def test_the_hub_is_read_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, *, split: str, revision: str) -> datasets.Dataset:
        assert (name, revision) == (DATASET, imagenet.REVISION)
        labels = [0, 1, 2, 0] if split == "train" else [2, 1]
        rows = {"image": [{"bytes": encoded(10 * label), "path": None} for label in labels], "label": labels}
        features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
        return datasets.Dataset.from_dict(rows, features)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(imagenet, "HUB_CLASSES", 3)
    images = open_images(ImageData(source="imagenet-1k", side=8, classes=3)).set
    for batch in (images.train_batch(0, 0, 4), images.test_batch(0, 2)):
        assert [red // 10 for red in reds(batch.images)] == batch.labels.tolist()
    assert (images.train_images, images.test_images) == (4, 2)


def test_a_hub_that_does_not_let_in_tells_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: object, **options: object) -> None:
        raise datasets.exceptions.DatasetNotFoundError("Dataset is a gated dataset.")

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(imagenet, "hub_is_known", lambda: True)
    with pytest.raises(OfeError, match=r"cannot read ILSVRC/imagenet-1k \(155 GB\): Dataset is a gated") as caught:
        open_images(ImageData(source="imagenet-1k", side=8, classes=1000))
    assert "hf auth login" in str(caught.value.hint)


@pytest.mark.parametrize("offline", [True, False])
def test_offline_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch, offline: bool) -> None:
    """Nor where its name has no address."""

    def load(*arguments: object, **options: object) -> None:
        assert datasets.config.HF_HUB_OFFLINE
        assert huggingface_hub.constants.HF_HUB_OFFLINE
        raise ConnectionError("Couldn't reach 'ILSVRC/imagenet-1k' on the Hub (OfflineModeIsEnabled)")

    for place in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(place, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(imagenet, "hub_is_known", lambda: False)
    with pytest.raises(OfeError, match=r"ILSVRC/imagenet-1k \(155 GB\) is not in the cache") as caught:
        open_images(ImageData(source="imagenet-1k", side=8, classes=1000), offline=offline)
    reason = "the network may not be used" if offline else "huggingface.co cannot be found"
    assert caught.value.message.endswith(f"of the Hugging Face hub, and {reason}")
    assert ("into the cache" if offline else "check the network") in str(caught.value.hint)
    assert not datasets.config.HF_HUB_OFFLINE
