"""A home of its own for every test, and small texts to prepare."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import datasets
import huggingface_hub
import pytest

from reproduce.config import TextData
from reproduce.data.sources import python_library
from reproduce.data.text import shards, tokeniser

MakeText = Callable[..., str]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("OFE_HOME", str(home))
    return home


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub in offline mode with an empty cache; gives the cache's folder."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


def make_text(seed: int, words: int = 400) -> str:
    """Lines of code, the same for the same seed."""
    draw = random.Random(seed)
    names = [f"{a}_{b}" for a in ("read", "write", "open", "close", "merge") for b in ("row", "file", "token", "page")]
    lines = [
        f"def {draw.choice(names)}({draw.choice(names)}): return {draw.randrange(1000)}\n" for _ in range(words // 4)
    ]
    return "".join(lines)


def shard_every(monkeypatch: pytest.MonkeyPatch, documents: int) -> None:
    """From now on a shard ends after so many documents."""
    monkeypatch.setattr(tokeniser, "BATCH_DOCUMENTS", documents)
    monkeypatch.setattr(shards, "SHARD_TOKENS", 1)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A standard library of 30 modules, with topics, tests and files of the build beside them."""
    root = tmp_path / "lib"
    for number in range(30):
        folder = root / ("package" if number % 3 == 0 else "")
        folder.mkdir(parents=True, exist_ok=True)
        doc = f"The module number {number}.\n\nIt explains itself at some length, {number} times over."
        body = f'"""{doc}"""\n\n{make_text(number)}def shared():\n    """Shared words."""\n'
        (folder / f"module_{number:02}.py").write_text(body)
    (root / "pydoc_data").mkdir()
    (root / "pydoc_data/topics.py").write_text("topics = {'with': 'The with statement\\n', 'assert': 'The assert'}\n")
    (root / "package/tests").mkdir()
    for name in ("package/tests/module.py", "test_it.py", "_sysconfigdata_x.py", "sitecustomize.py"):
        (root / name).write_text("unwanted = 1\n")
    (root / "latin.py").write_bytes(b"# caf\xe9\n")
    monkeypatch.setattr(python_library, "library_folder", lambda: root)
    return root


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of 24 text files."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(24):
        (folder / f"{number:02}.txt").write_text(make_text(100 + number))
    return folder


@pytest.fixture
def folder_data(texts: Path) -> TextData:
    return TextData(source="folder", path=str(texts), seq_len=16, vocab_size=300)
