from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from reproduce.config import RunConfig
from reproduce.specs.problems import Problem, explain, nearest
from reproduce.specs.schema import Claim, Experiment, Setting

EXPERIMENT: dict[str, Any] = {
    "id": "fig1",
    "v1": None,
    "v2": None,
    "title": "t",
    "kind": "training",
    "section": "1",
    "setting": None,
    "plot": {"kind": "table", "columns": [{"title": "x"}]},
}
CLAIM: dict[str, Any] = {"id": "c", "says": "", "left": {"metric": "x", "run": "r"}, "cmp": "gt", "source": ""}
CLAIM |= {"basis": "stated"}


def problems(model: type[BaseModel], data: dict[str, Any]) -> list[Problem]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(data)
    return explain(caught.value, model)


def only(model: type[BaseModel], data: dict[str, Any]) -> Problem:
    found = problems(model, data)
    assert len(found) == 1, found
    return found[0]


def test_unknown_key_with_the_nearest_name() -> None:
    problem = only(Experiment, EXPERIMENT | {"claim": []})
    assert problem.path == ("claim",)
    assert problem.text == "unknown key"
    assert problem.at_key
    assert problem.hint == "did you mean claims?"


def test_unknown_key_unlike_any_other_lists_the_valid_ones() -> None:
    problem = only(Experiment, EXPERIMENT | {"plot": {"kind": "table", "columns": [{"title": "x"}], "zz": 1}})
    assert problem.path == ("plot", "zz")
    assert problem.hint == "valid here: kind, columns"


def test_missing_field() -> None:
    data = {key: value for key, value in EXPERIMENT.items() if key != "title"}
    assert only(Experiment, data) == Problem(("title",), "required, but missing")


def test_a_misspelt_required_key_is_one_problem() -> None:
    data = {key: value for key, value in EXPERIMENT.items() if key != "title"} | {"titel": "t"}
    problem = only(Experiment, data)
    assert (problem.path, problem.hint) == (("titel",), "did you mean title?")


def test_literal_with_the_nearest_value() -> None:
    problem = only(Experiment, EXPERIMENT | {"kind": "trainig"})
    assert problem.text == "expected training, pretrained, table or diagram, got 'trainig'"
    assert problem.hint == "did you mean training?"


@pytest.mark.parametrize(
    ("plot", "path", "text"),
    [
        ({"kind": "tabel"}, ("plot", "kind"), "expected lines, table, methods or diagram, got 'tabel'"),
        ({"columns": []}, ("plot", "kind"), "required, but missing"),
        ({"kind": "table", "columns": []}, ("plot", "columns"), "expected at least 1 entry"),
        ({"kind": "table", "columns": 3}, ("plot", "columns"), "expected a list, got 3"),
        (
            {"kind": "lines", "y": [{"metric": "loss", "scale": "lg"}]},
            ("plot", "y", 0, "scale"),
            "expected linear or log, got 'lg'",
        ),
        ("lines", ("plot",), "expected a mapping, got 'lines'"),
    ],
)
def test_tag_of_a_discriminated_union_is_no_part_of_the_path(plot: Any, path: tuple[str, ...], text: str) -> None:
    problem = only(Experiment, EXPERIMENT | {"plot": plot})
    assert (problem.path, problem.text) == (path, text)


@pytest.mark.parametrize(
    ("run", "path", "text", "hint"),
    [
        (3, ("runs", 0), "expected a string or a mapping, got 3", None),
        ({"name": "x", "seed": 3}, ("runs", 0, "seed"), "unknown key", "did you mean seeds?"),
        ({"name": "x", "seeds": 0}, ("runs", 0, "seeds"), "expected a number of at least 1, got 0", None),
        ({"name": "x", "label": "X", "blok": "op"}, ("runs", 0, "blok"), "unknown key", "did you mean block?"),
        ({"name": "x", "block": "op"}, ("runs", 0, "label"), "required, but missing", None),
        (
            {"name": "x", "label": "X", "at": {"lptop": {"steps": 1}}},
            ("runs", 0, "at", "lptop"),
            "expected smoke, laptop, workstation or paper",
            "did you mean laptop?",
        ),
    ],
)
def test_of_a_union_the_closest_member_is_reported(
    run: Any, path: tuple[Any, ...], text: str, hint: str | None
) -> None:
    problem = only(Experiment, EXPERIMENT | {"runs": [run]})
    assert (problem.path, problem.text, problem.hint) == (path, text, hint)


@pytest.mark.parametrize(
    ("change", "path", "text"),
    [
        (
            {"left": {"metric": "x", "run": "r", "layer": "unembd"}},
            ("left", "layer"),
            "expected an integer, unembed, each, some, most, early, late, mean, max, argmax or a list, got 'unembd'",
        ),
        (
            {"left": {"metric": "x", "run": "r", "layer": [1, "a"]}},
            ("left", "layer", 1),
            "expected an integer, got 'a'",
        ),
        ({"left": {"metric": "x"}}, ("left",), "give run or runs"),
        ({"right": {"metric": "x", "run": "r", "ovr": "peak"}}, ("right", "ovr"), "unknown key"),
        ({"right": {"metric": "x"}}, ("right",), "give run or runs"),
    ],
)
def test_sides_of_a_claim(change: dict[str, Any], path: tuple[Any, ...], text: str) -> None:
    problem = only(Claim, CLAIM | change)
    assert (problem.path, problem.text) == (path, text)


@pytest.mark.parametrize("name", ["../../x", "/x", ".x", "", "a b", "a\nb", "a/b", "-x", "x" * 101])
def test_a_name_is_one_that_a_file_may_have(name: str) -> None:
    """The pictures of a figure, and the folders of its runs, are called by it."""
    text = f"expected at most 100 letters, digits, dots, dashes and underscores, got {name[:60]!r}"
    assert only(Experiment, EXPERIMENT | {"id": name}) == Problem(("id",), text)
    run = only(Experiment, EXPERIMENT | {"runs": [{"name": name, "label": "X", "block": "op"}]})
    assert (run.path, run.text) == (("runs", 0, "name"), text)


def test_nested_unions_in_a_mapping_and_a_tuple() -> None:
    data = {"id": "a", "title": "", "paper_data": [], "base": {}, "scales": {}}
    assert only(Setting, data | {"sources": {"a": "cod"}}).text.startswith("expected stated-v1, stated-v2, code")
    assert only(Setting, data | {"sources": {"a": ["cde", "x"]}}).path == ("sources", "a", 0)


def test_a_key_that_looks_like_a_marker_of_pydantic() -> None:
    assert only(Experiment, EXPERIMENT | {"[key]": 1}).path == ("[key]",)
    run = {"name": "x", "label": "X", "at": {"smoke": {"because": "", "[key]": 1}}}
    assert only(Experiment, EXPERIMENT | {"runs": [run]}).path == ("runs", 0, "at", "smoke", "[key]")


def test_what_was_given_is_quoted_in_part() -> None:
    assert only(Experiment, EXPERIMENT | {"v1": 10**100}).text == "expected a string, got " + "1" + "0" * 59
    assert only(Experiment, EXPERIMENT | {"runs": [[]]}).text == "expected a string or a mapping"


def test_validators_of_the_project_speak_for_themselves() -> None:
    block = {"post_norm": "ln", "pre_qk": "ln"}
    data = {"model": {"kind": "transformer", "layers": 1, "width": 4, "heads": 2, "block": block}}
    found = {problem.path: problem.text for problem in problems(RunConfig, data)}
    assert found["model", "block"].startswith("post_norm excludes pre_qk")
    assert found["data",] == "required, but missing"


def test_nearest() -> None:
    assert nearest("kurtosys", ["loss", "kurtosis"]) == "kurtosis"
    assert nearest("zzz", ["loss", "kurtosis"]) is None


def test_a_key_that_one_member_does_not_know_hides_no_error_inside_it_in_another() -> None:
    problem = only(Experiment, EXPERIMENT | {"runs": [{"name": "cp-op", "measured": {"at": [2.0]}}]})
    assert problem.path == ("runs", 0, "measured", "at", 0)
    assert problem.text == "expected a number of at most 1, got 2.0"
