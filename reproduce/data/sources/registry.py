"""The registry of data sources: one entry here and one module each.

A source of text is a class that `TextData` builds and that satisfies `reproduce.data.text.documents.TextSource`; one of
images is built by `ImageData` and satisfies `reproduce.data.images.opening.ImageSource`. Its module is imported when
the source is used, so that listing sources costs nothing.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import Any, Literal

from reproduce.config import DataConfig
from reproduce.errors import SpecError

Kind = Literal["text", "images"]


@dataclass(frozen=True)
class SourceInfo:
    """What a source offers and what it asks for."""

    name: str
    kind: Kind
    description: str
    factory: str
    """`module:class` that builds the source from its configuration."""
    needs_network: bool = False
    """Whether preparing it without `data.path` downloads something."""
    needs_path: bool = False
    """Whether `data.path` must be given."""
    takes_path: bool = False
    """Whether `data.path` may be given."""
    reads_files: bool = False
    """Whether each image is a file of its own size, which `data.augment.crop` may cut a part of."""
    path_means: str = "a folder of text"
    """What `data.path` must be, after the words `set data.path to`; read only where it is needed."""
    hub_fields: tuple[str, ...] = ()
    """Which of `data.dataset`, `data.subset` and `data.column` it reads."""
    substitute: str = ""
    """The source that may stand in for it where its data cannot be had."""


def _registry(*sources: SourceInfo) -> dict[str, SourceInfo]:
    return {source.name: source for source in sources}


SOURCES: dict[str, SourceInfo] = _registry(
    SourceInfo(
        name="python-stdlib",
        kind="text",
        description="Python code: the standard library of the running interpreter",
        factory="reproduce.data.sources.python_library:LibraryCode",
    ),
    SourceInfo(
        name="python-packages",
        kind="text",
        description="Python code: the packages that are installed beside ofe, ten times the standard library",
        factory="reproduce.data.sources.python_packages:PackageCode",
    ),
    SourceInfo(
        name="python-prose",
        kind="text",
        description="English prose: Python's documentation topics and the docstrings of its standard library",
        factory="reproduce.data.sources.python_library:LibraryProse",
    ),
    SourceInfo(
        name="folder",
        kind="text",
        description="the source and text files of a folder of yours, with a tokeniser trained on them",
        factory="reproduce.data.sources.folder:Folder",
        needs_path=True,
        takes_path=True,
    ),
    SourceInfo(
        name="codeparrot",
        kind="text",
        description="Python code from GitHub: huggingface-course/codeparrot-ds, part of transformersbook/codeparrot",
        factory="reproduce.data.sources.codeparrot:CodeParrot",
        needs_network=True,
        takes_path=True,
    ),
    SourceInfo(
        name="languini-books",
        kind="text",
        description="Languini Books, the paper's books, as the Languini kitchen tokenises them; no longer to be had",
        factory="reproduce.data.sources.languini:LanguiniBooks",
        needs_path=True,
        takes_path=True,
        path_means="a copy of Languini Books, a part of books3 that can no longer be had",
        substitute="public-domain-books",
    ),
    SourceInfo(
        name="public-domain-books",
        kind="text",
        description="English books of Project Gutenberg: common-pile/project_gutenberg_filtered",
        factory="reproduce.data.sources.hub_text:PublicDomainBooks",
        needs_network=True,
        takes_path=True,
        hub_fields=("column",),
    ),
    SourceInfo(
        name="fineweb-edu",
        kind="text",
        description="web text: HuggingFaceFW/fineweb-edu, sample-10BT or another data.subset",
        factory="reproduce.data.sources.hub_text:FineWebEdu",
        needs_network=True,
        takes_path=True,
        hub_fields=("subset", "column"),
    ),
    SourceInfo(
        name="books-and-wikipedia",
        kind="text",
        description="books and encyclopedia: bookcorpus/bookcorpus, and google/wiki40b in English",
        factory="reproduce.data.sources.books_and_wikipedia:BooksAndWikipedia",
        needs_network=True,
    ),
    SourceInfo(
        name="hub",
        kind="text",
        description="any dataset of text on the Hugging Face hub: data.dataset=owner/name, data.subset if it has some",
        factory="reproduce.data.sources.hub_text:Hub",
        needs_network=True,
        takes_path=True,
        hub_fields=("dataset", "subset", "column"),
    ),
    SourceInfo(
        name="photo-patches",
        kind="images",
        description="patches of the two photographs that scikit-learn ships, in ten classes, of CIFAR-10's shape",
        factory="reproduce.data.sources.photo_patches:PhotoPatches",
    ),
    SourceInfo(
        name="cifar10",
        kind="images",
        description="CIFAR-10: uoft-cs/cifar10, or cifar-10-python.tar.gz in data.path",
        factory="reproduce.data.sources.cifar10:Cifar10",
        needs_network=True,
        takes_path=True,
    ),
    SourceInfo(
        name="imagenet-1k",
        kind="images",
        description="ImageNet-1K: ILSVRC/imagenet-1k, or a folder with train/<class> and val/<class> in data.path",
        factory="reproduce.data.sources.imagenet:ImageNet",
        needs_network=True,
        takes_path=True,
        reads_files=True,
    ),
)


def find_source(name: str, kind: Kind) -> SourceInfo:
    """The registered source `name`.

    Raises:
        SpecError: no source of that kind has that name.
    """
    names = [source.name for source in SOURCES.values() if source.kind == kind]
    if name in names:
        return SOURCES[name]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}" if near else f"choose one of {', '.join(names)}"
    raise SpecError(f"no source of {kind} is called {name!r}", hint=hint)


def make_source(info: SourceInfo, data: DataConfig) -> Any:
    """The source of `info` as `data` configures it; nothing is read yet.

    Raises:
        SpecError: it needs a path and is given none, or is given one that it does not read.
        OfeError: what it reads is not there.
    """
    if info.needs_path and data.path is None:
        hint = f"set data.path to {info.path_means}"
        if info.substitute:
            hint += f", or train on a substitute with data.source={info.substitute}"
        raise SpecError(f"the source {info.name} needs data.path", hint=hint)
    if data.path is not None and not info.takes_path:
        raise SpecError(f"the source {info.name} reads no path", hint="drop data.path, or name another data.source")
    module, _, name = info.factory.partition(":")
    return getattr(importlib.import_module(module), name)(data)
