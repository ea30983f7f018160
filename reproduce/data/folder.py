"""Any folder of source or text files, with a tokeniser trained on it.

Read are the UTF-8 files below the folder that have one of `EXTENSIONS`, in the order of their relative paths,
without hidden files, hidden folders and folders of installed packages. A long file counts as several documents, so
that a folder with one book in it has something to hold out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reproduce.config import TextData
from reproduce.data.documents import LOCAL_RECIPE, LocalDocuments, Progress
from reproduce.data.files import digest, find_files, read_texts, user_folder
from reproduce.errors import OfeError

PROSE_EXTENSIONS = (".txt", ".md", ".rst", ".tex", ".org")
CODE_EXTENSIONS = (
    *(".py", ".pyi", ".pyx", ".c", ".h", ".cc", ".hh", ".cpp", ".hpp", ".cu", ".cuh", ".rs", ".go", ".swift", ".cs"),
    *(".java", ".kt", ".scala", ".js", ".jsx", ".ts", ".tsx", ".rb", ".lua", ".pl", ".sh", ".jl", ".r", ".hs", ".ml"),
    *(".el", ".lisp", ".sql"),
)
EXTENSIONS = frozenset(PROSE_EXTENSIONS + CODE_EXTENSIONS)
"""What is read: prose and code. Data (.json, .csv, .yaml, ...) and markup of pages (.html, .css) are not."""

PART_CHARACTERS = 20_000
"""Longest document; a longer file is cut at line ends."""

_SKIP_FOLDERS = {"__pycache__", "node_modules", "site-packages", "dist-packages"}


class Folder:
    """The text files of `data.path`.

    Raises:
        SpecError: the folder does not exist.
        OfeError: it holds no text to train on and to hold out.
    """

    def __init__(self, data: TextData) -> None:
        assert data.path is not None
        self.path = user_folder(data.path)
        self.files = find_files(self.path, EXTENSIONS, _SKIP_FOLDERS)
        if not self.files:
            shown = " ".join(PROSE_EXTENSIONS + CODE_EXTENSIONS[:5])
            raise OfeError(
                f"the folder {data.path} holds no text files", hint=f"files that are read end in {shown} ..."
            )

    def identity(self) -> Mapping[str, Any]:
        return {"source": "folder", "files": digest(self.files), "part": PART_CHARACTERS, "local": LOCAL_RECIPE}

    def open(self, *, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> LocalDocuments:
        progress(f"reading {len(self.files):,} files of {self.path}")
        documents = {
            f"{name}#{number}": part
            for name, text in read_texts(self.files).items()
            for number, part in enumerate(parts(text))
        }
        if len(documents) < 2:
            raise OfeError(
                f"the folder {self.path} holds too little text to train on some of it and hold out the rest",
                hint=f"give it two files in UTF-8, or one of more than {PART_CHARACTERS:,} characters",
            )
        return LocalDocuments(f"text files of {self.path.name}", documents)


def parts(text: str) -> Iterator[str]:
    """`text` cut at line ends into documents of at most `PART_CHARACTERS`, or of one longer line."""
    part: list[str] = []
    characters = 0
    for line in text.splitlines(keepends=True):
        if part and characters + len(line) > PART_CHARACTERS:
            yield "".join(part)
            part, characters = [], 0
        part.append(line)
        characters += len(line)
    if part:
        yield "".join(part)
