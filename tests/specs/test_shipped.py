"""Every spec in `experiments/` parses, resolves at every scale, and agrees with the others about its runs."""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from reproduce.specs.load import catalogue, list_experiments, load_experiment
from reproduce.specs.provenance import hyperparameters
from reproduce.specs.resolve import resolve
from reproduce.specs.runs import Resolved
from reproduce.specs.schema import SCALES, Scale

ROOT = Path(__file__).parents[2] / "experiments"
IDS = sorted(path.stem for path in ROOT.glob("*.yaml"))


@pytest.fixture(autouse=True)
def shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFE_EXPERIMENTS", str(ROOT))


@cache
def at(name: str, scale: Scale) -> Resolved:
    return resolve(load_experiment(name), scale, fingerprint=lambda data: "")


@pytest.mark.parametrize("name", IDS)
def test_resolves_at_every_scale(name: str) -> None:
    experiment = load_experiment(name)
    assert experiment.id == name
    for scale in get_args(Scale):
        runs = at(name, scale).runs
        assert len({(run.name, run.seed, run.config.last_step) for run in runs}) == len(runs)
        assert hyperparameters(experiment, scale) or not experiment.settings
    if experiment.settings:
        assert at(name, "paper").runs
        # On which text the paper measures open models is not stated.
        assert all(run.paper_data for run in at(name, "paper").runs) == (experiment.kind != "pretrained")


@pytest.mark.parametrize("scale", SCALES)
def test_one_name_is_one_training_and_one_training_one_name(scale: Scale) -> None:
    configs: dict[tuple[str, int, int], str] = {}
    for name in IDS:
        for run in (*at(name, scale).runs, *at(name, scale).extra):
            # Figures may quantise or measure one training, or one checkpoint, in several ways.
            elsewhere = run.training is None
            key = str(run.config.parent.model_dump(exclude={"path"})) if elsewhere else (run.parent or run).key
            # A checkpoint from elsewhere is a job for each of its steps.
            step = run.config.last_step if elsewhere else 0
            assert configs.setdefault((run.name, run.seed, step), key) == key, run.slug
    names: dict[str, str] = {}
    for (name, *_), key in configs.items():
        assert names.setdefault(key, name) == name, f"{name} and {names[key]} are the same training at {scale}"


@pytest.mark.parametrize("name", IDS)
def test_every_value_of_the_papers_scale_says_where_it_comes_from(name: str) -> None:
    for scale in SCALES:
        for row in hyperparameters(load_experiment(name), scale):
            assert row.source is not None or row.value is None, f"{row.run or row.setting}: {row.path}"


def test_ids_are_unique_and_listed_once() -> None:
    ids = [experiment.id for experiment in list_experiments()]
    assert sorted(ids) == IDS


def test_every_catalogued_run_is_used() -> None:
    resolved = [at(name, scale) for name in IDS for scale in ("paper", "laptop")]
    runs = [run for one in resolved for run in (*one.runs, *one.extra)]
    used = {run.name for run in runs} | {run.parent.name for run in runs if run.parent is not None}
    assert set(catalogue()) - used == set()


def test_listing_is_quick() -> None:
    started = time.process_time()
    list_experiments()
    assert time.process_time() - started < 1.5  # takes about 0.2 s; `ofe list` waits for it


@pytest.mark.parametrize("name", IDS)
def test_a_figure_of_the_paper_says_where_it_stands_there(name: str) -> None:
    experiment = load_experiment(name)
    if experiment.paper_names:
        assert experiment.section
    else:  # a figure of this project's own, which then makes no claim for the paper
        assert {claim.basis for claim in experiment.claims} == {"project"}


@pytest.mark.parametrize("name", IDS)
def test_a_tolerance_around_a_difference_does_not_contain_no_difference(name: str) -> None:
    for claim in load_experiment(name).claims:
        differs = claim.left.minus_run is not None and isinstance(claim.right, int | float) and claim.right != 0
        if claim.cmp == "approx" and differs:
            assert claim.tol < abs(float(claim.right)), claim.id


@pytest.mark.parametrize("name", IDS)
def test_a_claim_does_not_go_on_from_another_one(name: str) -> None:
    for claim in load_experiment(name).claims:
        first = claim.says.split()[0]
        assert not first[0].islower(), f"{claim.id}: {claim.says}"
        assert first not in ("It", "They", "That", "This", "Yet"), f"{claim.id}: {claim.says}"
