from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reproduce.config import TextData
from reproduce.data import fingerprint, open_text, prepared, prepared_folder
from reproduce.data.prepared import verified_meta
from reproduce.data.text import prepare
from reproduce.errors import OfeError, SpecError

_PREPARE = """
import json, os, sys
from reproduce.config import TextData
from reproduce.data import open_text
lines = []
def progress(line):
    lines.append(line)
    if sys.argv[2] == "die" and line.startswith("tokenised"):
        os._exit(9)
corpus = open_text(TextData.model_validate_json(sys.argv[1]), progress=progress)
print(json.dumps({"sha256": corpus.meta["sha256"], "lines": lines}))
"""


def _start(data: TextData, manner: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _PREPARE, data.model_dump_json(), manner]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_fingerprint_says_what_the_sequences_are_made_from(folder_data: TextData, texts: Path) -> None:
    first = fingerprint(folder_data)
    assert fingerprint(folder_data) == first
    assert len(first) == 16
    others = [
        fingerprint(folder_data.model_copy(update={"seq_len": 32})),
        fingerprint(folder_data.model_copy(update={"vocab_size": 301})),
    ]
    (texts / "00.txt").write_text("changed")
    others.append(fingerprint(folder_data))
    assert len({first, *others}) == 4


def test_a_fingerprint_does_not_depend_on_where_the_text_lies(folder_data: TextData, texts: Path) -> None:
    first = fingerprint(folder_data)
    moved = texts.rename(texts.with_name("moved"))
    assert fingerprint(folder_data.model_copy(update={"path": str(moved)})) == first
    assert fingerprint(folder_data.model_copy(update={"path": str(moved), "fingerprint": first})) == first


def test_a_fingerprint_writes_nothing_and_trains_nothing(folder_data: TextData, home: Path) -> None:
    fingerprint(folder_data)
    assert not home.exists()


def test_what_is_prepared_is_only_read(folder_data: TextData, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not prepared_folder(folder_data).exists()
    first = open_text(folder_data)
    assert prepared_folder(folder_data) == first.folder

    def fail(*args: object, **options: object) -> None:
        raise AssertionError("prepared twice")

    monkeypatch.setattr(prepare, "prepare", fail)
    monkeypatch.setattr("filelock.FileLock", fail)
    assert open_text(folder_data).fingerprint == first.fingerprint


def test_two_processes_prepare_once(folder_data: TextData) -> None:
    answers = []
    for process in [_start(folder_data, "live"), _start(folder_data, "live")]:
        answers.append(json.loads(process.communicate(timeout=60)[0]))
        assert process.returncode == 0
    assert answers[0]["sha256"] == answers[1]["sha256"]
    assert sum(line.startswith("training") for answer in answers for line in answer["lines"]) == 1


def test_a_process_that_dies_leaves_no_lock_and_no_half_corpus(folder_data: TextData, tmp_path: Path) -> None:
    process = _start(folder_data, "die")
    process.communicate(timeout=60)
    assert process.returncode == 9
    assert not prepared_folder(folder_data).exists()
    process = _start(folder_data, "live")
    resumed = json.loads(process.communicate(timeout=60)[0])
    assert not any(line.startswith("training") for line in resumed["lines"])
    assert open_text(folder_data).meta["sha256"] == resumed["sha256"]


def test_a_run_is_never_given_another_text(folder_data: TextData, texts: Path) -> None:
    pinned = folder_data.model_copy(update={"fingerprint": fingerprint(folder_data)})
    (texts / "00.txt").write_text("changed since the run was resolved")
    with pytest.raises(OfeError, match="are not those this run was made for") as caught:
        open_text(pinned)
    assert f"copy folder-{pinned.fingerprint} to" in str(caught.value.hint)


def test_a_prepared_text_serves_its_runs_after_the_folder_is_gone(folder_data: TextData, texts: Path) -> None:
    pinned = folder_data.model_copy(update={"fingerprint": open_text(folder_data).fingerprint})
    texts.rename(texts.with_name("gone"))
    assert open_text(pinned).fingerprint == pinned.fingerprint


def test_a_home_that_cannot_be_written_is_explained(
    folder_data: TextData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "file/home"))
    with pytest.raises(OfeError, match="lies below a file") as caught:
        open_text(folder_data)
    assert "OFE_HOME" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"source": "folder"}, "the source folder needs data.path"),
        ({"source": "python-stdlib", "path": "here"}, "the source python-stdlib reads no path"),
        ({"source": "python-prose", "dataset": "a/b"}, "the source python-prose takes no data.dataset"),
        ({"source": "codeparrot", "subset": "small"}, "the source codeparrot takes no data.subset"),
        ({"source": "languini-books"}, "the source languini-books needs data.path"),
        ({"source": "hub"}, "the source hub needs data.dataset as owner/name"),
        ({"source": "hub", "dataset": "wikitext"}, "needs data.dataset as owner/name, not 'wikitext'"),
        ({"source": "hub", "dataset": "a/b", "path": "."}, "data.path and data.dataset name two sources"),
        ({"source": "books"}, "no source of text is called 'books'"),
    ],
)
def test_what_a_source_does_not_take(fields: dict[str, str], message: str) -> None:
    data = TextData.model_validate({"seq_len": 16, "vocab_size": 300, **fields})
    with pytest.raises(SpecError, match=message) as caught:
        fingerprint(data)
    assert caught.value.hint


FROZEN = {
    "python-stdlib": "8a3a012c143500eb",
    "python-prose": "455521074f0f220d",
    "folder": "cfa44a127734a230",
}
"""Fingerprints in chunk packing of the small texts of `conftest`: runs that were trained carry such in their keys."""


@pytest.mark.parametrize("source", FROZEN)
def test_fingerprints_stay_what_they_were(source: str, library: Path, texts: Path) -> None:
    data = TextData(source=source, path=str(texts) if source == "folder" else None, seq_len=16, vocab_size=300)
    assert fingerprint(data) == FROZEN[source]


def test_the_fingerprint_of_the_papers_code_stays_what_it_was() -> None:
    assert fingerprint(TextData(source="codeparrot", seq_len=128, vocab_size=50_000)) == "d5108dd3eb994f61"


def test_large_data_are_measured_when_they_are_opened_and_hashed_when_they_are_checked(
    folder_data: TextData, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = open_text(folder_data)
    monkeypatch.setattr(prepared, "HASHED_AT_OPENING", 10)
    path = corpus.folder / "train.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    open_text(folder_data)
    with pytest.raises(OfeError, match=r"train\.npy is not what was written"):
        verified_meta(corpus.folder, whole=True)
    path.write_bytes(content[:-2])
    with pytest.raises(OfeError, match=r"train\.npy is not what was written"):
        open_text(folder_data)
