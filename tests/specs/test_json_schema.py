"""The JSON schema takes every shipped spec, refuses what the specs refuse, and explains the fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from reproduce.specs.json_schema import experiment_schema, setting_schema
from reproduce.specs.load import experiments_root
from reproduce.specs.yaml import parse

EXPERIMENTS = sorted(experiments_root().glob("*.yaml"))
SETTINGS = sorted((experiments_root() / "settings").glob("*.yaml"))


def data(path: Path) -> Any:
    return parse(path.read_text(), path.name).data


def test_every_shipped_spec_and_setting_is_valid() -> None:
    for schema, files in ((experiment_schema(), EXPERIMENTS), (setting_schema(), SETTINGS)):
        jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(schema)
        for path in files:
            assert [error.message for error in validator.iter_errors(data(path))] == [], path.name


@pytest.mark.parametrize(
    "change",
    [
        {"plot": {"kind": "lines", "y": [{"metrik": "kurtosis"}]}},
        {"plot": {"kind": "pie"}},
        {"runs": [{"name": "x", "label": "X", "optimizer": {"rate": 0.1}}]},
        {"runs": [{"name": "x", "label": "X", "optimizer": {"name": "nobody"}}]},
        {"title": None},
    ],
)
def test_a_mistake_is_refused(change: dict[str, Any]) -> None:
    good = data(experiments_root() / "fig2.yaml")
    validator = jsonschema.Draft202012Validator(experiment_schema())
    assert validator.is_valid(good)
    assert not validator.is_valid(good | change)


def test_only_what_a_user_must_give_is_required() -> None:
    assert experiment_schema()["required"] == ["id", "title", "plot"]


def test_fields_are_explained() -> None:
    schema = experiment_schema()
    assert schema["properties"]["runs"]["description"].startswith("Names of the setting's runs")
    described = schema["$defs"]["OptimizerConfig"]["properties"]
    assert any("description" in field for field in described.values())
