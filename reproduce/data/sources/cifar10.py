"""CIFAR-10, the paper's small images: 50,000 to train on, 10,000 to test, 32 x 32 pixels, ten classes.

From the Hugging Face hub, or from the copy of cs.toronto.edu/~kriz/cifar.html that `data.path` names: the archive
cifar-10-python.tar.gz, or the folder in it.

    data_batch_1 ... data_batch_5, test_batch      pickles of {b"data": uint8 (N, 3072), b"labels": N integers}

A row of `data` is the red, the green and the blue plane of an image. Pickles are read as
`reproduce.data.images.plain_pickle` does, an archive in memory, without unpacking it.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.config import ImageData
from reproduce.data.arrays import save_array
from reproduce.data.files import read_bytes
from reproduce.data.hub import explained, find_snapshot, may_not_download
from reproduce.data.images.image_set import Labelled, StoredImages, checked_labels
from reproduce.data.images.plain_pickle import load_plain
from reproduce.data.progress import Progress
from reproduce.errors import OfeError, SpecError
from reproduce.models.size import CHANNELS
from reproduce.store.home import stated

DATASET = "uoft-cs/cifar10"
REVISION = "0b2714987fa478483af9968de7c934580d0bb9a2"
"""The commit in which the data set became parquet files."""
CONFIG = "plain_text"
SIDE, CLASSES = 32, 10
TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILES = ("test_batch",)
_FILES = TRAIN_FILES + TEST_FILES
_LARGEST_FILE = 200_000_000
"""Bytes; a real one has 31 million. An archive that unpacks to more is not CIFAR-10."""


class Cifar10:
    """The hub's data set, or the copy in `data.path`.

    Raises:
        SpecError: `data` asks for another size, another number of classes or another epoch than CIFAR-10 has.
    """

    def __init__(self, data: ImageData) -> None:
        for name, asked, real in (("side", data.side, SIDE), ("classes", data.classes, CLASSES)):
            if asked != real:
                raise SpecError(f"cifar10 has {name} {real}, not {asked}", hint=f"set data.{name}={real}")
        if data.train_images is not None:
            raise SpecError("an epoch of cifar10 has all its images", hint="set data.train_images=null")
        self.path = None if data.path is None else stated(data.path)

    def identity(self) -> Mapping[str, Any]:
        if self.path is None:
            return {"source": "cifar10", "dataset": [DATASET, CONFIG, REVISION]}
        return {"source": "cifar10", "files": _digests(self.path, *_signature(self.path))}

    def prepare(self, folder: Path, *, progress: Progress, offline: bool) -> Mapping[str, Any]:
        """Write images and labels of both splits, as they are stored in the source."""
        if self.path is None:
            splits, description = _from_hub(progress, offline), f"CIFAR-10 ({DATASET})"
        else:
            progress(f"reading {self.path}")
            files = read_files(self.path)
            splits = {
                "train": _labelled(files, TRAIN_FILES, self.path),
                "test": _labelled(files, TEST_FILES, self.path),
            }
            description = f"CIFAR-10 ({self.path.name})"
        for split, (images, labels) in splits.items():
            save_array(folder / f"{split}_images.npy", images)
            save_array(folder / f"{split}_labels.npy", labels)
        return {"description": description, "images": {split: len(part.labels) for split, part in splits.items()}}

    def open(self, folder: Path, meta: Mapping[str, Any]) -> StoredImages:
        train, test = (
            Labelled(np.load(folder / f"{split}_images.npy"), np.load(folder / f"{split}_labels.npy"))
            for split in ("train", "test")
        )
        return StoredImages(meta["description"], train, test)


# ---------------------------------------------------------------------------------------------------
# A copy


def read_files(path: Path) -> dict[str, bytes]:
    """The six files of an archive, or of a folder or the folder in it, by name.

    Raises:
        SpecError: there is no such archive or folder.
        OfeError: a file is missing, too large, or cannot be read.
    """
    if path.is_dir():
        folder = next((found.parent for found in sorted(path.rglob(_FILES[0]))), path)
        files = {name: read_bytes(folder / name) for name in _FILES if (folder / name).is_file()}
    elif path.is_file():
        files = _read_archive(path)
    else:
        raise SpecError(f"{path} does not exist", hint="set data.path to cifar-10-python.tar.gz or the folder in it")
    missing = [name for name in _FILES if name not in files]
    if missing:
        raise OfeError(
            f"{path} lacks {', '.join(missing)}", hint="data.path takes CIFAR-10 in its layout for Python, whole"
        )
    return files


def _read_archive(path: Path) -> dict[str, bytes]:
    files = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name not in _FILES or not member.isfile():
                    continue
                if member.size > _LARGEST_FILE:
                    raise OfeError(f"{name} in {path} is too large for a file of CIFAR-10", hint="take a fresh copy")
                content = archive.extractfile(member)
                assert content is not None
                files[name] = content.read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise OfeError(f"{path} cannot be read as an archive: {error}", hint="take a fresh copy") from error
    return files


def _signature(path: Path) -> tuple[int, int]:
    """Size and time of change, which make a changed archive or folder another entry of the cache."""
    try:
        paths = [path, *(found for name in _FILES for found in path.rglob(name))] if path.is_dir() else [path]
        statuses = [found.stat() for found in paths]
    except OSError:
        return 0, 0  # told when it is read
    return sum(status.st_size for status in statuses), max(status.st_mtime_ns for status in statuses)


@cache
def _digests(path: Path, size: int, modified_ns: int) -> dict[str, str]:
    """Hashes of the six files: the same for the archive and the folder."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(read_files(path).items())}


def _labelled(files: Mapping[str, bytes], names: tuple[str, ...], path: Path) -> Labelled:
    parts = [_batch(load_plain(files[name], str(path / name)), str(path / name)) for name in names]
    return Labelled(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _batch(content: Any, what: str) -> Labelled:
    """Images and labels of one file, whose keys are bytes (Python 2) or strings."""
    hint = "CIFAR-10 in its layout for Python has data, uint8 (N, 3072), and N labels from 0 to 9"
    if not isinstance(content, dict):
        raise OfeError(f"{what} holds no dictionary", hint=hint)
    data, labels = (content.get(key.encode(), content.get(key)) for key in ("data", "labels"))
    size = CHANNELS * SIDE**2
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != size:
        raise OfeError(f"{what} holds no images", hint=hint)
    numbers = np.asarray(labels)
    if numbers.shape != (len(data),) or numbers.dtype.kind not in "iu" or not np.isin(numbers, range(CLASSES)).all():
        raise OfeError(f"{what} holds no labels for its {len(data):,} images", hint=hint)
    return Labelled(data.reshape(-1, CHANNELS, SIDE, SIDE), numbers.astype(np.int64))


# ---------------------------------------------------------------------------------------------------
# The hub


def _from_hub(progress: Progress, offline: bool) -> dict[str, Labelled]:
    import datasets

    offline = may_not_download(offline)
    progress(f"looking up {DATASET}")
    wanted = ["README.md", f"{CONFIG}/*"]
    snapshot = find_snapshot(DATASET, REVISION, copy="cifar-10-python.tar.gz", offline=offline, wanted=wanted)
    splits = {}
    for split in ("train", "test"):
        progress(f"decoding the images of {split}")
        with explained(f"cannot read the split {split} of {DATASET}"):
            rows = datasets.load_dataset(str(snapshot), CONFIG, split=split, streaming=True)
            rows = rows.cast_column("img", datasets.Image(decode=False))
            decoded = [(_pixels(row["img"]["bytes"]), row["label"]) for row in rows]
        if not decoded:
            raise OfeError(f"the split {split} of {DATASET} has no images", hint="take a fresh copy")
        images, labels = zip(*decoded, strict=True)
        what = f"{DATASET}, {split}"
        for row, image in enumerate(images):
            if image.shape != (CHANNELS, SIDE, SIDE):
                high, wide = image.shape[1:]
                raise OfeError(f"image {row:,} of {what} has {wide} x {high} pixels", hint="take a fresh copy")
        splits[split] = Labelled(np.stack(images), checked_labels(labels, CLASSES, what))
    return splits


def _pixels(content: bytes) -> np.ndarray:
    """A PNG as (3, 32, 32) uint8."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)
