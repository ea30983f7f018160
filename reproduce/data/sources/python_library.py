"""Text that every Python carries: the source code of its standard library, and the prose in it.

Both are the running interpreter's own, so they differ a little between Python releases, and with them the
fingerprint. Files that differ between two builds of the same release are left out.
"""

from __future__ import annotations

import ast
import platform
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from reproduce.config import TextData
from reproduce.data.files import digest, find_files, read_texts
from reproduce.data.progress import Progress, left_out
from reproduce.data.text.local import LOCAL_RECIPE, LocalDocuments
from reproduce.errors import OfeError

TOPICS = "pydoc_data/topics.py"
"""The documentation topics behind `help()`: prose, kept as one dictionary literal."""

_SKIP_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


def library_folder() -> Path:
    """Where the running interpreter keeps its standard library."""
    return Path(sysconfig.get_path("stdlib"))


def library_files() -> dict[str, Path]:
    """Modules of the standard library without its tests and without what its build wrote, by relative path.

    Raises:
        OfeError: the interpreter came without sources.
    """
    return dict(_library_files(library_folder()))


@cache
def _library_files(folder: Path) -> dict[str, Path]:
    """The same of any folder. Nothing installs a module while a command runs, and many runs read the same library."""
    found = find_files(folder, {".py"}, _SKIP_FOLDERS).files if folder.is_dir() else {}
    files = {name: path for name, path in found.items() if not _is_test(name) and not _is_of_the_build(name)}
    if len(files) < 2:
        raise OfeError(
            f"this Python has no library sources in {folder}",
            hint="use a Python with its standard library, or set data.source=folder and data.path",
        )
    return files


def _is_test(name: str) -> bool:
    return name.rpartition("/")[2].startswith("test_")


def _is_of_the_build(name: str) -> bool:
    """Compiler flags, paths and a site's own start-up code: they would make the fingerprint that of one machine."""
    return name.startswith(("config-", "_sysconfigdata", "sitecustomize", "usercustomize"))


class LibraryCode:
    """Every module a document, without the documentation topics."""

    def __init__(self, data: TextData) -> None:
        self.files = {name: path for name, path in library_files().items() if name != TOPICS}

    def identity(self) -> Mapping[str, Any]:
        return {"source": "python-stdlib", "files": digest(self.files), "local": LOCAL_RECIPE}

    def open(self, *, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> LocalDocuments:
        progress("reading the standard library")
        return LocalDocuments(f"Python {platform.python_version()} standard library", *read_texts(self.files))


class LibraryProse:
    """Every documentation topic a document, and the docstrings of every module, each text once."""

    def __init__(self, data: TextData) -> None:
        self.files = library_files()

    def identity(self) -> Mapping[str, Any]:
        return {"source": "python-prose", "files": digest(self.files), "extraction": 1, "local": LOCAL_RECIPE}

    def open(self, *, pinned: Mapping[str, Any] | None, offline: bool, progress: Progress) -> LocalDocuments:
        progress("reading the docstrings of the standard library")
        modules, left = read_texts(self.files)
        unparsed = []
        texts = topics(modules.pop(TOPICS)) if TOPICS in modules else {}
        seen: set[str] = set()
        for name, source in modules.items():
            try:
                fresh = [text for text in dict.fromkeys(docstrings(source)) if text not in seen]
            except SyntaxError:
                unparsed.append(name)
                continue
            seen.update(fresh)
            if fresh:
                texts[name] = "\n\n".join(fresh) + "\n"
        description = f"documentation topics and docstrings of Python {platform.python_version()}"
        return LocalDocuments(description, texts, left + left_out("files", len(self.files), {"not Python": unparsed}))


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():  # the library holds invalid escapes that the parser warns about
        warnings.simplefilter("ignore")
        return ast.parse(source)


def topics(source: str) -> dict[str, str]:
    """The documentation topics in the source of `pydoc_data.topics`, read without importing it."""
    for node in _parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            return {f"{TOPICS}/{topic}": text for topic, text in sorted(ast.literal_eval(node.value).items())}
    return {}


def docstrings(source: str) -> Iterator[str]:
    """Docstrings of a module, its classes and its functions, in the order of the source.

    Raises:
        SyntaxError: the source is not Python.
    """
    yield from _docstrings_of(_parse(source))


def _docstrings_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
        text := ast.get_docstring(node)
    ):
        yield text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler):
            yield from _docstrings_of(child)
