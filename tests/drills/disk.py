"""A disk that loses, at a power cut, whatever was not synced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class PowerCut(BaseException):
    """The machine stops here."""


class Disk:
    """What of a folder would be left after a power cut.

    The content of a file is safe once the file was synced, and its name once the folder was. A name that is safe while
    its content is not stands for a file of zeros, as on a file system that orders the two as it likes.
    """

    def __init__(self, folder: Path, cut_at: int) -> None:
        self.folder, self.left = folder, cut_at
        self.contents: dict[int, bytes] = {}
        self.names: dict[str, int] = {}

    def take_in(self) -> None:
        """All that is there now is safe."""
        for path in self.folder.iterdir():
            self.contents[path.stat().st_ino] = path.read_bytes()
            self.names[path.name] = path.stat().st_ino

    def sync(self, descriptor: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise PowerCut
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path == self.folder:
            self.names = {entry.name: entry.stat().st_ino for entry in path.iterdir()}
        elif path.parent == self.folder:
            self.contents[os.fstat(descriptor).st_ino] = path.read_bytes()
            self.names.setdefault(path.name, os.fstat(descriptor).st_ino)  # Linux syncs the name of a new file with it

    def fall_back(self) -> None:
        """Put the folder into the state that a power cut leaves."""
        sizes = {entry.name: entry.stat().st_size for entry in self.folder.iterdir()}
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        for name, inode in self.names.items():
            (self.folder / name).write_bytes(self.contents.get(inode, bytes(sizes.get(name, 0))))


@contextmanager
def power_cut(folder: Path, cut_at: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Cut the power at the sync number `cut_at` in the context, and then leave what a disk would still have."""
    disk = Disk(folder, cut_at)
    disk.take_in()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk.sync)
        try:
            yield
        except PowerCut:
            disk.fall_back()


@contextmanager
def refusing(number: int, at: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], bool]]:
    """Let the writing call number `at` in the context fail with the error `number`, and yield whether one has.

    Calls that create, write, sync and rename are counted.
    """
    left = at
    failed = False

    def counted(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal left, failed
            left -= 1
            if left < 0 and not failed:
                failed = True
                raise OSError(number, os.strerror(number))
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((os, "fsync"), (os, "replace"), (Path, "write_bytes")):
            patch.setattr(owner, name, counted(getattr(owner, name)))
        yield lambda: failed
