"""ImageNet-1K, the images of the paper's ViT-B: 1,281,167 to train on, 50,000 held out, 1,000 classes.

From the Hugging Face hub (gated: its terms are accepted there and `hf auth login` done here), or from a folder with an
image folder a split, as ImageNet is usually unpacked:

    train/<class>/*.JPEG      val/<class>/*.JPEG      (or validation/)

Classes are numbered in the order of their names. Images are read when they are trained on and never copied: a prepared
folder holds their names. The fingerprint of a folder is that of these names, as hashing 140 GB would take too long.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reproduce.config import ImageData
from reproduce.data.files import read_bytes
from reproduce.data.hub import (
    explained,
    hub_address,
    hub_is_known,
    may_not_download,
    named,
    not_in_the_cache,
    only_the_cache,
)
from reproduce.data.images.decoding import Files, ImageFiles
from reproduce.data.images.image_set import checked_labels
from reproduce.data.progress import LeftOut, Progress, described, left_out, to_meta
from reproduce.errors import OfeError, SpecError
from reproduce.store.atomic import write_text
from reproduce.store.home import stated
from reproduce.store.json_text import loads

DATASET = "ILSVRC/imagenet-1k"
REVISION = "49e2ee26f3810fb5a7536bbf732a7b07389a47b5"
HUB_CLASSES = 1000
EXTENSIONS = (".jpeg", ".jpg", ".png", ".webp")
READING_VERSION = 1
"""Raised whenever the same files would give other images: it is part of the fingerprint."""
_TEST_NAMES = ("val", "validation")


class ImageNet:
    """The hub's data set, or the folder `data.path`.

    Raises:
        SpecError: `data` asks for whitening, or for another epoch than ImageNet has.
    """

    def __init__(self, data: ImageData) -> None:
        if data.whiten:
            raise SpecError("imagenet-1k is too large to be whitened", hint="set data.whiten=false")
        if data.train_images is not None:
            raise SpecError("an epoch of imagenet-1k has all its images", hint="set data.train_images=null")
        self.data = data
        self.path = None if data.path is None else stated(data.path)

    def identity(self) -> Mapping[str, Any]:
        known = {"source": "imagenet-1k", "reading": READING_VERSION}
        if self.path is None:
            _check_classes(HUB_CLASSES, self.data.classes)
            return known | {"dataset": [DATASET, REVISION]}
        names = json.dumps(self._splits()).encode()
        return known | {"names": hashlib.sha256(names).hexdigest()}

    def _splits(self) -> dict[str, list[str]]:
        """Names of the folder's images, by split."""
        assert self.path is not None
        test = next((self.path / name for name in _TEST_NAMES if (self.path / name).is_dir()), None)
        if test is None or not (self.path / "train").is_dir():
            raise SpecError(
                f"{self.path} has no folders train and val", hint="set data.path to a folder with train/<class>/*.JPEG"
            )
        splits = {"train": list_images(self.path / "train").names, "test": list_images(test).names}
        classes = {split: {name.partition("/")[0] for name in names} for split, names in splits.items()}
        _check_classes(len(classes["train"]), self.data.classes)
        if not splits["test"] or classes["test"] - classes["train"]:
            raise OfeError(f"the classes of {test} are not those of {self.path / 'train'}", hint="unpack both alike")
        return splits | {"test_folder": [test.name]}

    def prepare(self, folder: Path, *, progress: Progress, offline: bool) -> Mapping[str, Any]:
        if self.path is None:
            for split in ("train", "validation"):
                progress(f"bringing the split {split} of {DATASET} into the cache of the Hugging Face hub")
                _hub_split(split)
            return {"description": f"ImageNet-1K ({DATASET})"}
        progress(f"listing the images of {self.path}")
        names = self._splits()
        write_text(folder / "names.json", json.dumps(names))
        left = [one for name in ("train", names["test_folder"][0]) for one in list_images(self.path / name).left_out]
        for one in left:
            progress(str(one))
        return {"description": described(f"ImageNet-1K ({self.path.name})", left), "left_out": to_meta(left)}

    def open(self, folder: Path, meta: Mapping[str, Any]) -> ImageFiles:
        train, test = self._open_hub() if self.path is None else self._open_folder(folder)
        return ImageFiles(meta["description"], train, test, self.data.side, crop=self.data.augment.crop)

    def _open_hub(self) -> tuple[Files, Files]:
        return HubFiles("train"), HubFiles("validation")

    def _open_folder(self, folder: Path) -> tuple[Files, Files]:
        assert self.path is not None
        names = loads((folder / "names.json").read_text(encoding="utf-8"))
        classes = sorted({name.partition("/")[0] for name in names["train"]})
        return (
            FolderFiles(self.path / "train", names["train"], classes),
            FolderFiles(self.path / names["test_folder"][0], names["test"], classes),
        )


def _check_classes(found: int, asked: int) -> None:
    if found != asked:
        raise SpecError(f"these images have {found:,} classes, not {asked:,}", hint=f"set data.classes={found}")


class Listing(NamedTuple):
    """The images of a split's folder, and what beside them is not read."""

    names: list[str]
    """`class/file` of every image, sorted."""
    left_out: list[LeftOut]


def list_images(folder: Path) -> Listing:
    """The images in the folders of `folder`; a few seconds for ImageNet's 1.3 million.

    Raises:
        OfeError: a folder cannot be read.
    """
    names: list[str] = []
    others: list[str] = []
    empty: list[str] = []
    classes = 0
    try:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                others.append(f"{folder.name}/{entry.name}")
                continue
            classes += 1
            files = [name for name in os.listdir(entry) if not name.startswith(".")]
            images = [f"{entry.name}/{name}" for name in files if name.lower().endswith(EXTENSIONS)]
            others += [f"{folder.name}/{entry.name}/{name}" for name in files if not name.lower().endswith(EXTENSIONS)]
            names += images
            if not images:
                empty.append(f"{folder.name}/{entry.name}")
    except OSError as error:
        hint = "change its permissions, or take it out of there"
        raise OfeError(f"cannot read the folder {error.filename}: {error.strerror}", hint=hint) from error
    other = left_out("files", len(names) + len(others), {"no image": others}, lost=False)
    return Listing(sorted(names), left_out("class folders", classes, {"without images": empty}) + other)


class FolderFiles:
    """The images `names` of a split's folder."""

    def __init__(self, folder: Path, names: list[str], classes: list[str]) -> None:
        self._folder, self._names = folder, names
        number = {name: index for index, name in enumerate(classes)}
        self.labels = np.array([number[name.partition("/")[0]] for name in names], np.int64)

    def name(self, row: int) -> str:
        return str(self._folder / self._names[row])

    def read(self, row: int) -> bytes:
        return read_bytes(self._folder / self._names[row])


class HubFiles:
    """The images of a split of the hub's data set, once it is in the cache.

    Raises:
        OfeError: an image has no label, or one that is no class.
    """

    def __init__(self, split: str) -> None:
        self._split, self._rows = split, _hub_split(split)
        self.labels = checked_labels(list(self._rows["label"]), HUB_CLASSES, f"{DATASET}, {split}")

    def name(self, row: int) -> str:
        return f"image {row:,} of {DATASET}, {self._split}"

    def read(self, row: int) -> bytes:
        content: bytes = self._rows[row]["image"]["bytes"]
        return content


def _hub_split(split: str) -> Any:
    import datasets

    copy = "set data.path to a folder with train and val"
    refused = may_not_download(offline=False)
    alone = refused or not hub_is_known()
    if refused:
        way_out = f"bring it into the cache of the Hugging Face hub where the network may be used, or {copy}"
    elif alone:
        way_out = f"check the network, or {copy}"
    else:
        way_out = f"accept its terms on the hub and log in with `hf auth login`, or {copy}"
    with explained(f"cannot read {named(DATASET)}", hint=way_out), only_the_cache() if alone else nullcontext():
        try:
            rows = datasets.load_dataset(hub_address(DATASET), split=split, revision=REVISION)
        except ConnectionError as error:
            if not alone:
                raise
            raise OfeError(not_in_the_cache(named(DATASET), refused), hint=way_out) from error
        return rows.cast_column("image", datasets.Image(decode=False))
