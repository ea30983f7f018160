"""The JSON schema of specs, from which an editor knows what may stand where, and says what it means.

It is made from the classes that read the specs, so that the two cannot differ. The descriptions are the docstrings
below the fields. A run may leave out whatever its setting says, so that nothing of a recipe is required.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any, get_args

from pydantic import BaseModel

from reproduce.config import RunConfig
from reproduce.specs.schema import Deviation, Experiment, Setting

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def experiment_schema() -> dict[str, Any]:
    """The schema of a figure or table, `experiments/<id>.yaml`."""
    return _complete(Experiment)


def setting_schema() -> dict[str, Any]:
    """The schema of a setting, `experiments/settings/<id>.yaml`."""
    return _complete(Setting)


def _complete(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    recipe = RunConfig.model_json_schema()
    definitions |= {name: _optional(part) for name, part in recipe["$defs"].items()}
    parts = {name: recipe["properties"][name] for name, field in Deviation.model_fields.items() if field.default == {}}
    for name, part in {model.__name__: schema, **definitions}.items():
        if {"block", "stop_after"} <= part.get("properties", {}).keys() and name != "RunConfig":
            part["properties"] |= {field: _bare(of) for field, of in parts.items() if field in part["properties"]}
    described = {cls.__name__: cls for cls in _models(model) | _models(RunConfig)}
    for name, part in {model.__name__: schema, **definitions}.items():
        if name in described:
            _describe(part, described[name])
    return {"$schema": _DIALECT, "title": model.__name__} | schema


def _optional(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a recipe that may be given in part."""
    return {name: value for name, value in part.items() if name != "required"}


def _bare(part: dict[str, Any]) -> dict[str, Any]:
    """A field of a recipe without its default, which a deviation does not have; it may be in part of several kinds."""
    kept = {name: value for name, value in part.items() if name not in ("default", "discriminator", "oneOf")}
    return kept | ({"anyOf": part["oneOf"]} if "oneOf" in part else {})


def _models(model: type[BaseModel]) -> set[type[BaseModel]]:
    """A class of a spec and all classes that its fields are made of."""
    found: set[type[BaseModel]] = set()
    waiting: list[Any] = [model]
    while waiting:
        one = waiting.pop()
        if inspect.isclass(one) and issubclass(one, BaseModel):
            if one not in found:
                found.add(one)
                waiting += [field.annotation for field in one.model_fields.values()]
        else:
            waiting += get_args(one)
    return found


def _describe(part: dict[str, Any], model: type[BaseModel]) -> None:
    """Put the docstrings below the fields of a class, and of the classes that it builds on, into its schema."""
    for cls in reversed(model.__mro__):
        if cls is BaseModel or not issubclass(cls, BaseModel):
            continue
        for name, text in _field_docs(cls).items():
            if name in part.get("properties", {}):
                part["properties"][name]["description"] = text


def _field_docs(cls: type) -> dict[str, str]:
    """Field -> the string that stands below it in the source of the class."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        match field, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
    return docs
