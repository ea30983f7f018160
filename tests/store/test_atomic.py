"""Files that are there in full or not at all."""

from __future__ import annotations

import errno
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from reproduce.errors import OfeError
from reproduce.store.atomic import replacing, write_bytes, write_json, write_text


def test_written_content_is_read_back(tmp_path: Path) -> None:
    write_bytes(tmp_path / "bytes", b"\x00\xff")
    write_text(tmp_path / "text", "ψ\n")
    write_json(tmp_path / "json", {"loss": float("nan")}, durable=False)
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert (tmp_path / "text").read_bytes() == "ψ\n".encode()
    assert json.loads((tmp_path / "json").read_text()) == {"loss": "nan"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes", "json", "text"]


def test_content_reaches_the_disk_before_the_name_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("sync"), fsync(descriptor))[1])
    monkeypatch.setattr(os, "replace", lambda *paths: (order.append("rename"), replace(*paths))[1])
    write_bytes(tmp_path / "file", b"content")
    assert order == ["sync", "rename", "sync"]


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, function: str, number: int
) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, function, refuse)
    with pytest.raises(OfeError, match="file") as caught:
        write_text(path, "new")
    assert "OFE_HOME" in str(caught.value.hint)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path], "what was written aside is removed"


def test_an_error_of_the_writer_itself_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write_and_fail() -> None:
        with replacing(path) as aside:
            aside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    """`--csv /dev/stdout` as root replaced the device for the whole machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as threads:
        read = threads.submit(pipe.read_text)
        write_text(pipe, "layer,value\n")
        assert read.result(timeout=10) == "layer,value\n"
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OfeError, match="is a folder, not a file"):
        write_text(tmp_path / "folder", "text")
    assert (tmp_path / "folder").is_dir()
