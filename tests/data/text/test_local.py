from __future__ import annotations

from reproduce.data.text.local import HELD_OUT_CHARACTERS, LocalDocuments, hold_out


def _lengths(count: int, characters: int) -> dict[str, int]:
    return {f"document {number}": characters for number in range(count)}


def test_a_long_text_holds_out_five_in_a_hundred() -> None:
    assert len(hold_out(_lengths(1000, 10_000))) == 50


def test_a_short_text_holds_out_enough_to_evaluate_on() -> None:
    assert len(hold_out(_lengths(200, 10_000))) == HELD_OUT_CHARACTERS // 10_000
    assert len(hold_out(_lengths(10, 100))) == 2


def test_two_documents_are_one_to_train_on_and_one_held_out() -> None:
    assert len(hold_out({"a": 1, "b": 1000})) == 1


def test_the_choice_does_not_depend_on_the_order() -> None:
    lengths = _lengths(300, 10_000)
    assert hold_out(lengths) == hold_out(dict(reversed(lengths.items())))


def test_a_new_document_moves_none_but_those_at_the_boundary() -> None:
    lengths = _lengths(1000, 10_000)
    before = hold_out(lengths)
    after = hold_out({**lengths, "another": 10_000})
    assert len(before ^ after) <= 2


def test_splits_are_disjoint_complete_and_can_be_read_from_anywhere() -> None:
    texts = {f"{number:03}": f"text {number}" for number in range(100)}
    documents = LocalDocuments("some", texts)
    train, held_out = list(documents.read("train", 0)), list(documents.read("eval", 0))
    assert sorted(train + held_out) == sorted(texts.values())
    assert (documents.count("train"), documents.count("eval")) == (len(train), len(held_out))
    assert train == [text for text in texts.values() if text in set(train)]
    assert list(documents.read("train", 30)) == train[30:]


def test_the_tokeniser_is_trained_on_the_training_documents_alone() -> None:
    texts = {f"{number:03}": "abab" * 20 for number in range(50)}
    held_out = sorted(hold_out({name: len(text) for name, text in texts.items()}))
    texts |= dict.fromkeys(held_out, "qzqz" * 20)
    lines: list[str] = []
    vocabulary = LocalDocuments("some", texts).tokeniser(300, lines.append).get_vocab()
    assert "abab" in vocabulary
    assert "qz" not in vocabulary
    assert lines == [f"training a tokeniser of 300 tokens on {50 - len(held_out)} documents"]
