from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from reproduce import machine as module
from reproduce.machine import Gpu, best_precision, machine

XEON = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: fpu vme avx512_bf16 amx_tile

processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: fpu vme avx512_bf16 amx_tile
"""


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No facts from before, no accelerator, and a processor without bf16, unless a test says otherwise."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(XEON.replace("avx512_bf16", "avx2"))
    machine.cache_clear()
    yield
    machine.cache_clear()


def nvidia_smi(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_facts_of_this_machine() -> None:
    here = machine()
    assert here.cpu == "Intel(R) Xeon(R) Platinum 8481C"
    assert 1 <= here.cores <= (os.cpu_count() or 1)
    assert here.memory_bytes > 2**27
    assert here.python == platform.python_version()
    assert here.os.startswith(platform.system())
    assert here.gpus == ()


def test_a_machine_without_cpuinfo_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").unlink()
    assert machine().cpu
    assert not machine().bf16


@pytest.mark.parametrize(("flag", "precision"), [("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")])
def test_precision_that_the_processor_has_instructions_for(tmp_path: Path, flag: str, precision: str) -> None:
    (tmp_path / "cpuinfo").write_text(XEON.replace("avx512_bf16", flag))
    assert machine().bf16 == (precision == "bf16")
    assert best_precision() == precision


def test_accelerators_by_the_drivers_tool(tmp_path: Path) -> None:
    nvidia_smi(tmp_path, "echo 'NVIDIA H200, 143771'\necho 'NVIDIA GB10, [N/A]'")
    assert machine().gpus == (Gpu("NVIDIA H200", 143771 * 2**20), Gpu("NVIDIA GB10", 0))
    assert best_precision() == "bf16"


@pytest.mark.parametrize(
    ("visible", "names"),
    [("", []), ("-1", []), ("1", ["B"]), ("1,0", ["B", "A"]), ("7", []), ("GPU-5ad2", ["A"])],
)
def test_only_visible_accelerators_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]
) -> None:
    nvidia_smi(tmp_path, "echo 'A, 1'\necho 'B, 2'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.name for gpu in machine().gpus] == names
    assert best_precision() == ("bf16" if names else "fp32")


def test_the_tool_without_a_driver_finds_nothing(tmp_path: Path) -> None:
    nvidia_smi(tmp_path, "echo 'no driver' >&2\nexit 9")
    assert machine().gpus == ()
