"""Facts of this machine, read without torch: processor, memory, accelerators, and the precision they suit."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

CPUINFO = Path("/proc/cpuinfo")
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


@dataclass(frozen=True)
class Gpu:
    """A CUDA device as the driver names it."""

    name: str
    memory_bytes: int


@dataclass(frozen=True)
class Machine:
    """What a run's speed depends on."""

    cpu: str
    cores: int
    """Logical cores that this process may use."""
    memory_bytes: int
    bf16: bool
    """Whether the processor multiplies matrices in bfloat16."""
    gpus: tuple[Gpu, ...]
    """CUDA devices that this process may use."""
    python: str
    os: str


@cache
def machine() -> Machine:
    """The facts, read once per process."""
    info = CPUINFO.read_text(errors="replace") if CPUINFO.is_file() else ""
    return Machine(
        cpu=_cpu_name(info),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        bf16=_has_bf16(info),
        gpus=_gpus(),
        python=platform.python_version(),
        os=f"{platform.system()} {platform.release()}",
    )


def best_precision() -> Literal["fp32", "bf16"]:
    """bf16 where the machine has the instructions for it, fp32 where it would be emulated."""
    here = machine()
    return "bf16" if here.gpus or here.bf16 else "fp32"


def _cpu_name(info: str) -> str:
    match = re.search(r"^model name\s*:\s*(.+)$", info, re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _has_bf16(info: str) -> bool:
    match = re.search(r"^flags\s*:\s*(.+)$", info, re.MULTILINE)
    return match is not None and not BF16_FLAGS.isdisjoint(match[1].split())


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
    gpus = [Gpu(name.strip(), int(mib) * 2**20 if mib.strip().isdigit() else 0) for name, mib in rows]
    if visible is None:
        return tuple(gpus)
    chosen = [int(index) for index in visible.split(",") if index.strip().isdigit()]
    # Devices named by UUID cannot be matched to these rows; they are as many as names.
    return tuple(gpus[i] for i in chosen if i < len(gpus)) if chosen else tuple(gpus[: len(visible.split(","))])
