"""Checkpoints that several tests open."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkpoints.tiny import build, save


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama in a folder."""
    return save(build("Llama"), tmp_path_factory.mktemp("checkpoints") / "tiny-llama")
