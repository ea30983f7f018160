"""CIFAR-10's loading code on a small copy in its real layout, and on a hub cache made by hand: never on the network."""

from __future__ import annotations

import io
import os
import pickle
import random
import tarfile
import zlib
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from reproduce.config import ImageData
from reproduce.data import fingerprint, open_images
from reproduce.data.images.image_set import Labelled, StoredImages
from reproduce.data.images.opening import Images
from reproduce.data.sources import cifar10
from reproduce.data.sources.cifar10 import DATASET, REVISION
from reproduce.errors import OfeError, SpecError

DRAW = np.random.default_rng(0)
TRAIN = [(DRAW.integers(0, 256, (8, 3072), np.uint8), DRAW.integers(0, 10, 8).tolist()) for _ in range(5)]
TEST = (DRAW.integers(0, 256, (6, 3072), np.uint8), DRAW.integers(0, 10, 6).tolist())


def contents() -> dict[str, bytes]:
    """The files of cifar-10-python.tar.gz with fewer rows; protocol 2, as Python 2 wrote them."""
    named = {f"data_batch_{number}": batch for number, batch in enumerate(TRAIN, start=1)} | {"test_batch": TEST}
    files = {
        name: pickle.dumps(
            {b"batch_label": name.encode(), b"labels": labels, b"data": data, b"filenames": [b"a.png"] * len(labels)}, 2
        )
        for name, (data, labels) in named.items()
    }
    return files | {"batches.meta": pickle.dumps({b"label_names": [b"airplane"]}, 2), "readme.html": b"<html>"}


def write_archive(path: Path, files: dict[str, bytes]) -> ImageData:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return ImageData(source="cifar10", path=str(path))


def write_folder(path: Path, files: dict[str, bytes]) -> ImageData:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return ImageData(source="cifar10", path=str(path))


@pytest.fixture
def archive(tmp_path: Path) -> ImageData:
    return write_archive(tmp_path / "cifar-10-python.tar.gz", contents())


def train_set(images: Images) -> Labelled:
    assert isinstance(images.set, StoredImages)
    return images.set.train


def check(data: ImageData) -> None:
    """What `data` opens is TRAIN and TEST."""
    images = open_images(data)
    train = train_set(images)
    np.testing.assert_array_equal(train.images.reshape(40, 3072), np.concatenate([rows for rows, _ in TRAIN]))
    assert train.labels.tolist() == [label for _, labels in TRAIN for label in labels]
    test = images.set.test_batch(0, 6)
    expected = {rows.tobytes(): label for rows, label in zip(*TEST, strict=True)}
    assert {row.tobytes(): label for row, label in zip(*test, strict=True)} == expected


def test_an_archive_and_its_folders_are_the_same_images(archive: ImageData, tmp_path: Path) -> None:
    check(archive)
    for place in (tmp_path / "unpacked", tmp_path / "around" / "cifar-10-batches-py"):
        folder = write_folder(place, contents())
        assert fingerprint(folder) == fingerprint(archive)
    around = ImageData(source="cifar10", path=str(tmp_path / "around"))
    assert fingerprint(around) == fingerprint(archive)
    check(around)


def test_pixels_are_planes_of_red_green_and_blue(tmp_path: Path) -> None:
    files = contents()
    row = np.concatenate([np.full(1024, 10), np.full(1024, 20), np.arange(1024) % 32]).astype(np.uint8)
    files["data_batch_1"] = pickle.dumps({b"data": np.stack([row]), b"labels": [3]}, 2)
    image = train_set(open_images(write_folder(tmp_path / "x", files))).images[0]
    assert (image[0] == 10).all()
    assert (image[1] == 20).all()
    assert (image[2] == np.arange(32)).all()


def test_what_is_prepared_serves_after_the_archive_is_gone(archive: ImageData) -> None:
    pinned = archive.model_copy(update={"fingerprint": open_images(archive).fingerprint})
    assert archive.path is not None
    Path(archive.path).unlink()
    check(pinned)


def test_a_changed_copy_is_other_data(archive: ImageData, tmp_path: Path) -> None:
    pinned = archive.model_copy(update={"fingerprint": fingerprint(archive)})
    changed = contents()
    changed["test_batch"] = changed["data_batch_1"]
    again = write_archive(tmp_path / "cifar-10-python.tar.gz", changed)
    assert fingerprint(again) != pinned.fingerprint
    with pytest.raises(OfeError, match="are not those this run was made for"):
        open_images(pinned)


class _Bad:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_a_copy_that_would_run_something_is_refused(tmp_path: Path) -> None:
    done = tmp_path / "done"
    files = contents() | {"data_batch_3": pickle.dumps({b"data": _Bad(done), b"labels": []})}
    for data in (write_archive(tmp_path / "a.tar.gz", files), write_folder(tmp_path / "x", files)):
        with pytest.raises(OfeError, match=r"data_batch_3 is refused: it would call posix\.system"):
            open_images(data)
    assert not done.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data_batch_2", pickle.dumps([1]), "data_batch_2 holds no dictionary"),
        ("data_batch_2", pickle.dumps({b"labels": [1]}), "data_batch_2 holds no images"),
        ("test_batch", pickle.dumps({b"data": TEST[0], b"labels": [1, 2]}), "no labels for its 6 images"),
        ("test_batch", pickle.dumps({b"data": TEST[0], b"labels": [10] * 6}), "no labels for its 6 images"),
        ("test_batch", pickle.dumps({b"data": TEST[0], b"fine_labels": [1] * 6}), "no labels for its 6 images"),
    ],
)
def test_other_contents_are_told(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(OfeError, match=message) as caught:
        open_images(write_folder(tmp_path / "x", contents() | {name: content}))
    assert "in its layout for Python" in str(caught.value.hint)


def damage_the_coding(archive: bytes) -> bytes:
    """The archive damaged in a place that zlib itself finds wrong."""
    for place in range(40_000, 60_000, 100):
        damaged = archive[:place] + b"\xff" * 300 + archive[place + 300 :]
        with tarfile.open(fileobj=io.BytesIO(damaged)) as opened:
            try:
                opened.getmembers()
            except tarfile.TarError:
                continue
            except zlib.error:
                return damaged
    raise AssertionError("zlib took everything")


def test_a_copy_that_is_not_whole_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = contents()
    del files["data_batch_4"]
    with pytest.raises(OfeError, match="lacks data_batch_4"):
        open_images(write_archive(tmp_path / "a.tar.gz", files))
    with pytest.raises(SpecError, match="does not exist"):
        fingerprint(ImageData(source="cifar10", path=str(tmp_path / "nowhere")))
    (tmp_path / "b.tar.gz").write_bytes(b"no archive")
    with pytest.raises(OfeError, match="cannot be read as an archive"):
        fingerprint(ImageData(source="cifar10", path=str(tmp_path / "b.tar.gz")))
    write_archive(tmp_path / "d.tar.gz", {f"data_batch_{one}": random.Random(one).randbytes(40_000) for one in (1, 2)})
    damaged = damage_the_coding((tmp_path / "d.tar.gz").read_bytes())
    (tmp_path / "d.tar.gz").write_bytes(damaged)
    with pytest.raises(OfeError, match="cannot be read as an archive"):
        fingerprint(ImageData(source="cifar10", path=str(tmp_path / "d.tar.gz")))
    monkeypatch.setattr(cifar10, "_LARGEST_FILE", 1000)
    with pytest.raises(OfeError, match="is too large for a file of CIFAR-10"):
        open_images(write_archive(tmp_path / "c.tar.gz", contents()))


def test_links_of_an_archive_are_not_followed(tmp_path: Path) -> None:
    files = contents()
    secret = files.pop("test_batch")
    (tmp_path / "secret").write_bytes(secret)
    data = write_archive(tmp_path / "a.tar.gz", files)
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("test_batch")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        archive.addfile(link)
    with pytest.raises(OfeError, match="lacks test_batch"):
        open_images(data.model_copy(update={"path": str(tmp_path / "b.tar.gz")}))


@pytest.mark.parametrize("change", [{"side": 16}, {"classes": 100}, {"train_images": 5}])
def test_what_cifar10_does_not_have(change: dict[str, int]) -> None:
    with pytest.raises(SpecError) as caught:
        fingerprint(ImageData(source="cifar10").model_copy(update=change))
    assert str(caught.value.hint).startswith("set data.")


def test_too_few_images_are_not_whitened(archive: ImageData) -> None:
    with pytest.raises(OfeError, match="whitening 3,072 values needs more training images than the 40"):
        open_images(archive.model_copy(update={"whiten": True}))


# ---------------------------------------------------------------------------------------------------
# The hub


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub in offline mode with an empty cache; gives the cache's folder."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def _png(row: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(row.reshape(3, 32, 32).transpose(1, 2, 0)).save(file, "png")
    return file.getvalue()


def fill_cache(cache: Path) -> None:
    """What the hub's client leaves behind when it has downloaded the data set."""
    snapshot = cache / f"datasets--{DATASET.replace('/', '--')}" / "snapshots" / REVISION
    (snapshot / "plain_text").mkdir(parents=True)
    (snapshot / "README.md").write_text(
        "---\nconfigs:\n- config_name: plain_text\n  data_files:\n  - split: train\n    path: plain_text/train-*\n"
        "  - split: test\n    path: plain_text/test-*\n---\n"
    )
    for split, batches in (("train", TRAIN), ("test", [TEST])):
        rows = [
            {"img": {"bytes": _png(row), "path": None}, "label": label}
            for data, labels in batches
            for row, label in zip(data, labels, strict=True)
        ]
        pq.write_table(pa.Table.from_pylist(rows), snapshot / "plain_text" / f"{split}-00000-of-00001.parquet")


def test_the_hub_gives_the_same_images(cache: Path) -> None:
    fill_cache(cache)
    data = ImageData(source="cifar10")
    first = fingerprint(data)
    check(data)
    assert open_images(data).fingerprint == first


def test_without_cache_and_network_the_way_out_is_told(cache: Path) -> None:
    with pytest.raises(OfeError, match=r"cifar10 \(144 MB\) is not in the cache of the Hugging Face hub"):
        open_images(ImageData(source="cifar10"))
