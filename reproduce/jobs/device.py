"""The device that a worker computes on, and what is set up there before any work."""

from __future__ import annotations

import ctypes

import torch

from reproduce.environment import environment, threads
from reproduce.errors import OfeError


def set_up() -> None:
    """Take as many threads as the queue gave this process, and let it keep the memory it has had.

    Raises:
        OfeError: OMP_NUM_THREADS is no number.
    """
    keep_large_blocks()
    if (count := threads()) is not None:
        torch.set_num_threads(count)


def keep_large_blocks() -> None:
    """Tell glibc to reuse large freed blocks: giving them back costs a page fault each time they are needed again."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return  # another C library: slower, nothing else
    m_trim_threshold, m_mmap_threshold = -1, -3
    mallopt(m_mmap_threshold, 1 << 30)
    mallopt(m_trim_threshold, (1 << 31) - 1)


def pick_device() -> torch.device:
    """OFE_DEVICE, else the accelerator if there is one.

    Raises:
        OfeError: OFE_DEVICE names a device that is not there.
    """
    name = environment().device or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise OfeError("OFE_DEVICE is cuda, but torch sees no CUDA device", hint="unset it to train on the CPU")
    return torch.device("cuda", torch.cuda.current_device()) if name == "cuda" else torch.device("cpu")
