"""CodeParrot's loading code on copies of its layout, and on a hub cache made by hand: never on the network."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError
from tokenizers import Tokenizer

from reproduce.config import TextData
from reproduce.data import fingerprint, open_text, prepared_folder
from reproduce.data.progress import Step
from reproduce.data.sources import codeparrot
from reproduce.data.sources.codeparrot import DATASETS, TOKENISER, CodeParrot
from reproduce.data.text.tokeniser import train_bpe
from reproduce.errors import OfeError, SpecError

from ..conftest import make_text, shard_every

TRAIN = [f"# document {number}\n{make_text(number, words=80)}" for number in range(40)]
VALID = [f"# held out {number}\n{make_text(1000 + number, words=80)}" for number in range(12)]
COMMIT = {"train": "a" * 40, "eval": "b" * 40, "tokeniser": "c" * 40}

pytestmark = pytest.mark.usefixtures("no_network")


@pytest.fixture(autouse=True)
def small_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Datasets of 40 and 12 rows, of which 30 and 10 are drawn."""
    monkeypatch.setattr(codeparrot, "ROWS", {"train": len(TRAIN), "eval": len(VALID)})
    monkeypatch.setattr(codeparrot, "DOCUMENTS", {"train": 30, "eval": 10})


def _records(texts: list[str], column: str = "content") -> list[dict[str, str]]:
    return [{"repo_name": "some/where", column: text, "license": "mit"} for text in texts]


def write_json_gz(folder: Path, texts: list[str], column: str = "content") -> None:
    folder.mkdir(parents=True)
    with gzip.open(folder / "file-000000000000.json.gz", "wt") as file:
        file.writelines(json.dumps(record) + "\n" for record in _records(texts, column))


def write_parquet(folder: Path, texts: list[str]) -> None:
    folder.mkdir(parents=True)
    for number, part in enumerate((texts[:10], texts[10:])):
        pq.write_table(pa.Table.from_pylist(_records(part)), folder / f"part-{number:05}-of-00002.parquet")


def write_tokeniser(folder: Path) -> None:
    """As hub tokenisers are: with a truncation that must not have any effect."""
    tokenizer = train_bpe(TRAIN, 320)
    tokenizer.enable_truncation(16)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))


def make_copy(folder: Path, write: Callable[[Path, list[str]], None] = write_json_gz) -> TextData:
    write(folder / "codeparrot-ds-train", TRAIN)
    write(folder / "codeparrot-ds-valid", VALID)
    write_tokeniser(folder / "code-search-net-tokenizer")
    return TextData(source="codeparrot", path=str(folder), seq_len=8, vocab_size=320)


@pytest.fixture
def copy(tmp_path: Path) -> TextData:
    return make_copy(tmp_path / "copy")


@pytest.fixture
def hub_data() -> TextData:
    return TextData(source="codeparrot", seq_len=8, vocab_size=320)


def fill_cache(cache: Path) -> None:
    """What the hub's client leaves behind when it has downloaded the three repositories."""
    for kind, name, commit in (
        ("datasets", DATASETS["train"], COMMIT["train"]),
        ("datasets", DATASETS["eval"], COMMIT["eval"]),
        ("models", TOKENISER, COMMIT["tokeniser"]),
    ):
        repository = cache / f"{kind}--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs/main").write_text(commit)
        snapshot = repository / "snapshots" / commit
        if kind == "models":
            write_tokeniser(snapshot)
        else:
            split = "train" if "train" in name else "valid"
            write_json_gz(snapshot / split, TRAIN if split == "train" else VALID)


def _cut(documents: list[str], seq_len: int) -> list[list[int]]:
    """Chunks of each document, by the authors' rule."""
    tokenizer: Tokenizer = train_bpe(TRAIN, 320)
    ids = [tokenizer.encode(text).ids for text in documents]
    return [tokens[at : at + seq_len] for tokens in ids for at in range(0, len(tokens) - seq_len + 1, seq_len)]


def test_the_documents_are_those_that_the_authors_draw(copy: TextData) -> None:
    corpus = open_text(copy)
    for split, texts, count in (("train", TRAIN, 30), ("eval", VALID, 10)):
        theirs = datasets.Dataset.from_dict({"content": texts}).shuffle(seed=0).select(range(count))["content"]
        ours = np.load(corpus.folder / f"{split}.npy").tolist()
        assert sorted(ours) == sorted(_cut(list(theirs), 8))
    assert corpus.meta["documents"] == {"train": 30, "eval": 10}
    assert corpus.meta["origin"] == {"rows": {"train": 40, "eval": 12}}


def test_parquet_and_json_give_the_same_sequences(copy: TextData, tmp_path: Path) -> None:
    from_parquet = open_text(make_copy(tmp_path / "parquet", write_parquet))
    assert from_parquet.meta["sha256"] == open_text(copy).meta["sha256"]
    assert from_parquet.description == "documents of parquet in CodeParrot's layout"


def test_a_small_copy_is_read_whole(copy: TextData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codeparrot, "DOCUMENTS", {"train": 1_000, "eval": 1_000})
    assert open_text(copy).meta["documents"] == {"train": 40, "eval": 12}


def test_an_interrupted_preparation_continues_in_the_stream(
    copy: TextData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = open_text(copy).meta["sha256"]
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "another home"))
    shard_every(monkeypatch, 7)

    def stop(line: str) -> None:
        if line == "tokenised 14 of 30 training documents":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_text(copy, progress=stop)
    assert not prepared_folder(copy).exists()
    lines: list[str] = []
    assert open_text(copy, progress=lines.append).meta["sha256"] == whole
    told = [line for line in lines if not isinstance(line, Step)]
    assert told[0] == "tokenised 21 of 30 training documents", "rows are not counted again, shards not made again"


def test_a_fingerprint_needs_no_download_and_follows_the_pins(
    hub_data: TextData, copy: TextData, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fingerprint(hub_data)
    monkeypatch.setattr(codeparrot, "DATASET_REVISIONS", {"train": COMMIT["train"], "eval": "main"})
    assert len({first, fingerprint(hub_data), fingerprint(copy)}) == 3


def test_a_fingerprint_of_a_copy_follows_its_files(copy: TextData) -> None:
    first = fingerprint(copy)
    write_json_gz(Path(str(copy.path)) / "codeparrot-ds-train/more", ["more"])
    assert fingerprint(copy) != first


@pytest.mark.parametrize("offline", [False, True])
def test_without_network_the_cache_of_the_hub_serves(hub_data: TextData, no_network: Path, offline: bool) -> None:
    fill_cache(no_network)
    corpus = open_text(hub_data, offline=offline)
    assert corpus.meta["origin"] == {
        "datasets": {"train": COMMIT["train"], "eval": COMMIT["eval"]},
        "tokeniser": COMMIT["tokeniser"],
        "rows": {"train": 40, "eval": 12},
    }
    assert corpus.description == "CodeParrot Python (huggingface-course/codeparrot-ds-train)"


def test_offline_without_a_cache(hub_data: TextData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(OfeError, match=r"codeparrot-ds-train \(40 files .*\) is not in the cache") as caught:
        open_text(hub_data, offline=True)
    assert "set data.path to a copy" in str(caught.value.hint)
    assert "says how large it is" in str(caught.value.hint)


def test_a_hub_out_of_reach(hub_data: TextData, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **options: object) -> str:
        raise LocalEntryNotFoundError("Got: ConnectError")

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    monkeypatch.setattr("reproduce.data.hub.hub_is_known", lambda: True)
    with pytest.raises(OfeError, match=r"codeparrot-ds-train \(.*\) cannot be reached") as caught:
        open_text(hub_data)
    assert "check the network" in str(caught.value.hint)


def test_what_main_stood_for_holds_for_a_whole_preparation(
    hub_data: TextData, copy: TextData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub moves on between an interruption and its continuation; the continuation reads the old commits."""
    asked: list[tuple[str, str | None]] = []
    main = dict(COMMIT)
    builder = datasets.load_dataset_builder

    def snapshot(name: str, *, revision: str, **options: object) -> str:
        split = "train" if name == DATASETS["train"] else "eval"
        return f"/cache/snapshots/{main[split] if revision == 'main' else revision}"

    def download(name: str, file: str, *, revision: str, **options: object) -> str:
        asked.append((name, revision))
        folder = Path(str(copy.path)) / (main["tokeniser"] if revision == "main" else revision)
        write_tokeniser(folder)
        return str(folder / file)

    def load_builder(name: str, subset: None, *, revision: str | None, features: None) -> object:
        asked.append((name, revision))
        return builder(copy.path)

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("datasets.load_dataset_builder", load_builder)

    def stop(line: str) -> None:
        if "held-out" not in line and line.startswith("tokenised"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_text(hub_data, progress=stop)
    assert asked == [(TOKENISER, "main"), (DATASETS["train"], COMMIT["train"])]
    asked.clear()
    main.update(train="d" * 40, eval="e" * 40, tokeniser="f" * 40)
    corpus = open_text(hub_data)
    assert asked == [(TOKENISER, COMMIT["tokeniser"]), (DATASETS["eval"], COMMIT["eval"])]
    assert corpus.meta["origin"]["datasets"] == {"train": COMMIT["train"], "eval": COMMIT["eval"]}


def test_an_empty_file_of_a_copy_is_skipped_and_counted(copy: TextData) -> None:
    same = open_text(copy)
    (Path(str(copy.path)) / "codeparrot-ds-train/file-0.json.gz").touch()  # the first in order
    corpus = open_text(copy)
    assert corpus.folder != same.folder
    assert np.array_equal(np.load(corpus.folder / "train.npy"), np.load(same.folder / "train.npy"))
    assert corpus.meta["left_out"][0] == {
        **{"what": "files", "reason": "empty", "count": 1, "of": 3, "lost": False},
        "names": ["codeparrot-ds-train/file-0.json.gz"],
    }


def test_the_vocabulary_is_that_of_the_tokeniser(copy: TextData) -> None:
    with pytest.raises(SpecError, match="the tokeniser of codeparrot has 320 tokens, not 2,048") as caught:
        open_text(copy.model_copy(update={"vocab_size": 2048}))
    assert caught.value.hint == "set data.vocab_size=320"


def test_a_copy_needs_one_tokeniser(copy: TextData) -> None:
    shutil.rmtree(Path(str(copy.path)) / "code-search-net-tokenizer")
    with pytest.raises(OfeError, match=r"holds 0 files called tokenizer\.json instead of one") as caught:
        open_text(copy)
    assert TOKENISER in str(caught.value.hint)


def test_a_copy_without_a_split(copy: TextData) -> None:
    shutil.rmtree(Path(str(copy.path)) / "codeparrot-ds-valid")
    with pytest.raises(OfeError, match=r"cannot read the split validation of .*copy: ") as caught:
        open_text(copy)
    assert "train or valid" in str(caught.value.hint)


def test_a_copy_without_the_column(tmp_path: Path) -> None:
    data = make_copy(tmp_path / "renamed", lambda folder, texts: write_json_gz(folder, texts, column="text"))
    with pytest.raises(OfeError, match="has no column 'content' but repo_name, text, license"):
        open_text(data)


def test_drawn_rows_without_text_are_counted(tmp_path: Path) -> None:
    """The first row of each split has a null: the column is there all the same, and the rows are counted."""

    def write(folder: Path, texts: list[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{"content": None if number == 0 else text, "size": 1} for number, text in enumerate(texts)]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    lines: list[str] = []
    corpus = open_text(make_copy(tmp_path / "nulls", write), progress=lines.append)
    train, held_out = (corpus.meta["documents"][split] for split in ("train", "eval"))
    assert f"1 of {train} training documents is without text and is left out" in lines
    assert f"1 of {held_out} held-out documents is without text and is left out" in lines


def test_a_copy_without_any_text(tmp_path: Path) -> None:
    data = make_copy(tmp_path / "nulls", lambda folder, texts: write_json_gz(folder, [""] * len(texts)))
    with pytest.raises(OfeError, match="training documents are without text"):
        open_text(data)


def test_a_dataset_that_has_shrunk(hub_data: TextData, no_network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_cache(no_network)
    monkeypatch.setattr(codeparrot, "ROWS", {"train": 50, "eval": 12})
    with pytest.raises(OfeError, match="has fewer rows than the 50 expected"):
        open_text(hub_data)


def test_a_damaged_file_stops_with_its_reason(hub_data: TextData, no_network: Path) -> None:
    fill_cache(no_network)
    path = next(no_network.rglob("train/file-000000000000.json.gz"))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(OfeError, match=r"(cannot read the split train of|stopped before row) .*: .+"):
        open_text(hub_data)


def test_the_constants_are_the_papers() -> None:
    source = CodeParrot(TextData(source="codeparrot", seq_len=128, vocab_size=50_000))
    assert source.identity()["datasets"][0] == {
        "train": "huggingface-course/codeparrot-ds-train",
        "eval": "huggingface-course/codeparrot-ds-valid",
    }
    assert source.identity()["tokeniser"] == ["huggingface-course/code-search-net-tokenizer", "main"]
