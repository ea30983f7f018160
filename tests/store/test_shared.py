"""Where the folders that come with the code lie."""

from __future__ import annotations

from pathlib import Path

import pytest

import reproduce
from reproduce.store.shared import shared_folder


def test_in_a_clone_they_stand_beside_the_package() -> None:
    root = Path(reproduce.__file__).resolve().parent.parent
    assert shared_folder("experiments") == root / "experiments"
    assert shared_folder("experiments").is_dir()


def test_in_an_installation_they_are_inside_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "reproduce"
    package.mkdir(parents=True)
    (tmp_path / "site-packages" / "figures").mkdir()  # of some other distribution
    monkeypatch.setattr(reproduce, "__file__", str(package / "__init__.py"))
    assert shared_folder("figures") == package / "_shared" / "figures"
