"""Commits of models on the hub: looked up once, and recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from reproduce.data.commits import FILE, commit_of, pinned_commit, recorded_commit
from reproduce.data.hub import only_the_cache
from reproduce.errors import OfeError

ONE, OTHER = "1" * 40, "2" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with one model, whose revision `step1` leads to the commit `ONE`."""
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--owner--tiny"
    (repository / "refs").mkdir(parents=True)
    for commit in (ONE, OTHER):
        (repository / "snapshots" / commit / "sub").mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
        (repository / "snapshots" / commit / "sub" / "model.gguf").write_text("")
    (repository / "refs" / "step1").write_text(ONE)
    return repository


def test_a_revision_keeps_the_commit_of_its_first_use(hub: Path, tmp_path: Path) -> None:
    with only_the_cache():
        assert recorded_commit("owner/tiny", "step1") == ""
        assert pinned_commit("owner/tiny", "step1") == ONE
        (hub / "refs" / "step1").write_text(OTHER)
        assert commit_of("owner/tiny", "step1").name == OTHER
        assert pinned_commit("owner/tiny", "step1") == recorded_commit("owner/tiny", "step1") == ONE
        assert recorded_commit("owner/tiny", "step2") == ""


def test_a_file_in_a_folder_of_the_repository_has_its_commit_too(hub: Path) -> None:
    assert commit_of("owner/tiny", "step1", file="sub/model.gguf", offline=True).name == ONE


def test_a_revision_that_is_not_in_the_cache_is_told_in_one_sentence(hub: Path) -> None:
    with only_the_cache(), pytest.raises(OfeError, match="is not in the cache of the Hugging Face hub"):
        pinned_commit("owner/tiny", "step2")


def test_without_an_address_the_cache_serves_and_nothing_is_tried_again(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reproduce.data.commits.may_not_download", lambda offline: offline)
    monkeypatch.setattr("reproduce.data.hub.hub_is_known", lambda: False)
    assert commit_of("owner/tiny", "step1").name == ONE
    with pytest.raises(OfeError, match="cannot be found"):
        commit_of("owner/tiny", "step2")


def test_a_damaged_record_names_the_file(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / FILE).write_text("{")
    with pytest.raises(OfeError, match=FILE):
        recorded_commit("owner/tiny", "step1")
