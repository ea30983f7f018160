"""run.yaml: what a run is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reproduce import keys
from reproduce.errors import OfeError
from reproduce.specs.runs import ResolvedRun
from reproduce.store.run_yaml import own_name, read, read_config, render

MakeRun = Callable[..., ResolvedRun]


@pytest.fixture
def write(tmp_path: Path, make_run: MakeRun) -> Callable[..., Path]:
    """A folder whose run.yaml has some fields changed."""

    def make(**changes: Any) -> Path:
        content = yaml.safe_load(render(make_run())) | changes
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(content))
        return tmp_path

    return make


def test_it_says_all_there_is_to_a_run(write: Callable[..., Path], make_run: MakeRun) -> None:
    run = make_run(seed=0)
    content = read(write())
    assert content | {"config": None, "numerics": None} == {
        "schema": 1,
        "key": run.key,
        "recipe": run.recipe,
        "slug": run.slug,
        "name": run.name,
        "label": run.label,
        "setting": run.setting,
        "scale": run.scale,
        "seed": 0,
        "config": None,
        "numerics": None,
        "paper_data": False,
    }
    assert content["config"]["optimizer"]["beta1"] == 0.9, "defaults are written out"
    assert content["numerics"]["transformer"] == keys.NUMERICS_VERSION["transformer"]
    assert read_config(write()) == run.config


def test_equal_runs_are_written_alike(make_run: MakeRun) -> None:
    assert render(make_run()) == render(make_run())


def test_the_name_comes_from_slug_and_key(write: Callable[..., Path], make_run: MakeRun) -> None:
    assert own_name(write()) == f"cp-op-smoke-s0-{make_run().key}"


@pytest.mark.parametrize("slug", ["../../etc", "/etc/x", ".hidden", "a\\b", ""])
def test_a_name_cannot_lead_out_of_the_store(write: Callable[..., Path], slug: str) -> None:
    with pytest.raises(OfeError, match="no name of a run"):
        own_name(write(slug=slug))


def test_a_key_must_be_that_of_the_configuration(
    write: Callable[..., Path], make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_run(seed=1)
    folder = write(key=other.key)
    with pytest.raises(OfeError, match=f"has key {other.key}"):
        own_name(folder)
    monkeypatch.setitem(keys.NUMERICS_VERSION, "transformer", 99)
    assert own_name(folder).endswith(other.key), "keys of other numerics cannot be checked"


def test_a_later_schema_asks_for_a_later_version(write: Callable[..., Path]) -> None:
    with pytest.raises(OfeError, match="schema 2") as caught:
        read(write(schema=2))
    assert "update" in str(caught.value.hint)


@pytest.mark.parametrize(
    "text", [None, "", "[1]", "schema: 1", "a: [", "\x00", "[" * 300_000, "a: 2020-99-99", "a: " + "9" * 5000]
)
def test_what_is_no_run_yaml_is_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(OfeError, match=r"run\.yaml"):
        read(tmp_path)


def test_a_configuration_of_another_version_is_named(write: Callable[..., Path]) -> None:
    with pytest.raises(OfeError, match="holds a configuration"):
        read_config(write(config={"model": "from the future"}))


def test_a_field_of_a_later_version_asks_for_a_later_version(write: Callable[..., Path], make_run: MakeRun) -> None:
    config = yaml.safe_load(render(make_run()))["config"]
    with pytest.raises(OfeError) as caught:
        read_config(write(config=config | {"sparkle": 3}))
    assert caught.value.message.endswith("holds a configuration that this version of ofe cannot read: sparkle")
    assert caught.value.hint == "a later version of ofe has written it: update ofe"


def test_a_run_yaml_of_very_many_values_cannot_be_read(write: Callable[..., Path]) -> None:
    folder = write()
    levels = [f"a{level}: &a{level} [{', '.join(10 * [f'*a{level - 1}'])}]\n" for level in range(1, 12)]
    text = (folder / "run.yaml").read_text().replace("slug: ", "own_slug: ")
    (folder / "run.yaml").write_text("a0: &a0 [1]\n" + "".join(levels) + text + "slug: *a11\n")
    with pytest.raises(OfeError, match="cannot be read"):
        own_name(folder)
