"""What starting from a checkpoint costs, reckoned from the facts that its setting gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reproduce.job_config import QuantiseConfig
from reproduce.machine import Machine
from reproduce.plan.calibration import guess
from reproduce.plan.costs import Cost, cost_of
from reproduce.quantise.rows import ROWS
from reproduce.specs.load import load_experiment
from reproduce.specs.resolve import resolve
from reproduce.specs.runs import ResolvedRun


def cost(run: ResolvedRun, machine: Machine) -> Cost:
    return cost_of(run, guess("cpu", "fp32", 1), machine, 1, None)


@pytest.fixture
def machine() -> Machine:
    from reproduce.machine import this_machine

    return this_machine("cpu")


def test_a_checkpoint_from_elsewhere(machine: Machine) -> None:
    runs = resolve(load_experiment("fig1"), "paper", fingerprint=lambda read: "").runs
    small, *_, large = [cost(run, machine) for run in runs]
    assert (small.params, small.tokens, small.download) == (70_426_624, 8 * 512, 166_000_000)
    assert small.flops == 2 * 70_426_624 * 8 * 512
    assert small.footprint.weights == 4 * 70_426_624  # float16 on the hub, float32 in memory
    assert large.footprint.memory > 4 * 405_334_016
    assert large.seconds > small.seconds > 0


def test_snapshots_of_a_run_are_fetched_from_nowhere(machine: Machine) -> None:
    runs = resolve(load_experiment("fig1"), "laptop", fingerprint=lambda read: "").runs
    (own, *_), anchor = runs, runs[-1]
    assert own.parent is not None
    training, measured = cost(own.parent, machine), cost(own, machine)
    assert measured.params == training.params
    assert (measured.tokens, measured.download) == (32 * 128, 0)
    assert measured.flops < training.flops / 100
    assert cost(anchor, machine).download == 93_000_000


def test_the_quantisation_of_a_checkpoint_is_its_passes_without_rows_of_our_own_models(machine: Machine) -> None:
    runs = resolve(load_experiment("quantise-methods"), "laptop", fingerprint=lambda read: "").runs
    run = next(run for run in runs if run.name == "smollm2")
    config = run.config
    assert isinstance(config, QuantiseConfig)
    few = config.model_copy(update={"rows": ("tensor", "svdquant-4", "published", "keys-8"), "examples": 4})
    found = cost(replace(run, config=few), machine)
    tokens = (1 + ROWS["tensor"].passes + ROWS["svdquant-4"].passes) * 4 * 128
    assert (found.tokens, found.download) == (tokens, 93_000_000)
    assert found.flops == 2 * 134_515_008 * tokens
    assert found.footprint.weights == 3 * 4 * 134_515_008  # as opened, with plain linear layers, and of a row
    whole = cost(run, machine)
    assert 60 < whole.seconds < 3600
