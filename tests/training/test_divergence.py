"""When a training counts as failed."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest

from reproduce.cadence import log_every
from reproduce.config import RunConfig
from reproduce.store.home import shared_folder
from reproduce.store.runs import RunFolder
from reproduce.training.divergence import Divergence


def diverged(losses: Iterable[float], steps: int) -> int | None:
    """Index of the loss with which a run of `steps` steps has failed, or None for a run that trains."""
    rule = Divergence(steps)
    return next((index for index, loss in enumerate(losses) if rule.update(loss)), None)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_fails_at_once(bad: float) -> None:
    assert diverged([3.0, 2.0, bad, 2.0], steps=80_000) == 2


def test_a_run_that_trains_does_not_fail() -> None:
    assert diverged([6 / (1 + step / 100) for step in range(1_000)], steps=1_000) is None


def test_patience_is_the_papers_share_of_the_steps_and_at_least_ten() -> None:
    assert Divergence(80_000).patience == 1_000
    assert Divergence(79_999).patience == 999
    assert Divergence(2_000).patience == 25
    assert Divergence(20).patience == 10


def test_a_high_loss_must_last() -> None:
    low = [1.0] * 10
    assert diverged([*low, *[2.01] * 9, 2.0, *[2.01] * 9], steps=20) is None, (
        "2.0 is not above twice the smallest median"
    )
    assert diverged([*low, *[2.01] * 12], steps=20) == 19, "the tenth in a row"


def test_one_batch_of_easy_text_is_not_what_others_are_held_to() -> None:
    assert diverged([*[4.5] * 20, 1.5, *[4.5] * 30], steps=20) is None


def test_noise_near_zero_is_not_high() -> None:
    gained = [0.1] + [0.001] * 10
    assert diverged([*gained, *[0.025] * 30], steps=20) is None, "25 times the minimum, less than a quarter lost"
    assert diverged([*gained, *[0.026] * 30], steps=20) == 20


def test_high_means_above_the_smallest_median_so_far_not_of_all_time() -> None:
    assert diverged([5.0] * 50 + [1.0] * 10, steps=20) is None


def test_the_rule_resumes_from_its_fields() -> None:
    rule = Divergence(20)
    assert not any(rule.update(loss) for loss in [1.0] * 10 + [3.0] * 9)
    assert pickle.loads(pickle.dumps(rule)).update(3.0)


def test_gradients_that_are_never_finite_fail_a_run_whose_steps_are_skipped() -> None:
    rule = Divergence(20)
    assert [rule.update(3.0, skipped=True) for _ in range(10)] == [False] * 9 + [True]


def test_a_step_that_is_taken_in_between_forgives_the_skipped_ones() -> None:
    rule = Divergence(20)
    assert not any(rule.update(3.0, skipped=step != 9) for step in range(19))
    assert rule.update(3.0, skipped=True)


def shipped() -> list[Path]:
    return sorted(path.parent for path in shared_folder("figures").glob("*/traces/*/provenance.json"))


def test_the_rule_says_of_every_shipped_run_how_it_ended() -> None:
    said, recorded = {}, {}
    for folder in shipped():
        trace = pd.read_parquet(folder / "trace.parquet")
        losses = trace[(trace.split == "train") & (trace.metric == "loss")]
        config = RunFolder(folder).config()
        if isinstance(config, RunConfig) and log_every(config.last_step) > 1:
            continue  # its records are means over several steps
        assert losses.step.tolist() == list(range(len(losses))), "one record a step"
        said[folder.name] = diverged(losses.value, config.last_step)
        recorded[folder.name] = RunFolder(folder).provenance()["failed_step"]
    assert said == recorded
