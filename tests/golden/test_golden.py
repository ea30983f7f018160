"""No number moves unseen: those of each component, of a short run of each setting, and the keys of all shipped runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from reproduce.keys import NUMERICS_VERSION, components
from reproduce.store.home import shared_folder
from tests.golden import keys, record
from tests.golden.components import COMPONENTS
from tests.golden.record import Entry, guilty, one_thread_and_a_home, platform_signature, renewed, verdict
from tests.golden.traces import smoke_runs, trace


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def one_home(home: Path, own_home: None) -> Iterator[None]:
    with one_thread_and_a_home(home):
        yield


def found(*names: str) -> dict[str, str]:
    """What is wrong with the golden numbers of the components `names`, by component."""
    golden = record.read("components")
    said = {name: verdict("components", name, golden.get(name), COMPONENTS[name]()) for name in names}
    return {name: why for name, why in said.items() if why}


# -- numbers -------------------------------------------------------------------------------------------


def test_no_component_moves_unless_its_version_is_raised() -> None:
    wrong = found(*COMPONENTS)
    assert {name: wrong[name] for name in guilty(wrong)} == {}


@pytest.mark.slow
@pytest.mark.parametrize("setting", smoke_runs())
def test_no_trace_moves_unless_a_version_is_raised(setting: str) -> None:
    assert verdict("traces", setting, record.read("traces").get(setting), trace(setting)) == ""


def test_every_component_and_every_setting_has_golden_numbers() -> None:
    assert set(COMPONENTS) == set(NUMERICS_VERSION) == set(record.read("components"))
    settings = {path.stem for path in (shared_folder("experiments") / "settings").glob("*.yaml")}
    assert set(record.read("traces")) == set(smoke_runs()) == settings
    for setting, entry in record.read("traces").items():
        assert set(entry.versions) == set(components(smoke_runs()[setting].config))


@pytest.mark.parametrize(
    ("constant", "value", "named"),
    [
        ("reproduce.models.transformer.NORM_EPS", 1.1e-5, {"transformer", "vit"}),
        ("reproduce.training.divergence.LOST", 0.26, {"divergence"}),
        ("reproduce.training.train.log_every", lambda last_step: 2, {"train"}),
        ("reproduce.optim.sgd.Sgd.step", lambda optimizer: None, {"sgd"}),
    ],
)
def test_whoever_moves_a_digit_is_told_which_component_it_was(
    monkeypatch: pytest.MonkeyPatch, constant: str, value: object, named: set[str]
) -> None:
    monkeypatch.setattr(constant, value)
    wrong = found("transformer", "vit", "sgd", "adamw", "schedule", "divergence", "train")
    assert guilty(wrong) == named
    for name in named:
        assert wrong[name].startswith(f"{name} moved (")
        assert f"raise NUMERICS_VERSION of {name}" in wrong[name]


def entry(**changes: object) -> Entry:
    return replace(Entry({"adamw": NUMERICS_VERSION["adamw"]}, platform_signature(), {"a": [100.0, 0.5]}), **changes)


ELSEWHERE = {"torch": "1.0", "python": "3.0", "cpu": "an abacus", "instructions": "none"}


def test_every_digit_counts_on_the_machine_that_made_them_and_rounding_is_forgiven_elsewhere() -> None:
    here, elsewhere = entry(), entry(made_on=ELSEWHERE)
    assert verdict("components", "adamw", here, {"a": [100.0, 0.5]}) == ""
    assert "a: 0.5000000001 where 0.5 was" in verdict("components", "adamw", here, {"a": [100.0, 0.5000000001]})
    assert verdict("components", "adamw", elsewhere, {"a": [100.005, 0.5001]}) == ""
    assert "a: 0.501 where 0.5 was" in verdict("components", "adamw", elsewhere, {"a": [100.0, 0.501]})
    assert "a: nan" in verdict("components", "adamw", elsewhere, {"a": [100.0, float("nan")]})
    assert verdict("traces", "x", elsewhere, {"a": [100.3, 0.5]}) == ""
    assert "a has 1 numbers, not 2" in verdict("components", "adamw", here, {"a": [100.0]})
    assert verdict("components", "adamw", here, {"a": [100.0, 0.5], "b": [1.0]}) == (
        "adamw has new numbers (b): run `make golden`"
    ), "what is added moves nothing, so that no version is raised"


def test_numbers_that_moved_are_made_anew_only_where_the_version_was_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    versions, new, old = {"adamw": NUMERICS_VERSION["adamw"]}, {"a": [100.0, 0.6]}, entry()
    with pytest.raises(ValueError, match="adamw moved"):
        renewed("components", "adamw", versions, lambda: new, old)
    kept = entry(made_on=ELSEWHERE)
    assert renewed("components", "adamw", versions, lambda: {"a": [100.0, 0.50001]}, kept) == kept
    raised = {"adamw": versions["adamw"] + 1}
    monkeypatch.setitem(NUMERICS_VERSION, "adamw", raised["adamw"])
    assert "was made before a version was raised, adamw from 1 to 2" in verdict("components", "adamw", old, new)
    assert renewed("components", "adamw", raised, lambda: new, old) == Entry(raised, platform_signature(), new)
    assert renewed("components", "adamw", raised, lambda: new, None).numbers == new


# -- keys ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs() -> dict[tuple[str, str], keys.ResolvedRun]:
    return keys.shipped_runs()


def test_no_key_of_a_shipped_run_moves(runs: dict[tuple[str, str], keys.ResolvedRun]) -> None:
    versions, golden = keys.read_keys()
    assert keys.moves(versions, golden, runs) == {}
    assert sum(map(len, golden.values())) >= 1_315
    named = {(place, name) for place, of_place in golden.items() for name in of_place}
    assert set(runs) == named, f"a run without a golden key: {record.MAKE}"


def test_a_key_that_moves_is_told_with_the_run_and_what_moved_it(
    runs: dict[tuple[str, str], keys.ResolvedRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions, golden = keys.read_keys()
    place = "fig2/laptop", next(iter(golden["fig2/laptop"]))
    config = runs[place].config
    other = replace(runs[place], config=config.model_copy(update={"batch_size": config.batch_size + 1}))
    told = keys.moves(versions, golden, runs | {place: other})
    assert told == {" ".join(place): "its configuration, or how a key is made of one"}
    gone = {each: run for each, run in runs.items() if each != place}
    assert keys.moves(versions, golden, gone) == {" ".join(place): "it is gone"}

    monkeypatch.setitem(NUMERICS_VERSION, "soap", 2)
    told = keys.moves(versions, golden, runs)
    assert set(told.values()) == {"soap is at version 2 and was at 1"}
    # The keys of what starts from a training move with its own.
    assert set(told) == {
        " ".join(each)
        for each, run in runs.items()
        if (training := run.training) is not None and training.optimizer.name == "soap"
    }
