from __future__ import annotations

import numpy as np
import pytest

from reproduce.config import TextData
from reproduce.data import TextCorpus, open_text
from reproduce.data.order import permutation
from reproduce.errors import OfeError


@pytest.fixture
def corpus(folder_data: TextData) -> TextCorpus:
    return open_text(folder_data)


def _rows(batch: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(row) for row in batch.tolist()]


def test_a_batch_is_a_function_of_seed_and_step(corpus: TextCorpus, folder_data: TextData) -> None:
    forwards = [corpus.batch(3, step, 7) for step in range(60)]
    permutation.cache_clear()
    again = open_text(folder_data)
    for step in reversed(range(60)):
        np.testing.assert_array_equal(again.batch(3, step, 7), forwards[step])
    assert not np.array_equal(corpus.batch(4, 0, 7), forwards[0])
    assert forwards[0].shape == (7, folder_data.seq_len)
    assert forwards[0].dtype == np.int64


def test_every_sequence_comes_once_an_epoch_in_another_order(corpus: TextCorpus) -> None:
    count, batch_size = corpus.train_sequences, 10
    assert count % batch_size, "batches must straddle the epochs here"
    steps = -(-2 * count // batch_size)
    served = [row for step in range(steps) for row in _rows(corpus.batch(0, step, batch_size))]
    everything = sorted(_rows(np.load(corpus.folder / "train.npy")))
    assert sorted(served[:count]) == everything
    assert sorted(served[count : 2 * count]) == everything
    assert served[:count] != served[count : 2 * count]


def test_an_epoch_is_counted_in_steps(corpus: TextCorpus) -> None:
    assert corpus.batches_per_epoch(8) == corpus.train_sequences / 8


def test_evaluation_and_probe_take_fixed_and_disjoint_halves(corpus: TextCorpus) -> None:
    held_out = _rows(np.load(corpus.folder / "eval.npy"))
    half = corpus.eval_sequences // 2
    evaluation = [row for index in range(half // 4) for row in _rows(corpus.eval_batch(index, 4))]
    probe = _rows(corpus.probe_batch(corpus.eval_sequences - half))
    assert evaluation == held_out[: len(evaluation)]
    assert probe == held_out[half:]
    assert len(evaluation) > half - 4
    assert corpus.probe_batch(2).dtype == corpus.eval_batch(0, 2).dtype == np.int64


def test_too_large_a_batch_says_what_to_change(corpus: TextCorpus) -> None:
    with pytest.raises(
        OfeError, match=r"a batch of 9,999 sequences is more than the [\d,]+ training sequences"
    ) as train:
        corpus.batch(0, 0, 9_999)
    with pytest.raises(OfeError, match=r"a probe batch of 9,999 sequences is more than the \d+ held out") as probe:
        corpus.probe_batch(9_999)
    half = corpus.eval_sequences // 2
    with pytest.raises(
        OfeError, match=rf"2 evaluation batches of {half} need {2 * half} sequences of {half}"
    ) as evaluation:
        corpus.eval_batch(1, half)
    assert "batch_size" in str(train.value.hint)
    assert "probe.batch_size" in str(probe.value.hint)
    assert "eval.batches" in str(evaluation.value.hint)


def test_what_the_corpus_says_of_itself(corpus: TextCorpus, folder_data: TextData) -> None:
    assert corpus.description == "text files of texts"
    assert corpus.seq_len == folder_data.seq_len
    assert corpus.vocab_size == 300
    assert corpus.folder.name == f"folder-{corpus.fingerprint}"
    assert int(np.load(corpus.folder / "train.npy").max()) < corpus.vocab_size


@pytest.mark.parametrize("name", ["train.npy", "eval.npy", "tokenizer.json", "meta.json"])
def test_damage_is_found_and_its_repair_named(corpus: TextCorpus, folder_data: TextData, name: str) -> None:
    path = corpus.folder / name
    content = path.read_bytes()
    for damaged in (content[:-20], content[:30] + b"\0" + content[31:]):
        assert damaged != content
        path.write_bytes(damaged)
        with pytest.raises(OfeError, match=f"prepared data is damaged: .*{name} is not what was written") as caught:
            open_text(folder_data)
        assert caught.value.hint == f"delete {corpus.folder}: the data is prepared again when it is needed"
    path.unlink()
    with pytest.raises(OfeError, match=f"prepared data is damaged: .*{name} is missing"):
        open_text(folder_data)
