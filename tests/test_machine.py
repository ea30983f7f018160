from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from reproduce import machine as module
from reproduce.machine import Gpu, Machine, best_precision, idle_cores, this_machine

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
    """No facts from before, no accelerator, no control group, and a processor without bf16, unless a test says so."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(XEON.replace("avx512_bf16", "avx2"))
    monkeypatch.setattr(module, "CGROUPS", tmp_path / "cgroups")
    monkeypatch.setattr(module, "OWN_CGROUPS", tmp_path / "own-cgroups")
    this_machine.cache_clear()
    yield
    this_machine.cache_clear()


def nvidia_smi(folder: Path, script: str) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_facts_of_this_machine() -> None:
    here = this_machine()
    assert here.cpu == "Intel(R) Xeon(R) Platinum 8481C"
    assert 1 <= here.cores <= (os.cpu_count() or 1)
    assert here.memory_bytes > 2**27
    assert here.os.startswith(platform.system())
    assert here.gpus == ()


def test_a_machine_without_cpuinfo_has_a_name(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").unlink()
    assert this_machine().cpu
    assert not this_machine().bf16


@pytest.mark.parametrize(("flag", "precision"), [("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")])
def test_precision_that_the_processor_has_instructions_for(tmp_path: Path, flag: str, precision: str) -> None:
    (tmp_path / "cpuinfo").write_text(XEON.replace("avx512_bf16", flag))
    assert this_machine().bf16 == (precision == "bf16")
    assert best_precision(this_machine()) == precision


def test_accelerators_by_the_drivers_tool(tmp_path: Path) -> None:
    nvidia_smi(tmp_path, "echo 'NVIDIA H200, 143771'\necho 'NVIDIA GB10, [N/A]'")
    assert this_machine().gpus == (Gpu("NVIDIA H200", 143771 * 2**20), Gpu("NVIDIA GB10", 0))
    assert best_precision(this_machine()) == "bf16"


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("", []),
        ("-1", []),
        ("1", ["B"]),
        ("1,0", ["B", "A"]),
        ("7", []),
        ("GPU-5ad2", ["A"]),
        (" 0 , 1 ", ["A", "B"]),
        ("0,-1,1", ["A"]),
        ("0,x", ["A"]),
        ("all", []),
        ("\u00b2", []),
    ],
)
def test_only_visible_accelerators_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str, names: list[str]
) -> None:
    nvidia_smi(tmp_path, "echo 'A, 1'\necho 'B, 2'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu.name for gpu in this_machine().gpus] == names
    assert best_precision(this_machine()) == ("bf16" if names else "fp32")


def test_the_tool_without_a_driver_finds_nothing(tmp_path: Path) -> None:
    nvidia_smi(tmp_path, "echo 'no driver' >&2\nexit 9")
    assert this_machine().gpus == ()


def test_runs_train_on_an_accelerator_unless_another_device_is_asked_for(tmp_path: Path) -> None:
    assert [this_machine(asked).device for asked in (None, "cpu", "cuda")] == ["cpu", "cpu", "cuda"]
    this_machine.cache_clear()
    nvidia_smi(tmp_path, "echo 'A, 1'")
    assert [this_machine(asked).device for asked in (None, "cpu", "cuda")] == ["cuda", "cpu", "cuda"]


# ---------------------------------------------------------------------------------------------------
# Control groups


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight cores and 16 GB, of which control groups may take away."""
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 16 * 10**9 // 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


def limited(folder: Path, own: str, files: dict[str, str]) -> Machine:
    """The machine of a process in the groups `own`, with `files` below the mount."""
    (folder / "own-cgroups").write_text(own)
    for name, content in files.items():
        path = folder / "cgroups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return this_machine()


V1 = "4:memory:/job\n2:cpu,cpuacct:/job\n1:name=systemd:/job\n"


@pytest.mark.usefixtures("hardware")
@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000"}, 8),
        ("0::/\n", {"cpu.max": "50000 100000"}, 1),  # half a core
        ("0::/\n", {"cpu.max": "299999 100000"}, 2),
        ("0::/\n", {"cpu.max": "3200000 100000"}, 8),  # more than the mask allows
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),  # a limit of the group above
        ("0::/host/path\n", {"cpu.max": "200000 100000"}, 2),  # the mount shows the container's group as its root
        ("0::/../../other\n", {"cpu.max": "200000 100000"}, 2),  # a path that leads out of the namespace
        (V1, {"cpu,cpuacct/job/cpu.cfs_quota_us": "-1", "cpu,cpuacct/job/cpu.cfs_period_us": "100000"}, 8),
        (V1, {"cpu,cpuacct/job/cpu.cfs_quota_us": "50000", "cpu,cpuacct/job/cpu.cfs_period_us": "100000"}, 1),
        (V1, {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        (V1, {"memory/job/cpu.max": "100000 100000"}, 8),  # of another controller
        ("0::/\n", {"cpu.max": ""}, 8),
        ("0::/\n", {"cpu.max": "100000 0"}, 8),
        ("nonsense\n", {"cpu.max": "100000 100000"}, 8),
    ],
)
def test_cores_are_what_control_groups_leave_of_them(
    tmp_path: Path, own: str, files: dict[str, str], cores: int
) -> None:
    assert limited(tmp_path, own, files).cores == cores


@pytest.mark.usefixtures("hardware")
@pytest.mark.parametrize(
    ("own", "files", "size"),
    [
        ("0::/\n", {"memory.max": "max"}, 16 * 10**9),
        ("0::/\n", {"memory.max": "2000000000"}, 2 * 10**9),
        ("0::/a\n", {"a/memory.max": "3000000000", "memory.max": "2000000000"}, 2 * 10**9),
        ("0::/\n", {"memory.max": "64000000000"}, 16 * 10**9),
        (V1, {"memory/job/memory.limit_in_bytes": "9223372036854771712"}, 16 * 10**9),  # v1's way to say none
        (V1, {"memory/job/memory.limit_in_bytes": "1000000000"}, 10**9),
        ("0::/\n1:cpu:/\n", {"unified/memory.max": "1000000000"}, 10**9),  # v2 beside v1
    ],
)
def test_memory_is_what_control_groups_leave_of_it(tmp_path: Path, own: str, files: dict[str, str], size: int) -> None:
    assert limited(tmp_path, own, files).memory_bytes == pytest.approx(size, rel=1e-6)


def stat(path: Path, *ticks: tuple[int, int]) -> None:
    """/proc/stat of a machine whose cores have been idle and at work for so many ticks."""
    cores = [f"cpu{core} {work} 0 0 {idle} 0 0 0 0 7 7" for core, (idle, work) in enumerate(ticks)]
    path.write_text("\n".join(["cpu 1 2 3 4 5 6 7 8 9 10", *cores, "intr 5", "ctxt 7"]))


@pytest.mark.parametrize(
    ("after", "idle"),
    [
        ([(30, 0), (30, 0), (30, 0), (30, 0)], 4),
        ([(0, 30), (30, 0), (14, 16), (16, 14)], 2),  # cores that work for more than half of the time are in use
        ([(0, 30), (0, 30), (0, 30), (0, 30)], 1),
    ],
)
def test_cores_without_other_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: list[tuple[int, int]], idle: int
) -> None:
    path = tmp_path / "stat"
    stat(path, *[(0, 0)] * 4)
    monkeypatch.setattr(module, "STAT", path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(module.time, "sleep", lambda _: stat(path, *after))
    assert idle_cores(dataclasses.replace(this_machine(), cores=4)) == idle


def test_another_users_cores_are_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stat"
    stat(path, (0, 0), (0, 0))
    monkeypatch.setattr(module, "STAT", path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(module.time, "sleep", lambda _: stat(path, (30, 0), (0, 30)))
    assert idle_cores(dataclasses.replace(this_machine(), cores=1)) == 1


def test_all_cores_count_as_idle_where_the_system_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STAT", tmp_path / "none")
    assert idle_cores(dataclasses.replace(this_machine(), cores=8)) == 8
