"""Image data from its configuration: its fingerprint, and the images behind it with what normalises them.

    OFE_HOME/data/<source>-<fingerprint>/      prepared once, then only read
        meta.json                              what it is, and the checksum of every other file
        mean.npy, scale.npy                    see `reproduce.data.images.whitening`
        ...                                    whatever the source keeps there

Nothing is written when the folder is already there, so a prepared home may be read-only.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from reproduce.config import ImageData
from reproduce.data.hub import only_the_cache
from reproduce.data.prepared import (
    file_sha256,
    folder_of,
    hash_identity,
    prepare_once,
    refuse_other_data,
    verified_meta,
)
from reproduce.data.progress import Progress
from reproduce.data.sources.registry import find_source, make_source
from reproduce.errors import OfeError, SpecError
from reproduce.store.atomic import write_json
from reproduce.store.home import explain_os_errors

if TYPE_CHECKING:
    from reproduce.data.images.image_set import ImageSet
    from reproduce.data.images.whitening import Normalisation

PREPARATION_VERSION = 1
"""Raised whenever the same images would give other inputs: it changes every fingerprint."""


class ImageSource(Protocol):
    """A source as `ImageData` configures it, before anything is read."""

    def identity(self) -> Mapping[str, Any]:
        """JSON that determines the images, their labels and their splits."""

    def prepare(self, folder: Path, *, progress: Progress, offline: bool) -> Mapping[str, Any]:
        """Write what training needs into `folder`; returns what `meta.json` is to say, `description` among it."""

    def open(self, folder: Path, meta: Mapping[str, Any]) -> ImageSet:
        """The images of a prepared folder."""


class Images(NamedTuple):
    """Prepared images, opened."""

    folder: Path
    fingerprint: str
    set: ImageSet
    normalisation: Normalisation

    @property
    def description(self) -> str:
        return self.set.description


def image_source(data: ImageData) -> ImageSource:
    """The source that `data` names.

    Raises:
        SpecError: it is not registered, or something in `data` is not what it takes.
        OfeError: what it reads is not there.
    """
    info = find_source(data.source, "images")
    if data.augment.crop and not info.reads_files:
        raise SpecError(f"{info.name} has no files to crop", hint="set data.augment.crop=false")
    source: ImageSource = make_source(info, data)
    return source


def image_fingerprint(data: ImageData) -> str:
    """16 hexadecimal digits that identify the inputs `data` describes: images, labels, splits and normalisation.

    Raises:
        OfeError: as `image_source`.
    """
    return _fingerprint(image_source(data), data)


def _fingerprint(source: ImageSource, data: ImageData) -> str:
    identity = {
        "version": PREPARATION_VERSION,
        "source": source.identity(),
        "side": data.side,
        "classes": data.classes,
        "whiten": data.whiten,
    }
    return hash_identity(identity)


def open_images(data: ImageData, *, progress: Progress | None = None, offline: bool = False) -> Images:
    """The images of `data`, prepared first where they were not.

    Where `data` carries a fingerprint, only those images will do: found prepared, or reached from here.

    Args:
        progress: called with one line of text a step of the preparation.
        offline: never use the network; without it, `HF_HUB_OFFLINE` has the same effect.

    Raises:
        OfeError: as `image_source`; or the images here are not those of the fingerprint, cannot be had, cannot be
            written, or were damaged after they were prepared.
    """
    source = image_source(data)
    identity = data.fingerprint
    if not (identity and folder_of(data, identity).is_dir()):
        identity = _fingerprint(source, data)
        refuse_other_data(data, identity)
    folder = folder_of(data, identity)
    report = progress or (lambda line: None)
    with only_the_cache() if offline else nullcontext():
        prepare_once(folder, lambda: _prepare(source, data, folder, identity, report, offline), report)
        return _open(source, folder)


def _prepare(
    source: ImageSource, data: ImageData, folder: Path, identity: str, progress: Progress, offline: bool
) -> None:
    """Write `folder` aside and rename it. What an interrupted preparation left is begun again."""
    from reproduce.data.arrays import save_array

    partial = folder.with_name(folder.name + ".partial")
    with explain_os_errors(partial):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        about = source.prepare(partial, progress=progress, offline=offline)
        mean, scale = _normalisation(source.open(partial, about), data, progress)
        save_array(partial / "mean.npy", mean)
        save_array(partial / "scale.npy", scale)
        files = sorted(path for path in partial.iterdir() if path.is_file())
        meta = {
            "schema": 1,
            "fingerprint": identity,
            "source": data.source,
            **about,
            "bytes": {path.name: path.stat().st_size for path in files},
            "sha256": {path.name: file_sha256(path) for path in files},
        }
        write_json(partial / "meta.json", meta)
        partial.rename(folder)


def _normalisation(images: ImageSet, data: ImageData, progress: Progress) -> Normalisation:
    from reproduce.data.images.whitening import standardisation, whitening

    pixels = images.fitting_images()
    if not data.whiten:
        return standardisation(pixels)
    if len(pixels) <= pixels[0].size:
        raise OfeError(
            f"whitening {pixels[0].size:,} values needs more training images than the {len(pixels):,} there are",
            hint="set data.whiten=false",
        )
    progress(f"whitening {data.source}: principal axes of {len(pixels):,} images")
    return whitening(pixels)


def _open(source: ImageSource, folder: Path) -> Images:
    import numpy as np

    from reproduce.data.images.whitening import Normalisation

    meta = verified_meta(folder)
    normalisation = Normalisation(np.load(folder / "mean.npy"), np.load(folder / "scale.npy"))
    return Images(folder, meta["fingerprint"], source.open(folder, meta), normalisation)
