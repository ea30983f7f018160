"""BookCorpus and Wikipedia, from copies of small datasets: order, held-out articles, going on from a bookmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from reproduce.config import TextData
from reproduce.data.sources import books_and_wikipedia
from reproduce.data.sources.books_and_wikipedia import BooksAndWikipedia, BothDocuments
from reproduce.data.sources.hub_text import Hub
from tests.data.sources.test_hub_text import write_parquet

BOOKS = [f"sentence {number} of a book" for number in range(7)]
ARTICLES = [f"article {number} with words" for number in range(5)]
HELD_OUT = ["a held-out article", "another one"]


@pytest.fixture
def both(tmp_path: Path) -> BothDocuments:
    write_parquet(tmp_path / "books", "train", BOOKS)
    write_parquet(tmp_path / "wikipedia", "train", ARTICLES)
    write_parquet(tmp_path / "wikipedia", "validation", HELD_OUT)
    return opened(tmp_path)


def opened(folder: Path) -> BothDocuments:
    parts = []
    for name in ("books", "wikipedia"):
        data = TextData(source="hub", path=str(folder / name), seq_len=8, vocab_size=300)
        parts.append(Hub(data).open(pinned=None, offline=True, progress=lambda line: None))
    return BothDocuments(*parts)


def test_books_come_first_and_articles_are_held_out(both: BothDocuments) -> None:
    assert list(both.read("train", 0)) == BOOKS + ARTICLES
    assert list(both.read("eval", 0)) == HELD_OUT
    assert set(both.origin) == {"books", "wikipedia"}
    assert "books" in both.description
    assert "wikipedia" in both.description


@pytest.mark.parametrize("count", [3, 7, 9])
def test_reading_goes_on_where_it_stopped(both: BothDocuments, count: int, tmp_path: Path) -> None:
    """In the books, at their end, and among the articles; by a process that has read nothing yet."""
    reading = both.read("train", 0)
    assert [next(reading) for _ in range(count)] == (BOOKS + ARTICLES)[:count]
    again = opened(tmp_path)
    assert list(again.read("train", count, both.bookmark("train"))) == (BOOKS + ARTICLES)[count:]


def test_the_tokeniser_reads_both(both: BothDocuments, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[object] = []
    tokeniser = both.tokeniser(300, lines.append)
    for word in ("boo", "artic"):
        assert any(word in token for token in tokeniser.get_vocab())
    monkeypatch.setattr(books_and_wikipedia, "TOKENISER_CHARACTERS", 60)
    sample = list(both._sample(lines.append))
    assert sample == BOOKS[:2] + ARTICLES[:2], "thirty characters of each, and the document that reaches them"


def test_the_identity_names_both_datasets() -> None:
    data = TextData(source="books-and-wikipedia", seq_len=512, vocab_size=50272)
    assert BooksAndWikipedia(data).identity()["datasets"] == [
        ["bookcorpus/bookcorpus", "refs/convert/parquet", None],
        ["google/wiki40b", "main", "en"],
    ]
