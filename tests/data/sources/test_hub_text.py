"""Hub datasets from folders in the hub's layout and a hub cache made by hand: never on the network."""

from __future__ import annotations

import gzip
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from tokenizers import Tokenizer

from reproduce.config import TextData
from reproduce.data import fingerprint, open_text, prepared_folder
from reproduce.data.columns import Place, open_builder
from reproduce.data.progress import Step
from reproduce.data.sources import hub_text
from reproduce.data.text.stream import StreamCorpus
from reproduce.errors import OfeError, SpecError

from ..conftest import make_text, shard_every

TEXTS = [f"# document {number}\n{make_text(number, words=60)}" for number in range(90)]
HELD_OUT = TEXTS[19::20]
TRAIN = [text for number, text in enumerate(TEXTS, start=1) if number % 20]
COMMIT = "a" * 40

pytestmark = pytest.mark.usefixtures("no_network")


def write_parquet(folder: Path, split: str, texts: list[str], column: str = "text") -> None:
    """Three files, as the hub keeps large datasets, with small row groups."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        part = np.array_split(np.array(texts, object), 3)[number].tolist()
        table = pa.table({"score": [1.0] * len(part), column: part})
        pq.write_table(table, folder / f"{split}-{number:05}-of-00003.parquet", row_group_size=7)


def write_json(folder: Path, split: str, texts: list[str], column: str = "text") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / f"{split}.json.gz", "wt") as file:
        file.writelines(json.dumps({column: text, "score": 1.0}) + "\n" for text in texts)


Write = Callable[[Path, str, list[str]], None]


@pytest.fixture
def data(tmp_path: Path) -> TextData:
    write_parquet(tmp_path / "copy/data", "train", TEXTS)
    return TextData(source="hub", path=str(tmp_path / "copy"), seq_len=8, vocab_size=320, packing="stream")


def _decoded(corpus: object) -> list[str]:
    assert isinstance(corpus, StreamCorpus)
    tokenizer = Tokenizer.from_file(str(corpus.folder / "tokenizer.json"))
    return [tokenizer.decode(document[:-1].tolist()) for document in corpus._shards]


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("write", [write_parquet, write_json])
def test_all_rows_but_every_twentieth_are_trained_on(tmp_path: Path, write: Write) -> None:
    write(tmp_path / "some/data", "train", TEXTS)
    corpus = open_text(TextData(source="hub", path=str(tmp_path / "some"), seq_len=8, vocab_size=320, packing="stream"))
    assert _decoded(corpus) == TRAIN
    assert corpus.meta["documents"] == {"train": 86, "eval": 4}
    assert corpus.meta["origin"] == {"train": "train", "eval": "train", "column": "text"}
    assert corpus.description == "documents of some"


def test_held_out_are_the_others(data: TextData) -> None:
    corpus = open_text(data.model_copy(update={"packing": "chunks"}))
    tokenizer = Tokenizer.from_file(str(corpus.folder / "tokenizer.json"))
    ids = [tokenizer.encode(text).ids for text in HELD_OUT]
    chunks = [one[at : at + 8] for one in ids for at in range(0, len(one) - 7, 8)]
    assert sorted(np.load(corpus.folder / "eval.npy").tolist()) == sorted(chunks)


def test_a_split_for_validation_is_held_out_and_all_rows_are_trained_on(tmp_path: Path) -> None:
    write_parquet(tmp_path / "some/data", "train", TEXTS)
    write_parquet(tmp_path / "some/data", "validation", [make_text(500 + number) for number in range(6)])
    write_parquet(tmp_path / "some/data", "test", [make_text(600 + number) for number in range(6)])
    data = TextData(source="hub", path=str(tmp_path / "some"), seq_len=8, vocab_size=320, packing="stream")
    corpus = open_text(data)
    assert _decoded(corpus) == TEXTS
    assert corpus.meta["origin"]["eval"] == "validation"


def test_reading_of_held_out_documents_ends(data: TextData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_text, "HELD_OUT_CHARACTERS", len(HELD_OUT[0]) + 1)
    assert open_text(data).meta["documents"] == {"train": 86, "eval": 2}


def test_the_tokeniser_is_trained_on_the_first_training_documents(
    data: TextData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_text, "TOKENISER_CHARACTERS", 1)
    lines: list[str] = []
    corpus = open_text(data, progress=lines.append)
    first = hub_text.StreamedDocuments("", Place(str(data.path), None, None), {})
    sample = list(first.sample(lambda line: None))
    assert sample == TRAIN[:1]
    assert corpus.vocab_size <= 320
    assert "training a tokeniser of 320 tokens on up to 1 characters" in lines


def test_training_stops_where_a_run_has_enough(data: TextData) -> None:
    corpus = open_text(data.model_copy(update={"train_tokens": 1_500}))
    assert isinstance(corpus, StreamCorpus)
    assert 1_500 <= corpus.train_tokens < 2_000
    assert _decoded(corpus) == TRAIN[: corpus.train_documents]


@pytest.mark.parametrize("write", [write_parquet, write_json])
@pytest.mark.parametrize("packing", ["stream", "chunks"])
def test_a_stop_after_any_shard_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Write, packing: str
) -> None:
    """Stopped after every single shard, the preparation ends with the files of one that never was."""
    write(tmp_path / "some/data", "train", TEXTS)
    data = TextData.model_validate(
        {"source": "hub", "path": str(tmp_path / "some"), "seq_len": 8, "vocab_size": 320, "packing": packing}
    )
    shard_every(monkeypatch, 11)
    uninterrupted = _files(open_text(data).folder)
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "another home"))
    stops = 0

    def stop(line: str) -> None:
        if line.startswith("tokenised"):
            raise KeyboardInterrupt

    while not prepared_folder(data).exists():
        try:
            corpus = open_text(data, progress=stop)
        except KeyboardInterrupt:
            stops += 1
    assert _files(corpus.folder) == uninterrupted
    assert stops == 9


def test_a_resumed_preparation_passes_over_the_files_it_has_read(
    no_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read once is not fetched again: the second of three files is gone when the third is being read."""
    monkeypatch.setattr(hub_text, "HELD_OUT_CHARACTERS", 1)
    fill_cache(no_network, "a/b", COMMIT)
    shard_every(monkeypatch, 11)

    def stop(line: str) -> None:
        if line.startswith("tokenised 66 "):
            raise KeyboardInterrupt

    hub = _hub(packing="stream")
    with pytest.raises(KeyboardInterrupt):
        open_text(hub, progress=stop)
    second = next(no_network.rglob("data/train-00001-of-00003.parquet"))
    second.write_bytes(second.read_bytes()[:4] + bytes(second.stat().st_size - 4))
    lines: list[str] = []
    corpus = open_text(hub, progress=lines.append)
    assert _decoded(corpus) == TRAIN
    told = [line for line in lines if not isinstance(line, Step)]
    assert told[2].startswith("tokenised 77 training documents")
    assert not any("training a tokeniser" in line for line in lines)


def test_the_column_of_text_is_found(tmp_path: Path) -> None:
    for column, expected in (("TEXT", "TEXT"), ("content", "content"), ("story", "story")):
        write_parquet(tmp_path / column / "data", "train", TEXTS, column)
        corpus = open_text(TextData(source="hub", path=str(tmp_path / column), seq_len=8, vocab_size=320))
        assert corpus.meta["origin"]["column"] == expected


def _jsonl(folder: Path, rows: list[dict[str, object]], **fields: object) -> TextData:
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {"source": "hub", "path": str(folder), "seq_len": 8, "vocab_size": 320, "packing": "stream"}
    return TextData.model_validate(values | fields)


def test_the_text_is_trained_on_where_the_first_row_has_none(tmp_path: Path) -> None:
    """Row 1 has a null and an address: the addresses are not the text, and the row without text is counted."""
    rows: list[dict[str, object]] = [{"url": "https://a", "text": None}]
    rows += [{"url": f"https://{number}", "text": f"the text {number}"} for number in range(3_000)]
    lines: list[str] = []
    corpus = open_text(_jsonl(tmp_path / "some", rows), progress=lines.append)
    texts = [row["text"] for row in rows]
    assert _decoded(corpus) == [text for row, text in enumerate(texts, start=1) if row % 20 and text]
    assert "reading the column text of the split train; every 20th row is held out" in lines
    assert "1 of 2,851 training documents is without text and is left out" in lines
    assert corpus.description == "documents of some, without 1 of 2,851 training documents (without text)"
    assert [(one["what"], one["count"], one["of"]) for one in corpus.meta["left_out"]] == [
        ("training documents", 1, 2_851)
    ]


def test_rows_that_are_null_empty_or_no_string_are_counted(tmp_path: Path) -> None:
    texts: list[object] = [None, "", 5, *TEXTS]
    corpus = open_text(_jsonl(tmp_path / "some", [{"text": text, "url": "u"} for text in texts]))
    assert _decoded(corpus) == [text for row, text in enumerate(texts, start=1) if row % 20 and row > 3]
    assert corpus.meta["left_out"][0]["count"] == 3


def test_counts_are_those_of_all_rows_where_a_preparation_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [text if number % 3 else None for number, text in enumerate(TEXTS)]
    data = _jsonl(tmp_path / "some", [{"text": text} for text in texts])
    shard_every(monkeypatch, 20)

    def stop(line: str) -> None:
        if line.startswith("tokenised 60 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_text(data, progress=stop)
    left = open_text(data).meta["left_out"]
    train = [text for number, text in enumerate(texts, start=1) if number % 20]
    assert (left[0]["count"], left[0]["of"]) == (train.count(None), len(train))


@pytest.mark.parametrize("text", [None, "", 5])
def test_a_column_without_any_text(tmp_path: Path, text: object) -> None:
    rows: list[dict[str, object]] = [{"url": f"u{number}", "text": text} for number in range(50)]
    if text == 5:
        rows[0]["text"] = [5]  # several types, of which none is text
    with pytest.raises(OfeError, match=r"text of .*some holds no text: .* in all 48 training rows") as caught:
        open_text(_jsonl(tmp_path / "some", rows))
    assert "data.column" in str(caught.value.hint)


def test_the_user_names_the_column_that_is_read(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"question": text, "answer": "an answer"} for text in TEXTS]
    data = _jsonl(tmp_path / "some", rows, column="question")
    corpus = open_text(data)
    assert _decoded(corpus) == TRAIN
    assert corpus.meta["origin"]["column"] == "question"
    others = [data.model_copy(update={"column": None}), data.model_copy(update={"column": "answer"})]
    assert len({fingerprint(one) for one in (data, *others)}) == 3


@pytest.mark.parametrize("source", ["python-stdlib", "codeparrot"])
def test_a_column_is_refused_where_none_is_chosen(source: str) -> None:
    data = TextData(source=source, column="text", seq_len=8, vocab_size=320)
    with pytest.raises(SpecError, match=rf"the source {source} takes no data\.column"):
        fingerprint(data)


def test_two_columns_that_might_be_the_text(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    pq.write_table(pa.table({"question": ["a"], "answer": ["b"]}), tmp_path / "pairs/train.parquet")
    with pytest.raises(OfeError, match="has no column called text or content but question, answer"):
        open_text(TextData(source="hub", path=str(tmp_path / "pairs"), seq_len=8, vocab_size=320))


def test_several_splits_without_one_to_train_on(tmp_path: Path) -> None:
    for split in ("test", "validation"):
        write_parquet(tmp_path / "odd/data", split, TEXTS[:9])
    with pytest.raises(OfeError, match="has no split train but"):
        open_text(TextData(source="hub", path=str(tmp_path / "odd"), seq_len=8, vocab_size=320))


def test_a_folder_that_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(OfeError, match=r"cannot read .*empty: ") as caught:
        open_text(TextData(source="hub", path=str(tmp_path / "empty"), seq_len=8, vocab_size=320))
    assert "parquet" in str(caught.value.hint)


def test_a_damaged_file_stops_with_its_place(data: TextData) -> None:
    path = Path(str(data.path)) / "data/train-00001-of-00003.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes(200) + content[400:])
    said = (
        r"reading .*copy stopped after row 30: data/train-00001-of-00003\.parquet is cut off or damaged after its row 0"
    )
    with pytest.raises(OfeError, match=said) as caught:
        open_text(data)
    assert "mend that file" in str(caught.value.hint)


def test_too_few_rows_to_hold_any_out(tmp_path: Path) -> None:
    write_parquet(tmp_path / "few/data", "train", TEXTS[:15])
    with pytest.raises(OfeError, match="0 held out"):
        open_text(TextData(source="hub", path=str(tmp_path / "few"), seq_len=8, vocab_size=320, packing="stream"))


# ---------------------------------------------------------------------------------------------------
# Sources


def _hub(**fields: object) -> TextData:
    return TextData.model_validate({"source": "hub", "dataset": "a/b", "seq_len": 8, "vocab_size": 320} | fields)


def test_a_fingerprint_needs_no_network_and_tells_datasets_apart() -> None:
    wanted = [
        _hub(),
        _hub(dataset="a/c"),
        _hub(dataset=f"a/b@{COMMIT}"),
        _hub(subset="small"),
        _hub(vocab_size=321),
        _hub(source="public-domain-books", dataset=None),
        _hub(source="fineweb-edu", dataset=None),
        _hub(source="fineweb-edu", dataset=None, subset="sample-100BT"),
    ]
    assert len({fingerprint(one) for one in wanted}) == len(wanted)
    sample = _hub(source="fineweb-edu", dataset=None, subset="sample-10BT")
    assert fingerprint(sample) == fingerprint(_hub(source="fineweb-edu", dataset=None))


def test_a_fingerprint_of_a_copy_follows_its_files(data: TextData) -> None:
    first = fingerprint(data)
    write_parquet(Path(str(data.path)) / "data", "test", ["more"] * 3)
    assert fingerprint(data) != first


def test_a_copy_of_plain_texts_is_told_from_another(tmp_path: Path) -> None:
    copies = []
    for name, word in (("a", "alpha "), ("b", "other ")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.txt").write_text("\n".join([word * 30] * 90))
        copies.append(TextData(source="hub", path=str(tmp_path / name), seq_len=8, vocab_size=270, packing="stream"))
    assert [open_text(copy).description for copy in copies] == ["documents of a", "documents of b"]


def fill_cache(cache: Path, name: str, commit: str, card: str = "") -> None:
    """What the hub's client leaves behind when it has downloaded a dataset."""
    repository = cache / f"datasets--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    write_parquet(snapshot / "data", "train", TEXTS)
    write_parquet(snapshot / "sample/10BT", "train", TEXTS[:60])
    (snapshot / "README.md").write_text(card)


CARD = """---
configs:
- config_name: default
  data_files: [{split: train, path: "data/*"}]
- config_name: sample-10BT
  data_files: [{split: train, path: "sample/10BT/*"}]
---
"""


def test_public_domain_books_are_the_dataset_that_is_named(no_network: Path) -> None:
    dataset = hub_text.PUBLIC_DOMAIN_BOOKS
    fill_cache(no_network, dataset.name, dataset.revision, CARD)
    data = _hub(source="public-domain-books", dataset=None, packing="stream")
    corpus = open_text(data, offline=True)
    assert _decoded(corpus) == TRAIN
    assert corpus.description == "common-pile/project_gutenberg_filtered"
    assert corpus.meta["origin"]["commit"] == dataset.revision


def test_fineweb_is_read_from_its_sample(no_network: Path) -> None:
    fill_cache(no_network, hub_text.FINEWEB_EDU.name, hub_text.FINEWEB_EDU.revision, CARD)
    corpus = open_text(_hub(source="fineweb-edu", dataset=None, packing="stream", train_tokens=3_000))
    assert isinstance(corpus, StreamCorpus)
    sample = [text for number, text in enumerate(TEXTS[:60], start=1) if number % 20]
    assert _decoded(corpus) == sample[: corpus.train_documents]
    assert corpus.train_tokens >= 3_000
    assert corpus.description == "HuggingFaceFW/fineweb-edu, sample-10BT"


def test_any_dataset_by_its_name(no_network: Path) -> None:
    fill_cache(no_network, "a/b", COMMIT)
    corpus = open_text(_hub(packing="stream"))
    assert corpus.description == "a/b"
    assert corpus.meta["origin"] == {
        **{"dataset": "a/b", "commit": COMMIT},
        **{"train": "train", "eval": "train", "column": "text"},
    }


def test_offline_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(
        OfeError, match="HuggingFaceFW/fineweb-edu is not in the cache of the Hugging Face hub"
    ) as caught:
        open_text(_hub(source="fineweb-edu", dataset=None), offline=True)
    assert "set data.path to a copy of the dataset" in str(caught.value.hint)


def test_a_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **options: object) -> str:
        raise LocalEntryNotFoundError("Got: ConnectError")

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    monkeypatch.setattr("reproduce.data.hub.hub_is_known", lambda: True)
    with pytest.raises(OfeError, match="a/b cannot be reached on the Hugging Face hub"):
        open_text(_hub())


def test_how_much_would_be_read_is_told_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a hub whose name has no address is not asked: the library would repeat each request for half a minute."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("reproduce.data.hub.hub_is_known", lambda: False)
    with pytest.raises(OfeError, match=r"a/b \(of which 2,000,000 tokens are read, about 8 MB\) is not in") as told:
        open_text(_hub(train_tokens=2_000_000))
    assert "huggingface.co cannot be found" in told.value.message
    assert "https://huggingface.co/datasets/a/b says how large it is" in str(told.value.hint)


@pytest.mark.parametrize("name", ["foo bar/baz", "a/b--c"])
def test_a_name_that_no_dataset_can_have(name: str) -> None:
    with pytest.raises(OfeError, match=f"'{name}' is no name on the Hugging Face hub"):
        open_text(_hub(dataset=name))


@pytest.mark.parametrize(
    ("kind", "message", "hint"),
    [
        (RepositoryNotFoundError, "a/b is not to be found on the Hugging Face hub", "check the name"),
        (GatedRepoError, "a/b is on the Hugging Face hub for those who accept its terms", "hf auth login"),
    ],
)
def test_a_dataset_that_the_hub_does_not_give(
    kind: type[HfHubHTTPError], message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> str:
        raise kind.__new__(kind)  # without the response that the hub's client keeps in it

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(OfeError, match=message) as caught:
        open_text(_hub())
    assert hint in str(caught.value.hint)


def test_what_main_stood_for_holds_for_a_whole_preparation(
    data: TextData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub moves on between an interruption and its continuation; the continuation reads the old commit."""
    asked: list[tuple[str, str | None, str | None]] = []
    main = [COMMIT]
    builder = datasets.load_dataset_builder

    def snapshot(name: str, *, revision: str, **options: object) -> str:
        return f"/cache/snapshots/{main[0] if revision == 'main' else revision}"

    def load_builder(name: str, subset: str | None, *, revision: str | None, features: object) -> object:
        asked.append((name, subset, revision))
        return builder(data.path)

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr("datasets.load_dataset_builder", load_builder)
    shard_every(monkeypatch, 20)

    def stop(line: str) -> None:
        if line.startswith("tokenised 40 "):
            raise KeyboardInterrupt

    hub = _hub(subset="small", packing="stream")
    with pytest.raises(KeyboardInterrupt):
        open_text(hub, progress=stop)
    main[0] = "b" * 40
    corpus = open_text(hub)
    assert set(asked) == {("a/b", "small", COMMIT)}
    assert corpus.meta["origin"]["commit"] == COMMIT
    assert _decoded(corpus) == TRAIN


def test_a_damaged_line_is_named_and_not_tried_again(tmp_path: Path) -> None:
    data = _jsonl(tmp_path / "bad", [{"text": text} for text in TEXTS])
    path = tmp_path / "bad/train.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    for row, line in ((1, b'{"text": "caf\xe9"}\n'), (61, b'{"text": "caf\xe9"}\n'), (90, b'{"text": \n')):
        path.write_bytes(b"".join([*lines[: row - 1], line, *lines[row:]]))
        with pytest.raises(OfeError, match=rf": line {row} of train\.jsonl is not (UTF-8|JSON)$") as caught:
            open_text(data)
        assert caught.value.hint == f"mend that file, or take it out of {tmp_path / 'bad'}"


def test_an_archive_that_was_cut_off_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "cut/data", "train", TEXTS)
    path = tmp_path / "cut/data/train.json.gz"
    path.write_bytes(path.read_bytes()[:-300])
    data = TextData(source="hub", path=str(tmp_path / "cut"), seq_len=8, vocab_size=320)
    with pytest.raises(OfeError, match=r"data/train\.json\.gz is cut off or damaged after its line \d+$"):
        open_text(data)


@pytest.mark.parametrize("name", ["h-glob[1]", "what?", "all*", "a::b"])
def test_a_name_that_is_a_pattern_to_the_library(tmp_path: Path, name: str) -> None:
    for folder in ("plain", name):
        write_parquet(tmp_path / folder, "train", TEXTS)
    plain, odd = (
        open_text(TextData(source="hub", path=str(tmp_path / folder), seq_len=8, vocab_size=320, train_tokens=limit))
        for folder, limit in (("plain", None), (name, 10**9))  # a limit makes another prepared folder
    )
    assert plain.folder != odd.folder
    assert np.array_equal(plain.eval_batch(0, 1), odd.eval_batch(0, 1))
    assert np.array_equal(plain.batch(0, 0, 2), odd.batch(0, 0, 2))


# ---------------------------------------------------------------------------------------------------
# Files and splits that are not as they should be


def _lines(texts: list[str], column: str = "text") -> str:
    return "".join(json.dumps({"url": "u", column: text}) + "\n" for text in texts)


def _copy(folder: Path, files: dict[str, str | bytes]) -> TextData:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return TextData(source="hub", path=str(folder), seq_len=8, vocab_size=320, packing="stream")


@pytest.mark.parametrize("empty", ["a", "b", "c"])
@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_file_is_skipped_and_counted_wherever_it_is(tmp_path: Path, empty: str, content: bytes) -> None:
    halves = [_lines(TEXTS[:50]), _lines(TEXTS[50:])]
    files: dict[str, str | bytes] = {f"{name}.jsonl": halves.pop(0) for name in "abc" if name != empty}
    lines: list[str] = []
    corpus = open_text(_copy(tmp_path / "some", files | {f"{empty}.jsonl": content}), progress=lines.append)
    assert _decoded(corpus) == TRAIN
    assert lines.count(f"1 of 3 files is empty and is left out: {empty}.jsonl") == 1
    assert corpus.meta["left_out"] == [
        {"what": "files", "reason": "empty", "count": 1, "of": 3, "names": [f"{empty}.jsonl"], "lost": False}
    ]
    assert corpus.description == "documents of some"


def test_an_empty_file_is_skipped_in_every_format(tmp_path: Path) -> None:
    write_parquet(tmp_path / "parquet", "train", TEXTS)
    (tmp_path / "parquet/train-00000-of-00000.parquet").touch()
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "parquet/train-00009-of-00009.parquet")
    write_json(tmp_path / "json", "train", TEXTS)
    (tmp_path / "json/train-0.json.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "json/train-1.json.gz").touch()
    for name in ("parquet", "json"):
        data = TextData(source="hub", path=str(tmp_path / name), seq_len=8, vocab_size=320, packing="stream")
        corpus = open_text(data)
        assert _decoded(corpus) == TRAIN
        assert corpus.meta["left_out"][0]["count"] == 2


def test_files_that_are_all_empty(tmp_path: Path) -> None:
    with pytest.raises(OfeError, match=r"some has no rows: its files are all empty$"):
        open_text(_copy(tmp_path / "some", {"a.jsonl": "", "b.jsonl": ""}))
    with pytest.raises(OfeError, match=r"the split train of .*other has no rows: its files are all empty$"):
        open_text(_copy(tmp_path / "other", {"train.jsonl": "", "test.jsonl": _lines(TEXTS)}))


def test_a_split_whose_files_are_all_empty_is_not_held_out(tmp_path: Path) -> None:
    lines: list[str] = []
    data = _copy(tmp_path / "some", {"train.jsonl": _lines(TEXTS), "valid.jsonl": ""})
    assert _decoded(open_text(data, progress=lines.append)) == TRAIN
    assert "reading the column text of the split train; every 20th row is held out" in lines


def test_a_preparation_goes_on_past_an_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = _copy(tmp_path / "some", {"a.jsonl": "", "b.jsonl": _lines(TEXTS[:50]), "c.jsonl": _lines(TEXTS[50:])})
    shard_every(monkeypatch, 20)

    def stop(line: str) -> None:
        if line.startswith("tokenised 60 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_text(data, progress=stop)
    corpus = open_text(data)
    assert _decoded(corpus) == TRAIN
    assert [one["what"] for one in corpus.meta["left_out"]] == ["files"]


def test_the_held_out_split_has_another_column(tmp_path: Path) -> None:
    table = "url,{}\n" + "".join(f"u,the words of row {number}\n" for number in range(90))
    copies: dict[str, dict[str, str | bytes]] = {
        "jsonl": {"train.jsonl": _lines(TEXTS), "valid.jsonl": _lines(TEXTS, "content")},
        "csv": {"train.csv": table.format("text"), "valid.csv": table.format("content")},
    }
    for name, files in copies.items():
        lines: list[str] = []
        with pytest.raises(OfeError, match=r"split validation of .* has no column called text but url, content$"):
            open_text(_copy(tmp_path / name, files), progress=lines.append)
        assert not [line for line in lines if "token" in line]


def test_the_training_split_has_another_column(tmp_path: Path) -> None:
    data = _copy(tmp_path / "some", {"train.jsonl": _lines(TEXTS, "content"), "valid.jsonl": _lines(TEXTS)})
    with pytest.raises(OfeError, match=r"the split train of .* has no column called text but url, content$"):
        open_text(data)


def test_the_held_out_split_is_without_text(tmp_path: Path) -> None:
    lines: list[str] = []
    rows = '{"url": "u", "text": null}\n' * 60
    with pytest.raises(OfeError, match=r"all 60 rows of the split test that were read, whose columns are url, text$"):
        open_text(_copy(tmp_path / "some", {"train.jsonl": _lines(TEXTS), "test.jsonl": rows}), progress=lines.append)
    assert not [line for line in lines if "token" in line]


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({"a.jsonl": "5\n" * 90}, "line 1 of a.jsonl"),
        ({"a.jsonl": '\n"words"\n' * 90}, "line 2 of a.jsonl"),
        ({"a.jsonl": "[1]\n" * 90}, "line 1 of a.jsonl"),
        ({"a.jsonl": "null\n" * 90}, "line 1 of a.jsonl"),  # the library ends the process here
        ({"a.json": "null\n" * 90}, "line 1 of a.json"),
        ({"a.jsonl": _lines(TEXTS), "b.jsonl": "null\n" * 90}, "line 1 of b.jsonl"),
        ({"a.jsonl": _lines(TEXTS) + "5\n" + _lines(TEXTS)}, "line 91 of a.jsonl"),
        ({"a.json": _lines(TEXTS) + "[5]\n" + _lines(TEXTS)}, "line 91 of a.json"),
    ],
)
def test_lines_that_are_no_json_objects(
    tmp_path: Path, files: dict[str, str | bytes], place: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OfeError, match=rf": {place} is not a JSON object$"):
        open_text(_copy(tmp_path / "some", files))
    assert capfd.readouterr().err == ""


def test_the_library_logs_nothing_of_a_line_that_was_cut(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handlers = logging.getLogger("datasets").handlers
    for handler in handlers:  # as outside of pytest, which replaces stderr before the library looks for it
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)
    with pytest.raises(OfeError, match=r": line 91 of a\.jsonl is not JSON$"):
        open_text(_copy(tmp_path / "some", {"a.jsonl": _lines(TEXTS) + '{"text": "cut'}))
    assert capfd.readouterr().err == ""
    assert logging.getLogger("datasets").handlers is handlers, "and has its handlers again"


def test_a_folder_that_is_called_as_a_dataset_is_not_read_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library prefers owner/name below the current folder to the hub; here the hub cannot be reached."""
    write_parquet(tmp_path / "here/a/b", "train", TEXTS)
    monkeypatch.chdir(tmp_path / "here")
    assert len(list(datasets.load_dataset("a/b", split="train", streaming=True))) == len(TEXTS)
    with pytest.raises(Exception, match="a/b") as caught:
        open_builder(Place("a/b", None, COMMIT))
    assert "on the Hub" in str(caught.value)


def test_a_column_that_an_earlier_version_took_is_looked_at_again(tmp_path: Path) -> None:
    data = _copy(tmp_path / "some", {"train.jsonl": '{"url": "u", "text": null}\n' + _lines(TEXTS)})
    right = open_text(data)
    folder = right.folder
    sizes = _files(folder)

    def written_by_an_earlier_version(column: str) -> None:
        meta = json.loads((folder / "meta.json").read_bytes())
        del meta["left_out"]
        meta["origin"]["column"] = column
        (folder / "meta.json").write_text(json.dumps(meta))

    for fields in ({}, {"fingerprint": fingerprint(data)}):
        written_by_an_earlier_version("url")
        lines: list[str] = []
        corpus = open_text(data.model_copy(update=fields), progress=lines.append)
        assert [line for line in lines if line.startswith("preparing")] == [
            f"preparing {folder.name} again: an earlier version read the column url, which may not be the text"
        ]
        assert corpus.meta["origin"]["column"] == "text"
        assert _files(folder).keys() == sizes.keys()
    for column, fields in (("text", {}), ("url", {"column": "url", "fingerprint": fingerprint(data)})):
        written_by_an_earlier_version(column)
        lines = []
        assert "left_out" not in open_text(data.model_copy(update=fields), progress=lines.append).meta
        assert lines == []
        open_text(data)
        (folder / "meta.json").write_bytes(sizes["meta.json"])
