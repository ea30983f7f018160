"""YAML that remembers where it says what.

Scalars follow the core schema of YAML 1.2 rather than the 1.1 of PyYAML: `1e-3` is a number and `on` is a
string. A key given twice is an error, keys are strings whatever they look like, and anchors work. Merge keys
(`<<`) left the language with 1.2 and are not supported. The parser is libyaml's: a file of 10 KB takes about 3 ms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from reproduce.errors import SpecError

Path = tuple[str | int, ...]
"""Where a value stands: keys and list indices from the root."""

_TAG = "tag:yaml.org,2002:"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Characters that a terminal obeys. A title is printed, and a spec may come from elsewhere."""


class _CoreLoader(yaml.CSafeLoader):
    """libyaml's parser with the implicit types of YAML 1.2's core schema."""


_CoreLoader.yaml_implicit_resolvers = {}  # its own, empty, in place of those of YAML 1.1
for _name, _pattern, _first in (
    ("null", r"(?:null|Null|NULL|~|)\Z", ["n", "N", "~", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z", list("-+0123456789")),
    (
        "float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z",
        list("-+.0123456789"),
    ),
):
    _CoreLoader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)


def _float(text: str) -> float:
    return float(text.replace(".", "", 1) if text.lower().endswith(("inf", "nan")) else text)


def _int(text: str) -> int:
    value = int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    if abs(value) >= 2**63:
        raise ValueError
    return value


_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "str": str,
    _TAG + "null": lambda _: None,
    _TAG + "bool": lambda text: text.lower() == "true",
    _TAG + "int": _int,
    _TAG + "float": _float,
}


@dataclass(frozen=True)
class Document:
    """A parsed file: its data, and the position of everything in it."""

    name: str
    """The file, as messages call it."""
    data: Any
    root: yaml.Node | None

    def position(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of the value at `path` or of its key; of what would hold it if it is not there."""
        node, found = self.root, self.root
        for part in path:
            if isinstance(node, yaml.MappingNode):
                entry = next((entry for entry in node.value if entry[0].value == part), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                entry = (node.value[part], node.value[part])
            else:
                entry = None
            if entry is None:
                found = node
                break
            node = entry[1]
            found = entry[0] if key else node
        return _position(found.start_mark) if found is not None else (1, 1)

    def message(self, path: Path, text: str, *, key: bool = False) -> str:
        """`file:line:column: field.path: text`."""
        line, column = self.position(path, key=key)
        return ": ".join(filter(None, (f"{self.name}:{line}:{column}", dotted(path), text)))


def dotted(path: Path) -> str:
    """`("runs", 2, "model", "width")` as `runs[2].model.width`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in path]
    return "".join(parts).removeprefix(".")


def parse(text: str, name: str = "<text>") -> Document:
    """The one document in `text`.

    Raises:
        SpecError: with `name:line:column`, if it is not YAML or a key is given twice.
    """
    loader = None
    try:
        check_size(text)
        loader = _CoreLoader(text)
        root = loader.get_single_node()
        data = _build(root, (), name) if root is not None else None
    except yaml.reader.ReaderError as error:
        before = text.encode(errors="replace")[: error.position].decode(errors="ignore")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise SpecError(f"{name}:{line}:{column}: a character that YAML does not allow ({error.reason})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = _position(mark) if mark is not None else (1, 1)
        text = ", ".join(filter(None, (error.context, error.problem)))
        raise SpecError(f"{name}:{line}:{column}: {text}") from None
    except RecursionError:
        raise SpecError(f"{name}:1:1: nested too deeply, or an anchor contains itself") from None
    finally:
        if loader is not None:
            loader.dispose()
    return Document(name, data, root)


DEEPEST = 100
"""How many lists and mappings may lie in one another."""
_ALIAS = re.compile(r"\*[^\s*]")
"""How an alias begins; some other text does too."""
MOST = 100_000
"""How many values a text may have, those that its aliases repeat included."""


def check_size(text: str) -> None:
    """Refuse a text that is nested too deeply to be read, or whose aliases stand for more than memory holds.

    libyaml would end this process by running out of stack. Ten anchors that each repeat the one before ten times are a
    text of a few hundred characters.

    Raises:
        RecursionError: it is nested too deeply.
        yaml.YAMLError: it is not YAML, or has too many values.
    """
    if len(text) < 20_000 and len(_ALIAS.findall(text)) < 12:  # too short, and too few: 12 make at most 81 of one
        return
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]  # anchor and number of values so far
    sizes: dict[str | None, int] = {}
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 0))
            if len(open_nodes) > DEEPEST + 1:
                raise RecursionError
            continue
        if not isinstance(event, yaml.AliasEvent | yaml.ScalarEvent | yaml.CollectionEndEvent):
            continue
        anchor, size = None, 1
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        if anchor is not None:
            sizes[anchor] = size
        outer, so_far = open_nodes[-1]
        open_nodes[-1] = (outer, so_far + size)
        if so_far + size > MOST:
            mark: Any = event.start_mark  # of the class of libyaml, which the stubs do not know as one
            raise yaml.MarkedYAMLError(problem=f"more than {MOST:,} values", problem_mark=mark)


def _build(node: yaml.Node, path: Path, name: str) -> Any:
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str):
                raise _error(key_node, path, name, "a key must be a plain word")
            if key in mapping:
                raise _error(key_node, (*path, key), name, "key given twice")
            mapping[key] = _build(value_node, (*path, key), name)
        return mapping
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        return [_build(item, (*path, index), name) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode) and _CONTROL.search(node.value):
        raise _error(node, path, name, "a control character, which could change the terminal that shows it")
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _SCALARS:
        raise _error(node, path, name, f"tag {node.tag.replace(_TAG, '!!')} is not supported")
    try:
        return _SCALARS[node.tag](node.value)
    except ValueError:
        raise _error(node, path, name, f"{node.value[:40]!r} is not a 64-bit number") from None


def _error(node: yaml.Node, path: Path, name: str, text: str) -> SpecError:
    line, column = _position(node.start_mark)
    return SpecError(": ".join(filter(None, (f"{name}:{line}:{column}", dotted(path), text))))


def _position(mark: Any) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1
