"""Copying and removing whole run folders, in such a way that no name ever belongs to half of one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from reproduce.store.atomic import aside_of
from reproduce.store.home import explain_os_errors
from reproduce.store.layout import KEEP, SEALED_FILES, WEIGHTS
from reproduce.store.seal import verify_folder


def copy_sealed(source: Path, target: Path) -> None:
    """Copy a sealed folder to `target` in one step, and replace an existing `target` except for its weights.

    Source and copy are verified.

    Raises:
        OfeError: the source is not sealed or is damaged, or the disk is full or cannot be written.
    """
    verify_folder(source)
    aside = aside_of(target)
    with explain_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir()
            for name in SEALED_FILES:
                shutil.copyfile(source / name, aside / name)
            verify_folder(aside)
            for path in [target / KEEP, target / WEIGHTS, *target.glob("model*.safetensors")]:
                if path.is_file():  # weights of the same run, which the copy has not
                    os.link(path, aside / path.name)
            remove_folder(target)
            os.replace(aside, target)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def remove_folder(folder: Path) -> None:
    """Remove a run folder, if it exists. A process killed while removing it leaves no part of it under its name."""
    if not folder.exists():
        return
    condemned = folder.with_name(f".{folder.name}.removed")
    with explain_os_errors(folder):
        shutil.rmtree(condemned, ignore_errors=True)
        os.replace(folder, condemned)
        shutil.rmtree(condemned)
