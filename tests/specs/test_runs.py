"""What plans, plots and reports ask of a job, answered for each kind of job and of model."""

from __future__ import annotations

import pytest

from reproduce.choices import SCALES, Scale
from reproduce.job_config import CheckpointParent, MeasureConfig, QuantiseConfig, RunParent, TextSample
from reproduce.specs.load import load_experiment
from reproduce.specs.resolve import resolve
from reproduce.specs.runs import ResolvedRun, checkpoint_measurement, checkpoint_quantisation, measurement, quantisation

NEOX = CheckpointParent(form="hub", name="EleutherAI/pythia-160m", revision="step1000", step=1000)

METHODS = "quantise-methods"


def training() -> ResolvedRun:
    return resolve(load_experiment("fig2"), "smoke", fingerprint=lambda data: "").runs[0]


def by_kind() -> dict[str, ResolvedRun]:
    run, text = training(), TextSample(seq_len=32)
    on_text = checkpoint_measurement(RunParent(key=run.key, step=5), text, 2, training=run)
    return {
        "training": run,
        "measured": measurement(run, 5),
        "on text": on_text,
        "quantised": quantisation(run, 20, rows=("published",)),
        "checkpoint": checkpoint_measurement(NEOX, text, 2),
        "checkpoint quantised": checkpoint_quantisation(NEOX, text, 2, rows=("weights",)),
    }


@pytest.mark.parametrize(
    ("kind", "slug", "last_step", "source", "layers"),
    [
        ("training", "cp-preln-smoke-s0", 20, "python-stdlib", 2),
        ("measured", "cp-preln-smoke-s0-at-5", 20, "python-stdlib", 2),
        ("on text", "cp-preln-smoke-s0-at-5-on-prose-and-code", 20, "prose-and-code", 2),
        ("quantised", "cp-preln-smoke-s0-quantised-at-20", 20, "python-stdlib", 2),
        ("checkpoint", "pythia-160m-step1000-measured", 1000, "prose-and-code", None),
        ("checkpoint quantised", "pythia-160m-step1000-quantised", 1000, "prose-and-code", None),
    ],
)
def test_every_kind_of_job_answers(kind: str, slug: str, last_step: int, source: str, layers: int | None) -> None:
    run = by_kind()[kind]
    assert (run.slug, run.last_step, run.data.source, run.layers) == (slug, last_step, source, layers)
    assert (run.training is None) == kind.startswith("checkpoint")
    assert (run.parameters is None) == (layers is None)
    assert run.precision == "fp32"


def test_what_a_setting_says_of_a_checkpoint_answers_for_it() -> None:
    runs = resolve(load_experiment("fig1"), "paper", fingerprint=lambda read: "").runs
    found = {run.name: (run.layers, run.parameters, run.stands_for) for run in runs}
    assert found == {
        "pythia-70m": (6, 70_426_624, ""),
        "pythia-160m": (12, 162_322_944, ""),
        "pythia-410m": (24, 405_334_016, ""),
    }
    assert {run.slug for run in runs} >= {"pythia-70m-step0-measured", "pythia-410m-step143000-measured"}


def test_a_figure_is_shown_where_most_of_its_runs_have_a_trace() -> None:
    figure = resolve(load_experiment("fig2"), "smoke", fingerprint=lambda data: "")
    assert len(figure.runs) == 5

    def shown(number: int) -> bool:
        traced = figure.runs[:number]
        return figure.is_shown(lambda run: "trace" if run in traced else None)

    assert [shown(number) for number in (0, 1, 2, 3, 5)] == [False, False, False, True, True]


def test_a_drawing_is_shown_at_the_default_scale_alone() -> None:
    drawing = load_experiment("fig3")
    shown = {scale: resolve(drawing, scale, fingerprint=lambda data: "").is_shown(lambda run: None) for scale in SCALES}
    assert shown == {"smoke": False, "laptop": True, "workstation": False, "paper": False}


def test_a_figure_quantises_a_checkpoint_on_the_text_of_its_setting() -> None:
    """SmolLM2 in `quantise-methods`: checkpoint and text are those of fig1, where it is measured in place of Pythia."""
    figures = {
        name: resolve(load_experiment(name), "laptop", fingerprint=lambda read: "") for name in ("fig1", METHODS)
    }
    measured, quantised = (next(run for run in one.runs if run.name == "smollm2") for one in figures.values())
    ours, theirs = quantised.config, measured.config
    assert isinstance(ours, QuantiseConfig)
    assert isinstance(theirs, MeasureConfig)
    assert (ours.parent, ours.text, ours.widths) == (theirs.parent, theirs.text, ())
    assert ours.examples + ours.calibration_batches * ours.calibration_batch_size <= theirs.examples
    others = [run.config for run in figures[METHODS].runs if run.name != "smollm2"]
    assert all(isinstance(other, QuantiseConfig) and other.rows == ours.rows for other in others)
    assert (quantised.layers, quantised.parameters) == (30, 134_515_008)
    assert (measured.stands_for, quantised.stands_for) == ("Pythia", "")
    assert quantised.slug == "SmolLM2-135M-Instruct.Q4_1.gguf-quantised"


@pytest.mark.parametrize("scale", ["smoke", "workstation", "paper"])
def test_a_figure_leaves_a_checkpoint_out_at_scales_that_its_setting_does_not_name(scale: Scale) -> None:
    runs = resolve(load_experiment(METHODS), scale, fingerprint=lambda read: "").runs
    assert [run.name for run in runs if run.training is None] == []
    assert len(runs) == 6
