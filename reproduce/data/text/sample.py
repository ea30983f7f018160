"""A sample of text for measuring a model in the model's own tokens: which documents it has, and its identity.

    sample = identified(TextSample(source="folder", path="docs"))
    for documents in open_sample(sample):       one list for each kind of text, which the caller takes in turn
        ...

Of a registered source the held-out documents are read, which our own runs were not trained on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reproduce.config import TextData
from reproduce.data.files import digest, find_files, read_lines
from reproduce.data.prepared import hash_identity
from reproduce.data.sources.folder import EXTENSIONS, PART_CHARACTERS
from reproduce.data.text.documents import TextSource, TokenDocuments
from reproduce.data.text.opening import text_source
from reproduce.errors import OfeError
from reproduce.job_config import TextSample
from reproduce.store.atomic import file_hash

SAMPLE_VERSION = 1
"""Raised whenever the same text would become other sequences."""
EMBEDDED = ("python-prose", "python-stdlib")
"""The sources of prose-and-code, in the order in which their sequences alternate."""
OWN = ("file", "folder", "ids")
"""Sources that read what the user names, and no registered source."""
_FOLDERS = {"__pycache__", "node_modules", "site-packages", "dist-packages"}


def identified(sample: TextSample) -> TextSample:
    """`sample` with the hash of its text.

    Raises:
        OfeError: the text is not there, or there is no such source.
    """
    identity: dict[str, Any] = {"version": SAMPLE_VERSION}
    if sample.source in ("file", "ids"):
        identity["file"] = file_hash(_file(sample))
    elif sample.source == "folder":
        identity["files"] = digest(_files(sample))
    else:
        identity["sources"] = [source.identity() for source in _sources(sample)]
    return sample.model_copy(update={"fingerprint": hash_identity(identity)})


def open_sample(sample: TextSample, *, offline: bool = False) -> list[Iterator[str]]:
    """The documents of each kind of text in the sample, in the same order every time.

    Raises:
        OfeError: the text is not there, is another one than the sample's, or cannot be read.
    """
    found = identified(sample).fingerprint
    if sample.fingerprint not in ("", found):
        raise OfeError(
            f"the text has changed since this measurement was asked for ({found}, not {sample.fingerprint})",
            hint="ask for it again: `ofe measure`",
        )
    if sample.source == "file":
        return [iter([_text(_file(sample))])]
    if sample.source == "folder":
        return [_texts(_files(sample))]
    return [_held_out(source, offline=offline) for source in _sources(sample)]


def _sources(sample: TextSample) -> list[TextSource]:
    names = EMBEDDED if sample.source == "prose-and-code" else (sample.source,)
    # The length and the size of the vocabulary are those of the model that is measured, and no source asks for them.
    common = {"seq_len": sample.seq_len, "vocab_size": 2**16, "dataset": sample.dataset, "path": sample.path}
    return [text_source(TextData.model_validate({"source": name, **common})) for name in names]


def _held_out(source: TextSource, *, offline: bool) -> Iterator[str]:
    opened = source.open(pinned=None, offline=offline, progress=lambda line: None)
    if isinstance(opened, TokenDocuments):
        raise OfeError(
            "the documents of this source are tokens of its own tokeniser, and not text",
            hint="name another source with --dataset, or a file with --text",
            exit_code=2,
        )
    return opened.read("eval", 0)


def _file(sample: TextSample) -> Path:
    path = Path(str(sample.path))
    if not path.is_file():
        raise OfeError(f"{path} is no file", hint="name a file or a folder of text", exit_code=2)
    return path


def _files(sample: TextSample) -> dict[str, Path]:
    path = Path(str(sample.path))
    files = find_files(path, EXTENSIONS, _FOLDERS).files if path.is_dir() else {}
    if not files:
        shown = " ".join(sorted(EXTENSIONS)[:5])
        raise OfeError(
            f"the folder {path} holds no text files", hint=f"files that are read end in {shown} ...", exit_code=2
        )
    return files


def _texts(files: dict[str, Path]) -> Iterator[str]:
    for path in files.values():
        yield _text(path)


def _text(path: Path) -> str:
    try:
        return "".join(read_lines(path, PART_CHARACTERS))
    except UnicodeDecodeError as error:
        raise OfeError(f"{path} is not text in UTF-8", hint="name a text file", exit_code=2) from error
