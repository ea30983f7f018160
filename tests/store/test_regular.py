from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from reproduce.store.regular import bytes_of, open_regular, special_file, text_of


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes("é\r\nb\n".encode())
    assert bytes_of(path) == "é\r\nb\n".encode()
    assert text_of(path) == "é\nb\n"
    (tmp_path / "link").symlink_to("file")
    assert text_of(tmp_path / "link") == "é\nb\n"
    path.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        text_of(path)
    assert text_of(path, errors="replace") == "\ufffd"


@pytest.mark.timeout(20)
def test_a_pipe_a_device_and_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    for name in ("pipe", "endless", "folder"):
        with pytest.raises(OSError, match="not a regular file") as refused:
            open_regular(tmp_path / name)
        assert refused.value.errno == errno.EINVAL
    if before:
        assert set(os.listdir("/proc/self/fd")) == before, "nothing stays open"


def test_a_special_file_is_found_among_others(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "nowhere").symlink_to("gone")
    assert special_file(tmp_path) is None
    os.mkfifo(tmp_path / "pipe")
    assert special_file(tmp_path) == "pipe"
