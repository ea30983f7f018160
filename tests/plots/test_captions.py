from __future__ import annotations

from dataclasses import replace

import pytest

from reproduce.plots.captions import caption, in_millions, missing_notes, run_suffix, words

from .synthetic import Run, case, verdict

PLOT = {"kind": "lines", "y": [{"metric": "train_loss"}]}


def test_around_a_picture_stand_title_origin_notes_and_verdicts() -> None:
    experiment = case(PLOT, [Run("a", "A")], id="fig6", title="OP").resolved.experiment
    own_bound = replace(verdict("c1", "reproduced"), because="fewer steps")
    around = words(experiment, [own_bound], [], "laptop scale", ["no trace yet of OP"])
    assert around.title == "fig6 · OP"
    assert around.subtitle == "arXiv 2405.19279, v1 Figure 6, v2 Figure 9"
    assert around.notes == ["no trace yet of OP", "laptop bound of c1 (fewer steps)"]
    assert [chip.text for chip in around.chips] == ["✓ 1 of 1 claims reproduced: c1 (laptop bound)"]
    only_v2 = experiment.model_copy(update={"v1": None})
    assert words(only_v2, [], [], "").subtitle == "arXiv 2405.19279, v2 Figure 9"


def test_caption_says_scale_data_steps_and_seeds() -> None:
    one = case(PLOT, [Run("a", "A", seeds=3), Run("b", "B", seeds=3)], steps=2000)
    expected = "laptop scale · 0.42M parameters · data: Python 3.11 standard library · 2,000 steps · n = 3 seeds"
    assert caption(one.resolved, one.loaded) == expected


@pytest.mark.parametrize(
    ("count", "words"),
    [(119_400_000, "119M"), (99_600_000, "100M"), (15_738_880, "16M"), (6_830_000, "6.8M"), (41_000, "0.041M")],
)
def test_sizes_are_told_in_millions(count: int, words: str) -> None:
    assert in_millions(count) == words


def test_a_diverged_run_does_not_shorten_the_caption_s_steps() -> None:
    one = case(PLOT, [Run("a", "A"), Run("b", "B", fails_at=77)])
    assert "400 steps" in caption(one.resolved, one.loaded)
    alone = case(PLOT, [Run("b", "B", fails_at=77)])
    assert "77 steps" in caption(alone.resolved, alone.loaded)


def test_runs_with_different_seeds_say_so_each() -> None:
    one = case(PLOT, [Run("a", "A"), Run("b", "B", seeds=3)])
    assert "n = 1 to 3 seeds" in caption(one.resolved, one.loaded)
    assert run_suffix(["b"], one.loaded) == " (n = 3)"


def test_divergence_names_the_step_and_the_seeds() -> None:
    one = case(PLOT, [Run("a", "A", fails_at=70)], steps=3000)
    assert run_suffix(["a"], one.loaded) == " (diverged at step 70)"
    three = case(PLOT, [Run("a", "A", seeds=3, fails_at=1234)], steps=3000)
    assert run_suffix(["a"], three.loaded) == " (1 of 3 seeds diverged at step 1,234)"
    assert run_suffix(["other"], three.loaded) == ""


def test_missing_runs_are_listed_by_seed() -> None:
    one = case(PLOT, [Run("a", "A", seeds=2, trained=False), Run("b", "B", trained=False)])
    assert missing_notes(one.loaded.missing) == ["no trace yet of A (seed 0, 1), B (seed 0)"]
    assert missing_notes([]) == []
