"""What is wrong with a spec, in words: pydantic's errors turned into field paths, expectations and suggestions.

pydantic reports every member of a union that a value failed to match, and puts the member's name into the
error's location. `explain` walks the location beside the types, so that the path is that of the data, and
keeps the member to which the value comes closest.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from reproduce.errors import SpecError
from reproduce.specs.yaml import Document, Path

_NOUNS = {
    "string": "a string",
    "int": "an integer",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}
_BOUNDS = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
MISSING = "required, but missing"
_SIGNS = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}


@dataclass(frozen=True)
class Problem:
    """One thing wrong at one place."""

    path: Path
    text: str
    nearest: str | None = None
    """A valid name close to the one given."""
    valid: tuple[str, ...] = ()
    """The valid names, where the text does not list them."""
    at_key: bool = False
    """Whether the key is wrong rather than its value."""

    @property
    def hint(self) -> str | None:
        if self.nearest is not None:
            return f"did you mean {self.nearest}?"
        return f"valid here: {', '.join(self.valid)}" if self.valid else None


def nearest(name: object, valid: Iterable[str]) -> str | None:
    """The valid name closest to `name`, if one is close."""
    return next(iter(difflib.get_close_matches(str(name), list(valid), n=1)), None)


def unknown(what: str, name: str, valid: Sequence[str], path: Path, *, at_key: bool = False) -> Problem:
    """A name that is none of the valid ones."""
    return Problem(path, f"unknown {what} {name}", nearest(name, valid), tuple(valid), at_key)


def spec_error(problems: Sequence[Problem], document: Document) -> SpecError:
    """An error with a line for each problem, in the order of the file, and with all hints together."""
    placed = ((document.position(problem.path, key=problem.at_key), problem) for problem in dict.fromkeys(problems))
    lines = sorted(placed, key=lambda item: (item[0], item[1].text, str(item[1].path)))
    hints = [(line, problem.hint) for (line, _), problem in lines if problem.hint]
    single = len(lines) == 1
    return SpecError(
        "\n".join(document.message(problem.path, problem.text, key=problem.at_key) for _, problem in lines),
        hint="; ".join(hint if single else f"line {line}: {hint}" for line, hint in hints) or None,
    )


# ---------------------------------------------------------------------------------------------------
# pydantic's errors


@dataclass(frozen=True)
class _Error:
    """One pydantic error on its way to a `Problem`."""

    problem: Problem
    wanted: tuple[str, ...]
    """What was expected, where the value is of another kind altogether."""
    unions: tuple[tuple[Path, str], ...]
    """The unions on the way to the value, each with its place and the member tried."""


def explain(error: ValidationError, annotation: Any) -> list[Problem]:
    """The problems that `error`, raised while validating `annotation`, reports."""
    found = [_translate(details, annotation) for details in error.errors(include_url=False)]
    bad_keys = [item for item in found if item.problem.at_key]
    kept = [item for item in found if not any(_below(item, bad) for bad in bad_keys)]
    problems = [item.problem for item in _best_members(kept)]
    misspelt = {(*problem.path[:-1], problem.nearest) for problem in problems if problem.at_key and problem.nearest}
    return [problem for problem in problems if problem.text != MISSING or problem.path not in misspelt]


def _below(item: _Error, bad: _Error) -> bool:
    """Whether `item` lies inside the value of a key that is wrong itself.

    A key that is unknown to one member of a union may be right for another: only errors of the same member count.
    """
    path, members = bad.problem.path, bad.unions
    return item.problem.path[: len(path)] == path != item.problem.path and item.unions[: len(members)] == members


def _translate(details: Any, annotation: Any) -> _Error:
    kind, given, context = details["type"], details.get("input"), details.get("ctx", {})
    location = details["loc"]
    at_key = kind == "literal_error" and location[-1] == "[key]"
    path, end, unions = _walk(annotation, location[:-1] if at_key else location)
    shown = "null" if given is None else repr(given)[:60]
    got = f", got {shown}" if given is None or isinstance(given, bool | int | float | str) else ""
    wanted: tuple[str, ...] = ()
    problem = Problem(path, details["msg"])
    if kind == "missing":
        problem = Problem(path, MISSING)
    elif kind == "extra_forbidden":
        valid = tuple(end.model_fields)
        problem = Problem(path, "unknown key", nearest(path[-1], valid), valid, at_key=True)
    elif kind in ("literal_error", "union_tag_invalid"):
        wanted = _literals(context.get("expected") or context["expected_tags"])
        if kind == "union_tag_invalid":
            path = (*path, context["discriminator"].strip("'"))
            got = f", got {context['tag']!r}"
        close = nearest(path[-1] if at_key else context.get("tag", given), wanted)
        problem = Problem(path, f"expected {_either(wanted)}{'' if at_key else got}", close, at_key=at_key)
    elif kind == "union_tag_not_found":
        problem = Problem((*path, context["discriminator"].strip("'")), MISSING)
    elif kind in _BOUNDS:
        bound = _BOUNDS[kind]
        problem = Problem(path, f"expected a number {_SIGNS[bound]} {context[bound]:g}{got}")
    elif kind == "too_short":
        problem = Problem(path, f"expected at least {context['min_length']} entry")
    elif kind == "value_error":
        problem = Problem(path, str(context["error"]))
    elif (noun := _NOUNS.get(kind.split("_")[0])) is not None:
        wanted = (noun,)
        problem = Problem(path, f"expected {noun}{got}")
    return _Error(problem, wanted, unions)


def _literals(expected: str) -> tuple[str, ...]:
    return tuple(part.strip(" '") for part in expected.replace(" or ", ", ").split(","))


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _best_members(errors: list[_Error]) -> list[_Error]:
    """For each union, the errors of the member that fits best, or one that names all members where none fits."""
    kept = [item for item in errors if not item.unions]
    groups: dict[Path, dict[str, list[_Error]]] = {}
    for item in errors:
        if item.unions:
            (path, member), *inner = item.unions
            groups.setdefault(path, {}).setdefault(member, []).append(replace(item, unions=tuple(inner)))
    for path, members in groups.items():
        candidates = [_best_members(items) for items in members.values()]
        shaped = [items for items in candidates if not _misfits(items, path)]
        if shaped:
            kept += min(shaped, key=lambda items: _distance(items, path))
        else:
            kept.append(_merge([item for items in candidates for item in items if _misfits([item], path)]))
    return kept


def _distance(errors: Iterable[_Error], path: Path) -> tuple[float, int]:
    """How far the value at `path` is from a member.

    An unknown key counts most, and less if the member knows a similar one. The deeper an error lies inside the value,
    the less it counts: whoever writes the keys of a member means that member, whatever is wrong inside them.
    """
    problems = [item.problem for item in errors]
    weights = (
        (1.0 if not problem.at_key else 2.0 if problem.nearest is None else 1.5) / 2 ** (len(problem.path) - len(path))
        for problem in problems
    )
    return sum(weights), -max(len(problem.path) for problem in problems)


def _misfits(errors: list[_Error], path: Path) -> bool:
    return any(item.wanted and item.problem.path == path for item in errors)


def _merge(errors: list[_Error]) -> _Error:
    wanted = tuple(dict.fromkeys(word for item in errors for word in item.wanted))
    first = errors[0].problem
    _, comma, got = first.text.partition(", got ")
    close = next((item.problem.nearest for item in errors if item.problem.nearest), None)
    return _Error(replace(first, text=f"expected {_either(wanted)}{comma}{got}", nearest=close), wanted, ())


# ---------------------------------------------------------------------------------------------------
# Types along a location


def union_members(annotation: Any) -> tuple[Any, ...]:
    """The members of a union without None; of anything else, itself."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for member in get_args(annotation) if member is not type(None))
    return (annotation,)


def _walk(annotation: Any, location: Sequence[str | int]) -> tuple[Path, Any, tuple[tuple[Path, str], ...]]:
    """The data path of `location`, the type that holds its last part, and the unions passed."""
    path: list[str | int] = []
    unions: list[tuple[Path, str]] = []
    holder = annotation
    for part in location:
        members = union_members(annotation)
        if len(members) > 1:
            unions.append((tuple(path), str(part)))
            annotation = next((member for member in members if _names(member, str(part))), Any)
            continue
        holder = annotation = members[0]
        path.append(part)
        annotation = _inner(annotation, part)
    return tuple(path), holder, tuple(unions)


def _names(member: Any, tag: str) -> bool:
    """Whether pydantic calls this member of a union by this name."""
    if isinstance(member, type) and issubclass(member, BaseModel):
        kind = member.model_fields.get("kind")
        return (
            tag == member.__name__ or tag.endswith(f" {member.__name__}]") or (kind is not None and tag == kind.default)
        )
    if get_origin(member) is Literal:
        return tag.startswith("literal[")
    return tag.partition("[")[0] == getattr(get_origin(member) or member, "__name__", None)


def _inner(annotation: Any, part: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return field.annotation if field is not None else Any
    arguments = get_args(annotation)
    if get_origin(annotation) is list:
        return arguments[0]
    if get_origin(annotation) is dict:
        return arguments[1]
    return arguments[int(part)] if get_origin(annotation) is tuple else Any
