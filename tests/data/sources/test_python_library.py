from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from reproduce.config import TextData
from reproduce.data import fingerprint, open_text
from reproduce.data.sources import python_library
from reproduce.data.sources.python_library import LibraryProse, docstrings, library_files, topics
from reproduce.errors import OfeError


def _data(source: str, **fields: int) -> TextData:
    return TextData.model_validate({"source": source, "seq_len": 16, "vocab_size": 300, **fields})


def test_tests_and_files_of_the_build_are_left_out(library: Path) -> None:
    names = list(library_files())
    assert names[:2] == ["latin.py", "module_01.py"]
    assert len(names) == 32
    assert not any("test" in name or "sysconfig" in name or "site" in name for name in names)


def test_files_of_the_build_do_not_change_the_fingerprint(library: Path) -> None:
    first = fingerprint(_data("python-stdlib"))
    (library / "_sysconfigdata_x.py").write_text("compiler = 'another'")
    assert fingerprint(_data("python-stdlib")) == first
    (library / "module_01.py").write_text("changed = 1")
    assert fingerprint(_data("python-stdlib")) != first


def test_code_and_prose_are_different_texts(library: Path) -> None:
    code, prose = open_text(_data("python-stdlib")), open_text(_data("python-prose"))
    version = ".".join(map(str, sys.version_info[:3]))
    assert code.description == f"Python {version} standard library, without 1 of 31 files (not UTF-8)"
    lost = "without 1 of 32 files (not UTF-8)"
    assert prose.description == f"documentation topics and docstrings of Python {version}, {lost}"
    assert code.meta["documents"]["train"] + code.meta["documents"]["eval"] == 30
    assert code.fingerprint != prose.fingerprint


def test_prose_takes_every_docstring_once(library: Path) -> None:
    documents = LibraryProse(_data("python-prose")).open(pinned=None, offline=False, progress=lambda line: None)
    texts = [text for split in ("train", "eval") for text in documents.read(split, 0)]
    assert sum("Shared words." in text for text in texts) == 1
    assert sum("It explains itself" in text for text in texts) == 30
    assert "The with statement\n" in texts


def test_docstrings_come_in_the_order_of_the_source() -> None:
    source = '''
"""Module."""
class A:
    """Class."""
    def f(self):
        """Method."""
        def inner():
            """Inner."""
try:
    def g():
        """Tried."""
except ImportError:
    async def g():
        """Otherwise."""
'''
    assert list(docstrings(source)) == ["Module.", "Class.", "Method.", "Inner.", "Tried.", "Otherwise."]


def test_what_does_not_parse_has_no_docstrings_and_an_invalid_escape_does_not_warn() -> None:
    with pytest.raises(SyntaxError):
        list(docstrings("print 'Python 2'"))
    assert list(docstrings('"""A \\d."""')) == ["A \\d."]


def test_topics_are_read_without_running_the_module() -> None:
    source = "raise SystemExit\ntopics = {'b': 'B ' 'text', 'a': r'''A\n'''}"
    assert topics(source) == {"pydoc_data/topics.py/a": "A\n", "pydoc_data/topics.py/b": "B text"}
    assert topics("nothing = 1") == {}


def test_a_python_without_sources_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_library, "library_folder", lambda: tmp_path / "python.zip")
    with pytest.raises(OfeError, match=r"this Python has no library sources in .*python\.zip") as caught:
        fingerprint(_data("python-stdlib"))
    assert "data.source=folder" in str(caught.value.hint)


def test_the_real_library_is_enough_for_a_laptop_run() -> None:
    corpus = open_text(_data("python-stdlib", vocab_size=512, seq_len=128))
    assert corpus.vocab_size == 512
    assert corpus.train_sequences > 20_000
    assert corpus.eval_sequences > 1_000
    tokenizer = Tokenizer.from_file(str(corpus.folder / "tokenizer.json"))
    assert "self." in tokenizer.decode(corpus.probe_batch(32).flatten().tolist())


def test_the_real_prose_is_english() -> None:
    documents = LibraryProse(_data("python-prose")).open(pinned=None, offline=False, progress=lambda line: None)
    texts = [text for split in ("train", "eval") for text in documents.read(split, 0)]
    assert sum(map(len, texts)) > 1_500_000
    assert sum(text.count(" the ") for text in texts) > 10_000
