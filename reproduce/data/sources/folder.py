"""Any folder of source or text files, with a tokeniser trained on it.

Read are the UTF-8 files below the folder that have one of `EXTENSIONS`, in the order of their relative paths,
without hidden files, hidden folders and folders of installed packages. A long file counts as several documents, so
that a folder with one book in it has something to hold out.

Nothing but the names and lengths of documents stays in memory: files are read line by line, once to find the documents,
once to train the tokeniser, and once or twice to tokenise them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.config import TextData
from reproduce.data.files import any_long_line, digest, find_files, not_read, read_lines, user_folder
from reproduce.data.progress import LeftOut, Progress, Step, printable
from reproduce.data.text.documents import SPLITS, Bookmark, Split
from reproduce.data.text.local import LOCAL_RECIPE, hold_out
from reproduce.errors import OfeError
from reproduce.units import count

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PROSE_EXTENSIONS = (".txt", ".md", ".rst", ".tex", ".org")
CODE_EXTENSIONS = (
    *(".py", ".pyi", ".pyx", ".c", ".h", ".cc", ".hh", ".cpp", ".hpp", ".cu", ".cuh", ".rs", ".go", ".swift", ".cs"),
    *(".java", ".kt", ".scala", ".js", ".jsx", ".ts", ".tsx", ".rb", ".lua", ".pl", ".sh", ".jl", ".r", ".hs", ".ml"),
    *(".el", ".lisp", ".sql"),
)
EXTENSIONS = frozenset(PROSE_EXTENSIONS + CODE_EXTENSIONS)
"""What is read: prose and code. Data (.json, .csv, .yaml, ...) and markup of pages (.html, .css) are not."""

PART_CHARACTERS = 20_000
"""Longest document; a longer file is cut at line ends, and a longer line after so many characters."""

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
        self.found = find_files(self.path, EXTENSIONS, _SKIP_FOLDERS)
        self.files = self.found.files
        if not self.files:
            shown = " ".join(PROSE_EXTENSIONS + CODE_EXTENSIONS[:5])
            seen = "".join(f"; {one}" for one in self.found.left_out)
            raise OfeError(
                f"the folder {data.path} holds no text files{seen}", hint=f"files that are read end in {shown} ..."
            )

    def identity(self) -> Mapping[str, Any]:
        same = {"source": "folder", "files": digest(self.files), "part": PART_CHARACTERS, "local": LOCAL_RECIPE}
        # Folders without such lines keep the identity that they had before lines were cut.
        return same | ({"long_lines": "cut"} if any_long_line(self.files, PART_CHARACTERS) else {})

    def open(self, *, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> FolderDocuments:
        progress(f"reading {count(len(self.files), 'file')} of {self.path}")
        lengths: dict[str, dict[int, int]] = {}
        undecodable, blank = [], []
        for number, (name, path) in enumerate(self.files.items(), start=1):
            lines = read_lines(path, PART_CHARACTERS)
            try:
                found = {place: (len(part), not part.isspace()) for place, part in enumerate(parts(lines))}
            except UnicodeDecodeError:
                undecodable.append(name)
                continue
            if any(text for _, text in found.values()):
                lengths[name] = {place: length for place, (length, _) in found.items()}
            else:
                blank.append(name)
            progress(Step(f"reading {self.path}", number, len(self.files)))
        left = not_read(len(self.files), undecodable, blank)
        if sum(map(len, lengths.values())) < 2:
            hint = f"give it two files in UTF-8, or one of more than {PART_CHARACTERS:,} characters"
            if undecodable:
                hint = f"turn them into UTF-8, such as with iconv -f latin1 -t utf-8, or {hint}"
            raise OfeError(
                f"the folder {self.path} holds too little text to train on some of it and hold out the rest"
                + "".join(f"; {one}" for one in left),
                hint=hint,
            )
        left = [*self.found.left_out, *left]
        return FolderDocuments(f"text files of {printable(self.path.name)}", self.files, lengths, left)


class FolderDocuments:
    """Parts of text files, read when they are wanted.

    Args:
        description: one line for badges.
        files: the files by name.
        lengths: characters of every part of each file that is text.
        left_out: what of the folder is not read.
    """

    origin: Mapping[str, Any] = {}

    def __init__(
        self,
        description: str,
        files: Mapping[str, Path],
        lengths: Mapping[str, Mapping[int, int]],
        left_out: Sequence[LeftOut],
    ) -> None:
        self.description, self.left_out = description, left_out
        self._files = files
        held_out = hold_out(
            {f"{name}#{place}": length for name, found in lengths.items() for place, length in found.items()}
        )
        self._places: dict[Split, dict[str, list[int]]] = {
            split: {
                name: [place for place in found if (f"{name}#{place}" in held_out) == (split == "eval")]
                for name, found in lengths.items()
            }
            for split in SPLITS
        }

    def count(self, split: Split) -> int:
        return sum(map(len, self._places[split].values()))

    def read(self, split: Split, start: int, bookmark: Bookmark = None) -> Iterator[str]:
        for name, places in self._places[split].items():
            wanted = places[start:]
            start = max(0, start - len(places))
            if wanted:
                chosen = set(wanted)
                for place, part in enumerate(parts(read_lines(self._files[name], PART_CHARACTERS))):
                    if place in chosen:
                        yield part

    def bookmark(self, split: Split) -> None:
        return None

    def tokeniser(self, vocab_size: int, progress: Progress) -> Tokenizer:
        from reproduce.data.text.tokeniser import train_bpe

        progress(f"training a tokeniser of {vocab_size:,} tokens on {self.count('train'):,} documents")
        return train_bpe(self.read("train", 0), vocab_size)


def parts(lines: Iterable[str]) -> Iterator[str]:
    """Lines put together to documents of at most `PART_CHARACTERS`; no line is longer."""
    part: list[str] = []
    characters = 0
    for line in lines:
        if part and characters + len(line) > PART_CHARACTERS:
            yield "".join(part)
            part, characters = [], 0
        part.append(line)
        characters += len(line)
    if part:
        yield "".join(part)
