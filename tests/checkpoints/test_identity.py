"""Names of revisions, and what identifies the files of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from reproduce.checkpoints.identity import folder_hash, step_of


@pytest.mark.parametrize(
    ("revision", "step"),
    [
        ("step1000", 1000),
        ("step0", 0),
        ("step-12", 12),
        ("global_step500", 500),
        ("main", None),
        (None, None),
        ("v2", None),
    ],
)
def test_revisions_that_are_named_after_steps_have_them(revision: str | None, step: int | None) -> None:
    assert step_of(revision) == step


def test_a_folder_is_identified_by_weights_architecture_and_tokenizer_alone(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text(name)
    before = folder_hash(tmp_path)
    (tmp_path / "README.md").write_text("notes")
    assert folder_hash(tmp_path) == before
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("other")
        assert folder_hash(tmp_path) != before
        (tmp_path / name).write_text(name)
