"""What every test gets: a home of its own, no network, and torch as it was before."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell: tests send it to processes
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}  # both are read once, when the libraries are imported


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State goes to a folder of the test; what a user's shell says about `ofe` does not reach it."""
    for name in [name for name in os.environ if name.startswith("OFE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("COLUMNS", raising=False)  # a terminal of another width would cut output elsewhere


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    """Threads, default type and determinism of torch are put back. Tests without torch do not pay for it."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.set_default_dtype(dtype)
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # setting it is slow
        torch.use_deterministic_algorithms(deterministic)
