"""What a spec or an option may set: the fields of a run's configuration by dotted path.

Settings, runs and `--set` write parts of a `RunConfig` before there is a whole one. Each field is checked as it is
written, so that a message can name the place of the mistake. Nobody may set two fields: the seed, which comes from the
number of seeds, and the fingerprint of the data, which is computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache, reduce
from operator import or_
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.fields import FieldInfo

from reproduce.config import Frozen, RunConfig
from reproduce.models.variants import VARIANTS
from reproduce.specs.problems import Problem, explain, nearest, union_members, unknown
from reproduce.specs.schema import Deviation
from reproduce.specs.yaml import Path


def deviation_fields(deviation: Deviation) -> dict[str, Any]:
    """What was written in `deviation`, as nested mappings. A null that was written is kept, a default is left out."""
    return deviation.model_dump(exclude_unset=True, include=set(Deviation.model_fields))


@cache
def leaves() -> dict[str, tuple[FieldInfo, ...]]:
    """Every value that may be set, by dotted path, with the field of each kind of model or data that has it."""
    found: dict[str, list[FieldInfo]] = {}
    for name, field in Deviation.model_fields.items():
        if name in RunConfig.model_fields and _models(RunConfig.model_fields[name]):
            _collect(RunConfig.model_fields[name], name, found)
        else:
            found[name] = [field]
    del found["data.fingerprint"]
    return {path: tuple(fields) for path, fields in found.items()}


@cache
def sections() -> frozenset[str]:
    """The paths under which several values stand, such as `model` and `model.block`."""
    return frozenset(path.rpartition(".")[0] for path in leaves()) - {""}


def children(section: str) -> tuple[str, ...]:
    """The names that stand directly in `section`, where "" is the whole configuration."""
    prefix = f"{section}." if section else ""
    inside = [path.removeprefix(prefix) for path in (*leaves(), *sections()) if path.startswith(prefix)]
    return tuple(dict.fromkeys(name for name in inside if "." not in name))


def _models(field: FieldInfo) -> list[type[BaseModel]]:
    members = union_members(field.annotation)
    return [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]


def _collect(field: FieldInfo, path: str, found: dict[str, list[FieldInfo]]) -> None:
    models = _models(field)
    for model in models:
        for name, inner in model.model_fields.items():
            _collect(inner, f"{path}.{name}", found)
    if not models:
        found.setdefault(path, []).append(field)


@cache
def takes_text(path: str) -> bool:
    """Whether the field at `path` holds a text or one of several words, and never a number, a list or the like."""
    members = [member for field in leaves()[path] for member in union_members(field.annotation)]
    return all(member is str or get_origin(member) is Literal for member in members)


@cache
def takes_null(path: str) -> bool:
    """Whether the field at `path` may be left without a value."""
    return any(type(None) in get_args(field.annotation) for field in leaves()[path])


@cache
def _takes_numbers(path: str) -> bool:
    """Whether the field at `path` may be a number, and not true or false."""
    members = {member for field in leaves()[path] for member in union_members(field.annotation)}
    return bool not in members and not members.isdisjoint({int, float})


class _Leaf(Frozen):
    """Base of the models of single fields. It refuses inf and nan, since the key of a run could not be written."""

    model_config = ConfigDict(allow_inf_nan=False)


@cache
def _holder(path: str) -> type[BaseModel]:
    """A model of a single field. Its type is that of any kind of model or data that has the field."""
    fields = leaves()[path]
    annotation: Any = reduce(or_, dict.fromkeys(field.annotation for field in fields))
    return create_model("Leaf", __base__=_Leaf, value=(annotation, fields[0]))


def check_value(name: str, value: Any, path: Path) -> Iterator[Problem]:
    """What is wrong with `value` for the field `name`, reported at `path`."""
    if name == "block" and isinstance(value, str) and value not in VARIANTS:
        yield unknown("block", value, list(VARIANTS), path)
        return
    if isinstance(value, bool) and _takes_numbers(name):  # pydantic would read true as 1
        yield Problem(path, f"expected a number, got {str(value).lower()}")
        return
    holder = _holder(name)
    try:
        holder.model_validate({"value": value})
    except ValidationError as error:
        yield from (replace(problem, path=(*path, *problem.path[1:])) for problem in explain(error, holder))


def check_tree(tree: Mapping[str, Any], path: Path, section: str = "") -> Iterator[Problem]:
    """What is wrong with a part of a configuration: names that it does not have, and values that it cannot take."""
    for key, value in tree.items():
        name, place = f"{section}.{key}" if section else key, (*path, key)
        if name in leaves():
            yield from check_value(name, value, place)
        elif name not in sections():
            yield Problem(place, "unknown key", nearest(key, children(section)), children(section), at_key=True)
        elif isinstance(value, Mapping):
            yield from check_tree(value, place, name)
        else:
            yield Problem(place, "expected a mapping", valid=children(name))
