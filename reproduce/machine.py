"""A machine that runs train on, and the facts of this one, read without torch.

`Machine` is a value. The edges of the program (a command, a worker) read `this_machine` once and hand it on, so that
everything below them can be asked about another machine as well: `plan` prices a run for whichever it is given.

In a container, processor time and memory are limited by control groups, which the operating system's own counts leave
out. The limits are files of the group and of every group above it, in one of two layouts:

                        processor time                              memory
    cgroup v2           cpu.max: "quota period", or "max period"    memory.max: bytes, or "max"
    cgroup v1           cpu.cfs_quota_us (-1: none) over            memory.limit_in_bytes (none: a number
                        cpu.cfs_period_us                           larger than any memory)
"""

from __future__ import annotations

import math
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from reproduce.environment import Device

CPUINFO = Path("/proc/cpuinfo")
CGROUPS = Path("/sys/fs/cgroup")
"""Where the control groups are mounted: the one hierarchy of v2, or a folder for each controller of v1."""
OWN_CGROUPS = Path("/proc/self/cgroup")
"""Which groups this process is in: lines `hierarchy:controllers:path`, without controllers for v2."""
STAT = Path("/proc/stat")
"""Time that each core has spent since the start of the machine: lines `cpu0 user nice system idle iowait ...`."""
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class Gpu:
    """A CUDA device as the driver names it."""

    name: str
    memory_bytes: int


@dataclass(frozen=True)
class Machine:
    """What a run's speed depends on, and how much of it fits at once."""

    cpu: str
    cores: int
    """Logical cores that this process may use, at least 1."""
    memory_bytes: int
    """Memory that this process may use."""
    bf16: bool
    """Whether the processor multiplies matrices in bfloat16."""
    gpus: tuple[Gpu, ...]
    """CUDA devices that this process may use."""
    os: str
    asked_device: Device | None = None
    """The device that the user wants runs to train on; None leaves it to what there is."""

    @property
    def device(self) -> Device:
        """The device that runs train on: the one asked for, else an accelerator if there is one."""
        return self.asked_device or ("cuda" if self.gpus else "cpu")

    @property
    def gpu_memory_bytes(self) -> int | None:
        """Memory of the smallest accelerator whose memory is known; None without one."""
        return min((gpu.memory_bytes for gpu in self.gpus if gpu.memory_bytes), default=None)


@cache
def this_machine(asked_device: Device | None = None) -> Machine:
    """The facts of this machine, read once per process.

    Args:
        asked_device: what `OFE_DEVICE` says (`reproduce.environment`), for those who go on to train or plan.
    """
    info = CPUINFO.read_text(errors="replace") if CPUINFO.is_file() else ""
    return Machine(
        cpu=_cpu_name(info),
        cores=_cores(),
        memory_bytes=_memory_bytes(),
        bf16=_has_bf16(info),
        gpus=_gpus(),
        os=f"{platform.system()} {platform.release()}",
        asked_device=asked_device,
    )


def idle_cores(machine: Machine, seconds: float = 0.3) -> int:
    """How many of the cores that this process may use no other process is using now, at least 1.

    Args:
        seconds: how long the cores are watched. A core counts as used if it works for more than half of that time.

    Returns:
        All cores of `machine` where the system does not tell.
    """
    before = _idle_times()
    time.sleep(seconds if before else 0)
    after = _idle_times()
    busy = sum(
        after[core][0] - idle < 0.5 * (after[core][1] - total)
        for core, (idle, total) in before.items()
        if core in after and after[core][1] > total
    )
    # A control group may grant less than the cores that it shows, and what others do on those is not taken from it.
    return max(1, min(machine.cores, len(before) - busy)) if before else machine.cores


def _idle_times() -> dict[int, tuple[int, int]]:
    """Of each core that this process may use: ticks without work, and ticks in all. Empty where the system has none."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    found = {}
    for line in STAT.read_text(errors="replace").splitlines() if STAT.is_file() else ():
        name, *ticks = line.split()
        if re.fullmatch(r"cpu\d+", name) and int(name[3:]) in allowed:
            idle, waiting = int(ticks[3]), int(ticks[4])
            found[int(name[3:])] = (idle + waiting, sum(map(int, ticks[:8])))
    return found


def best_precision(machine: Machine) -> Literal["fp32", "bf16"]:
    """bf16 where `machine` has the instructions for it, fp32 where it would be emulated."""
    return "bf16" if machine.gpus or machine.bf16 else "fp32"


# ---------------------------------------------------------------------------------------------------
# Processor and memory


def _cores() -> int:
    """Cores of the affinity mask, or as many whole ones as the control groups leave the time of; at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([allowed, *_core_limits()])))


def _core_limits() -> Iterator[float]:
    """Cores' worth of processor time that each control group grants."""
    for folder in _group_folders("cpu"):
        quota, period = [*_words(folder / "cpu.max"), "", ""][:2]
        if not quota:  # v1 has a file for each of the two
            quota = "".join(_words(folder / "cpu.cfs_quota_us"))
            period = "".join(_words(folder / "cpu.cfs_period_us"))
        if quota.isdecimal() and period.isdecimal() and int(period) > 0:  # neither "max" nor -1
            yield int(quota) / int(period)


def _memory_bytes() -> int:
    """Memory of the hardware, or what the control groups leave of it."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_memory_limits()])


def _memory_limits() -> Iterator[int]:
    for folder in _group_folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = "".join(_words(folder / name))
            if limit.isdecimal() and int(limit) > 0:
                yield int(limit)


def _group_folders(controller: str) -> Iterator[Path]:
    """Folders of this process's control groups for `controller`, each with all above it up to the mount.

    In a container the mount often shows the container's own group as its root while the path is the host's: a folder
    that is not there has no files and says nothing.
    """
    lines = OWN_CGROUPS.read_text(errors="replace").splitlines() if OWN_CGROUPS.is_file() else []
    for line in lines:
        _, first, rest = line.partition(":")
        controllers, second, path = rest.partition(":")
        if not (first and second) or (controllers and controller not in controllers.split(",")):
            continue
        # `..` leads to a group outside the namespace, which is out of sight.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        # The hierarchy of v2 is mounted at the top, or at `unified` beside those of v1.
        mounts = (CGROUPS / controllers, CGROUPS / controller) if controllers else (CGROUPS, CGROUPS / "unified")
        for mount in dict.fromkeys(mounts):
            yield from (mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1))


def _words(path: Path) -> list[str]:
    """The words of a small file; none where it cannot be read."""
    try:
        return path.read_text(errors="replace").split()
    except OSError:
        return []


def _cpu_name(info: str) -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _has_bf16(info: str) -> bool:
    match = re.search(r"^flags\s*:\s*(.+)$", info, re.MULTILINE)
    return match is not None and not BF16_FLAGS.isdisjoint(match[1].split())


# ---------------------------------------------------------------------------------------------------
# Accelerators


def _gpus() -> tuple[Gpu, ...]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    program = shutil.which("nvidia-smi")
    if program is None or visible in ("", "-1", "NoDevFiles"):
        return ()
    query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()  # the tool without a working driver: no device
    rows = [line.rsplit(",", 1) for line in answer.splitlines() if "," in line]
    gpus = [Gpu(name.strip(), int(mib) * 2**20 if mib.strip().isdecimal() else 0) for name, mib in rows]
    return tuple(gpus) if visible is None else tuple(_visible(gpus, visible))


def _visible(gpus: list[Gpu], visible: str) -> Iterator[Gpu]:
    """The devices that CUDA shows where CUDA_VISIBLE_DEVICES is `visible`: those up to the first that is not there."""
    for place, name in enumerate(word.strip() for word in visible.split(",")):
        if name.startswith(("GPU-", "MIG-")) and place < len(gpus):
            yield gpus[place]  # a name cannot be matched to the rows, but there are as many devices as names
        elif name.isascii() and name.isdecimal() and int(name) < len(gpus):
            yield gpus[int(name)]
        else:
            return
