"""The device that a worker computes on, and the settings of its process."""

from __future__ import annotations

import ctypes

import torch

from reproduce.environment import environment, threads
from reproduce.errors import OfeError
from reproduce.store.runs import RunFolder


def set_up() -> None:
    """Set the number of threads that the queue gave this process, and let it reuse freed memory.

    Raises:
        OfeError: OMP_NUM_THREADS is not a number.
    """
    keep_large_blocks()
    if (count := threads()) is not None:
        torch.set_num_threads(count)


def as_many_threads_as(folder: RunFolder) -> None:
    """Take as many threads as the sealed run in `folder` was trained with: its numbers depend on them in rounding."""
    if folder.sealed and (count := folder.provenance().get("threads")):
        torch.set_num_threads(count)


def keep_large_blocks() -> None:
    """Tell glibc to keep large freed blocks for later.

    By default it returns them to the system, and every step then pays for page faults when it needs them again.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library, where training is merely slower
    # Parameters of mallopt, by their numbers in malloc.h: what is smaller than 1 GiB is not mapped on its own, and up
    # to 2 GiB of free memory stay with the process.
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 1 << 30)
    mallopt(m_trim_threshold, (1 << 31) - 1)


def pick_device() -> torch.device:
    """The device that OFE_DEVICE names. Without it, the current CUDA device if there is one, and else the CPU.

    Raises:
        OfeError: OFE_DEVICE names a device that does not exist.
    """
    name = environment().device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise OfeError("OFE_DEVICE is cuda, but torch sees no CUDA device", hint="unset it to train on the CPU")
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device("cpu")
