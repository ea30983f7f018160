"""`--set key=value`: single values laid over every run of an experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reproduce.errors import SpecError
from reproduce.specs.fields import check_value, children, leaves, sections
from reproduce.specs.problems import nearest
from reproduce.specs.yaml import parse


def parse_overrides(items: Sequence[str]) -> dict[str, Any]:
    """The nested mapping that `items` spell, each `key=value`.

    A key is a dotted path (`model.width`) or a last name that no other path has (`lr`); a value is written as in
    a spec. Of two items for one key the later wins.

    Raises:
        SpecError: if a key is unknown or ambiguous, or a value is not what its field takes.
    """
    tree: dict[str, Any] = {}
    for item in items:
        key, equals, text = item.partition("=")
        if not equals:
            raise SpecError(f"--set {item} gives no value", hint="write --set key=value")
        path = _path(key.strip())
        value = parse(text, f"--set {key}").data
        problem = next(check_value(path, value, (path,)), None)
        if problem is not None:
            raise SpecError(f"--set {path}: {problem.text}", hint=problem.hint)
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def _path(key: str) -> str:
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
