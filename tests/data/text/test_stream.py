"""Stream packing against queues that are simply read from front to back, as the Languini kitchen does."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reproduce.config import TextData
from reproduce.data import open_text
from reproduce.data.order import permutation
from reproduce.data.text.shards import TokenShards
from reproduce.data.text.stream import EVAL_ROWS, Queues, StreamCorpus, queue_of_each, write_held_out
from reproduce.errors import OfeError

END = 0


def _shards(documents: list[list[int]], shard: int = 3) -> TokenShards:
    """Documents in memory, `shard` of them together, each followed by END."""
    ended = [np.array([*document, END], np.uint16) for document in documents]
    arrays = [np.concatenate(ended[first : first + shard]) for first in range(0, len(ended), shard)]
    lengths = np.array([len(document) for document in ended], np.uint32)
    ends = np.cumsum(lengths, dtype=np.int64)
    firsts = np.cumsum([0, *map(len, arrays)])[:-1]
    return TokenShards(arrays, lengths, ends - lengths, firsts)


def _books(count: int, longest: int = 40) -> list[list[int]]:
    """Documents whose tokens tell which document they are of and where they stand in it."""
    draw = np.random.default_rng(count)
    sizes = draw.integers(1, longest, count).tolist()
    return [[1 + 100 * number + place for place in range(size)] for number, size in enumerate(sizes)]


def _simple_queues(documents: list[list[int]], rows: int) -> list[Iterator[int]]:
    """Each queue as an endless iterator: the shortest queue takes the next document, then all are read in circles."""
    queues: list[list[list[int]]] = [[] for _ in range(rows)]
    for document in documents:
        loads = [sum(len(one) for one in queue) for queue in queues]
        queues[loads.index(min(loads))].append(document)
    return [itertools.cycle([token for document in queue for token in [*document, END]]) for queue in queues]


@pytest.mark.parametrize(("count", "rows", "seq_len"), [(30, 4, 7), (9, 9, 5), (12, 1, 64), (50, 8, 1)])
def test_every_batch_is_that_of_queues_read_from_front_to_back(count: int, rows: int, seq_len: int) -> None:
    books = _books(count)
    queues = Queues(_shards(books), np.arange(count), rows)
    simple = _simple_queues(books, rows)
    for step in range(120):
        expected = [list(itertools.islice(queue, seq_len)) for queue in simple]
        got = [queues.read(row, step * seq_len, seq_len).tolist() for row in range(rows)]
        assert got == expected


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=40),
    data=st.data(),
)
def test_queues_share_out_every_document_once_and_evenly(sizes: list[int], data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, len(sizes)))
    books = [[1 + 100 * number] * size for number, size in enumerate(sizes)]
    queues = Queues(_shards(books), np.arange(len(sizes)), rows)
    read = [queues.read(row, 0, int(queues.lengths[row])) for row in range(rows)]
    assert sorted(np.concatenate(read).tolist()) == sorted(token for book in books for token in [*book, END])
    loads = np.bincount(queue_of_each(np.array(sizes), rows), sizes, minlength=rows)
    assert loads.max() - loads.min() <= max(sizes)


def test_later_documents_do_not_move_earlier_ones() -> None:
    books = _books(40)
    few, all_of_them = (Queues(_shards(books[:count]), np.arange(count), 5) for count in (25, 40))
    for row in range(5):
        shared = int(few.lengths[row])
        np.testing.assert_array_equal(few.read(row, 0, shared), all_of_them.read(row, 0, shared))


def test_held_out_documents_come_in_sixteen_queues_step_by_step(tmp_path: Path) -> None:
    books = _books(60)
    count = write_held_out(tmp_path / "eval.npy", _shards(books), np.dtype(np.uint16), 8)
    sequences = np.load(tmp_path / "eval.npy")
    queues = Queues(_shards(books), np.arange(60), EVAL_ROWS)
    shortest = int(queues.lengths.min()) // 8
    simple = _simple_queues(books, EVAL_ROWS)
    expected = [list(itertools.islice(queue, 8)) for _ in range(shortest) for queue in simple]
    assert shortest > 3
    assert sequences[: len(expected)].tolist() == expected
    assert count == sum(queues.lengths // 8) > len(expected), "the longer queues go on"
    assert sequences.dtype == np.uint16
    places = [token for token in sequences.flatten().tolist() if token != END]
    assert len(places) == len(set(places)), "nothing is evaluated on twice"


def test_fewer_held_out_documents_than_queues(tmp_path: Path) -> None:
    assert write_held_out(tmp_path / "eval.npy", _shards([[1] * 20, [2] * 33]), np.dtype(np.uint16), 8) == 6
    assert np.load(tmp_path / "eval.npy")[:, 0].tolist() == [1, 2, 1, 2, 2, 2]


# ---------------------------------------------------------------------------------------------------
# Prepared corpora


@pytest.fixture
def stream(folder_data: TextData) -> StreamCorpus:
    corpus = open_text(folder_data.model_copy(update={"packing": "stream"}))
    assert isinstance(corpus, StreamCorpus)
    return corpus


def _documents(corpus: StreamCorpus) -> list[list[int]]:
    return [document.tolist() for document in corpus._shards]


def test_a_row_continues_from_step_to_step(stream: StreamCorpus) -> None:
    """Row r of a batch size is one long text, whichever steps are asked for and in whichever order."""
    steps, rows, seq_len = 40, 4, stream.seq_len
    order = np.random.default_rng(0).permutation(steps)
    batches = {int(step): stream.batch(3, int(step), rows) for step in order}
    ordered = [_documents(stream)[number] for number in permutation(stream.train_documents, 3, 0)]
    simple = _simple_queues([document[:-1] for document in ordered], rows)
    for row in range(rows):
        text = np.concatenate([batches[step][row] for step in range(steps)]).tolist()
        assert text == list(itertools.islice(simple[row], steps * seq_len))
    assert batches[0].dtype == np.int64


def test_no_document_is_read_twice_before_its_queue_is_at_its_end(stream: StreamCorpus) -> None:
    rows = 3
    lengths = stream.queues(0, rows).lengths
    steps = int(lengths.min()) // stream.seq_len
    read = np.concatenate([stream.batch(0, step, rows) for step in range(steps)], axis=1)
    sizes = [len(document) for document in _documents(stream)]
    assert lengths.sum() == stream.train_tokens == sum(sizes)
    for row in read.tolist():
        whole = [list(piece) for is_end, piece in itertools.groupby(row, lambda token: token == END) if not is_end]
        complete = [tuple(piece) for piece in whole[:-1]]
        assert len(complete) == len(set(complete)) > 3


def test_seeds_give_other_orders_and_the_whole_text_each_time(stream: StreamCorpus) -> None:
    rows = 3
    read = []
    for seed in (0, 1):
        queues = stream.queues(seed, rows)
        read.append([queues.read(row, 0, int(queues.lengths[row])).tolist() for row in range(rows)])
    assert read[0] != read[1]
    first, second = (sorted(token for row in rows_read for token in row) for rows_read in read)
    assert first == second


def test_documents_of_a_stream_are_those_of_the_chunks(folder_data: TextData, stream: StreamCorpus) -> None:
    """The same documents, whole and with an end; the chunks are their exact parts."""
    seq_len = stream.seq_len
    chunks = [
        document[at : at + seq_len]
        for document in _documents(stream)
        for at in range(0, len(document) - 1 - seq_len + 1, seq_len)
    ]
    assert np.load(open_text(folder_data).folder / "train.npy").tolist() == chunks
    assert all(document[-1] == END and END not in document[:-1] for document in _documents(stream))


def test_evaluation_and_probe_take_disjoint_halves(stream: StreamCorpus) -> None:
    held_out = np.load(stream.folder / "eval.npy")
    half = stream.eval_sequences // 2
    np.testing.assert_array_equal(stream.eval_batch(0, 2), held_out[:2])
    np.testing.assert_array_equal(stream.probe_batch(2), held_out[half : half + 2])


def test_more_rows_than_documents_say_what_to_change(stream: StreamCorpus) -> None:
    with pytest.raises(OfeError, match=r"a batch of 999 rows that each read documents of their own") as caught:
        stream.batch(0, 0, 999)
    assert "data.packing=chunks" in str(caught.value.hint)


def test_meta_tells_what_a_stream_is(stream: StreamCorpus) -> None:
    meta = stream.meta
    assert (meta["packing"], meta["order"], meta["end_of_document"]) == ("stream", "permuted", 0)
    assert meta["tokens"]["train"] == stream.train_tokens
    assert set(meta["sha256"]) == {path.name for path in stream.folder.iterdir()} - {"meta.json"}
    assert stream.batches_per_epoch(4) == stream.train_tokens / (4 * stream.seq_len)


def test_packings_and_limits_are_different_data(folder_data: TextData, stream: StreamCorpus) -> None:
    limited = open_text(folder_data.model_copy(update={"packing": "stream", "train_tokens": 2_000}))
    assert isinstance(limited, StreamCorpus)
    assert 2_000 <= limited.train_tokens < stream.train_tokens
    assert len({limited.fingerprint, stream.fingerprint, open_text(folder_data).fingerprint}) == 3
    assert _documents(limited) == _documents(stream)[: limited.train_documents]


def test_prose_of_the_interpreter_streams(library: Path) -> None:
    data = TextData(source="python-prose", seq_len=16, vocab_size=300, packing="stream")
    corpus = open_text(data)
    assert isinstance(corpus, StreamCorpus)
    assert corpus.batch(0, 0, 4).shape == (4, 16)
