"""At which steps something is kept."""

from __future__ import annotations

from itertools import product

from reproduce.cadence import MOMENT_RATIO, TRAIN_RECORDS, evaluation_steps, log_every, moment_steps, probe_steps


def test_early_steps_are_powers_of_two_then_the_cadence_then_the_last() -> None:
    assert probe_steps(2_000, 500) == [0, 1, 2, 4, 8, 16, 32, 64, 500, 1_000, 1_500, 2_000]
    assert probe_steps(20, 5) == [0, 1, 2, 4, 5, 10, 15, 20]
    assert probe_steps(3, 100) == [0, 1, 2, 3]
    assert probe_steps(1, 1) == [0, 1]


def test_probes_are_those_of_both_rules_that_there_were() -> None:
    """Training drew the early steps up to `every` and cut at the last; planning drew them up to the smaller of both."""
    for last, every in product([*range(1, 80), 1_000], [*range(1, 80), 128, 1_000, 10**6]):
        powers = [1 << n for n in range(7)]
        cut = {0, *(n for n in powers if n < every), *range(every, last, every), last} & set(range(last + 1))
        bounded = {0, *(n for n in powers if n < min(every, last)), *range(every, last, every), last}
        assert probe_steps(last, every) == sorted(cut) == sorted(bounded), (last, every)


def test_moments_are_those_of_both_rules_that_there_were() -> None:
    """Planning thinned what lies between the first and the last probe, and counted these two beside it."""
    for last, every in product([*range(1, 80), 1_000], [*range(1, 80), 128, 1_000]):
        thinned: list[int] = []
        for step in probe_steps(last, every)[1:-1]:
            if not thinned or step >= 1.35 * thinned[-1]:
                thinned.append(step)
        assert moment_steps(last, every) == [0, *thinned, last], (last, every)


def test_second_moments_are_kept_at_a_few_dozen_steps_among_the_probed_ones() -> None:
    kept = moment_steps(80_000, 100)
    assert set(kept) < set(probe_steps(80_000, 100))
    assert {0, 80_000} < set(kept)
    assert 15 < len(kept) < 40


def test_a_step_at_the_least_ratio_exactly_is_kept() -> None:
    assert MOMENT_RATIO * 1_020 == 1_377
    kept = moment_steps(2_000, 1)
    assert kept[kept.index(1_020) + 1] == 1_377


def test_evaluations_include_the_first_and_the_last_step() -> None:
    assert evaluation_steps(20, 10) == [0, 10, 20]
    assert evaluation_steps(25, 10) == [0, 10, 20, 25]
    assert evaluation_steps(3, 10) == [0, 3]
    for last, every in product(range(1, 50), range(1, 60)):
        looped = [step for step in range(last + 1) if step % every == 0 or step == last]
        assert evaluation_steps(last, every) == looped


def test_records_of_training_stay_below_four_thousand() -> None:
    assert TRAIN_RECORDS == 4_000
    assert [log_every(steps) for steps in (20, 4_000, 4_001, 80_000)] == [1, 1, 2, 20]
