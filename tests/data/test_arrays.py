from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import reproduce.data
from reproduce.data.arrays import new_array, save_array
from reproduce.errors import OfeError
from reproduce.store.atomic import aside_of

ARRAYS = [np.arange(12, dtype=np.uint16).reshape(4, 3), np.ones((2, 2, 5), np.float32), np.empty((0, 7), np.int64)]


@pytest.mark.parametrize("array", ARRAYS)
def test_files_have_the_bytes_that_numpy_writes(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "numpy.npy", array)
    save_array(tmp_path / "saved.npy", array)
    if array.size:
        with new_array(tmp_path / "new.npy", array.dtype, array.shape) as whole:
            whole[:] = array
        assert (tmp_path / "new.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()
    assert (tmp_path / "saved.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    aside_of(path).symlink_to("/dev/full")  # every write to it finds no space
    with pytest.raises(OfeError, match=r"no space is left for .*array\.npy"):
        save_array(path, np.zeros(100_000))
    assert list(tmp_path.iterdir()) == []


def test_what_the_system_says_half_way_is_not_lost(tmp_path: Path) -> None:
    """NumPy's own writing says how many items it wrote, and not why it stopped."""
    code = """
import errno, resource, sys, numpy as np
from pathlib import Path
from reproduce.data.arrays import save_array
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_array(Path(sys.argv[1]), np.zeros(1_000_000))
except Exception as error:
    cause = error if isinstance(error, OSError) else error.__cause__
    print(errno.errorcode[cause.errno])
"""
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.npy")], capture_output=True, text=True)
    assert ran.stdout == "EFBIG\n", ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_room_of_a_memory_map_is_taken_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def full(descriptor: int, start: int, size: int) -> None:
        asked.append(size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with (
        pytest.raises(OfeError, match="no space is left for"),
        new_array(tmp_path / "a.npy", np.dtype(np.uint16), (50, 8)),
    ):
        raise AssertionError("nothing may be written")
    assert asked == [800]
    assert list(tmp_path.iterdir()) == []


def test_without_a_call_that_reserves_it_the_room_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with new_array(tmp_path / "a.npy", np.dtype(np.uint16), (50, 8)) as whole:
        whole[49, 7] = 5
    assert np.load(tmp_path / "a.npy").sum() == 5


def test_nothing_in_data_writes_a_file_past_these(tmp_path: Path) -> None:
    writers = {"save", "savez", "write_bytes", "write_text", "open_memmap", "tofile"}
    root = Path(reproduce.data.__file__).parent
    found = [
        f"{path.relative_to(root)}:{node.lineno}"
        for path in root.rglob("*.py")
        if path.name != "arrays.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in writers
    ]
    assert found == []
