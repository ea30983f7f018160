"""`--set key=value`: single values laid over every run of an experiment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from reproduce.errors import SpecError
from reproduce.specs.fields import check_value, children, leaves, sections, takes_null, takes_text
from reproduce.specs.problems import nearest
from reproduce.specs.yaml import parse

_QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
"""A text that is quoted as a whole, as YAML quotes it."""

_NULLS = ("", "~", "null", "Null", "NULL")
"""The ways in which YAML writes that there is no value."""


def parse_overrides(items: Sequence[str]) -> dict[str, Any]:
    """The nested mapping that `items` spell, each of them `key=value`.

    A key is a dotted path (`model.width`), or the last name of a path where no other path ends in it (`lr`). Where two
    items set the same key, the later one wins.

    How a value is read depends on its field. Numbers, booleans, lists and mappings are read as YAML, as in a spec. A
    text, such as a path or the name of an optimiser, is taken exactly as typed, so that `#`, `:` and brackets are parts
    of it; only blanks around it are dropped. There are two exceptions for texts: one that is quoted as a whole is read
    as YAML reads it, which keeps its blanks, and where a field may have no value, an empty text, `null` and `~` mean
    that it has none.

    Raises:
        SpecError: a key is unknown or ambiguous, or a value is not what its field takes.
    """
    tree: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not equals:
            raise SpecError(f"--set {item} gives no value", hint="write --set key=value")
        path = _path(key.strip())
        value = _value(path, text)
        problem = next(check_value(path, value, (path,)), None)
        if problem is not None:
            raise SpecError(f"--set {path}: {problem.text}", hint=problem.hint)
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def _value(path: str, text: str) -> Any:
    typed = text.strip()
    if not takes_text(path) or _QUOTED.fullmatch(typed):
        return parse(text, f"--set {path}").data
    if typed in _NULLS and takes_null(path):
        return None
    return typed


def _path(key: str) -> str:
    """The whole path of the value that `key` names.

    Raises:
        SpecError: it names none, several, or a section of values.
    """
    if key in leaves():
        return key
    if key in sections():
        names = [f"{key}.{name}" for name in children(key)]
        raise SpecError(f"--set {key} holds several values", hint=f"set one of {', '.join(names)}")
    if key == "seed":
        raise SpecError("--set seed is not possible: seeds are counted from 0", hint="write --seeds N")
    found = [path for path in leaves() if path.endswith(f".{key}")]
    if len(found) == 1:
        return found[0]
    if found:
        raise SpecError(f"--set {key} could mean several values", hint=f"write one of {', '.join(found)}")
    close = nearest(key, [*leaves(), *(path.rpartition(".")[2] for path in leaves())])
    raise SpecError(
        f"--set {key} names no value of a run", hint=f"did you mean {close}?" if close else "see `ofe show`"
    )
