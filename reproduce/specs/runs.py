"""The jobs of a figure under the names that the figure gives them, and how one job is made of another.

A job is a training, a measurement of a model, or a quantisation of one. The last two start from what a training has
left, or from a checkpoint that was trained elsewhere. `ResolvedRun` answers for all of them what plans, plots and
reports ask: how many layers the model has, which text or images it reads, up to which step it was trained. What only a
training has is in `training`, which is None for a checkpoint from elsewhere. Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from reproduce.choices import DEFAULT_SCALE
from reproduce.config import DataConfig, Precision, RunConfig
from reproduce.job_config import CheckpointParent, JobConfig, MeasureConfig, QuantiseConfig, RunParent, TextSample
from reproduce.keys import recipe_key, run_key
from reproduce.models.size import parameters
from reproduce.specs.schema import CheckpointSpec, Experiment, ModelSize, Scale


@dataclass(frozen=True)
class ResolvedRun:
    """One job under the name that figures give it: a training with one seed, or what starts from a model."""

    name: str
    label: str
    setting: str
    scale: str
    seed: int
    config: JobConfig
    paper_data: bool
    """Whether the job reads the paper's own data. If not, what it shows is badged as that of a substitute."""
    parent: ResolvedRun | None = None
    """The job whose result this one starts from: the training whose weights are measured."""
    checkpoint: CheckpointSpec | None = None
    """What the setting says of the model, where the job starts from one of the setting's checkpoints."""

    @property
    def training(self) -> RunConfig | None:
        """The configuration of the training that the job is or starts from; None for a checkpoint from elsewhere."""
        if isinstance(self.config, RunConfig):
            return self.config
        return None if self.parent is None else self.parent.training

    @property
    def data(self) -> DataConfig | TextSample:
        """What the job reads: the data of the training, or a text of its own."""
        own = None if isinstance(self.config, RunConfig) else self.config.text
        if own is not None:
            return own
        assert self.training is not None, "what starts from a checkpoint has a text of its own"
        return self.training.data

    @property
    def precision(self) -> Precision:
        """Type of the matrix products; that of the training for a quantisation, whose products have several."""
        if isinstance(self.config, QuantiseConfig):
            return "fp32" if self.training is None else self.training.precision
        return self.config.precision

    @property
    def last_step(self) -> int:
        """The last optimiser step of the training; of a checkpoint from elsewhere the one after which it was saved."""
        return self.config.last_step if self.training is None else self.training.last_step

    @property
    def layers(self) -> int | None:
        """Number of blocks of the model; None for a checkpoint of which nothing is known before it is opened."""
        if self.training is not None:
            return self.training.model.layers
        return None if self._size is None else self._size.layers

    @property
    def parameters(self) -> int | None:
        """Number of the model's parameters; None where `layers` is."""
        if self.training is not None:
            return parameters(self.training)
        return None if self._size is None else self._size.parameters

    @property
    def _size(self) -> ModelSize | None:
        return None if self.checkpoint is None else self.checkpoint.size

    @property
    def stands_for(self) -> str:
        """What of the paper's the model stands in for; empty if it stands for nothing but itself.

        A checkpoint stands in for models that the paper measures. The paper quantises none from elsewhere.
        """
        stands_in = self.checkpoint is not None and not isinstance(self.config, QuantiseConfig)
        return self.checkpoint.stands_for if self.checkpoint is not None and stands_in else ""

    @cached_property
    def key(self) -> str:
        return run_key(self.config)

    @cached_property
    def recipe(self) -> str:
        if self.training is None:
            return recipe_key(self.config)
        return recipe_key(self.training, *([] if isinstance(self.config, RunConfig) else [self.config]))

    @property
    def slug(self) -> str:
        """The name of the run for people: `cp-op-laptop-s0`, or `cp-op-laptop-s0-at-20` for it after 20 steps.

        A checkpoint has neither a scale nor a seed, and its own name: `pythia-160m-step1000-measured`.
        """
        if isinstance(self.config, RunConfig):
            return f"{self.name}-{self.scale}-s{self.seed}"
        if isinstance(self.config.parent, CheckpointParent):
            return f"{checkpoint_name(self.config.parent)}{self.config.slug_suffix}"
        return f"{self.name}-{self.scale}-s{self.seed}{self.config.slug_suffix}"


def checkpoint_name(parent: CheckpointParent) -> str:
    """The name of a checkpoint with its revision, as the name of a folder has it: `pythia-160m-step1000`."""
    said = "-".join(filter(None, (parent.name.rpartition("/")[2], parent.revision)))
    return re.sub(r"[^\w.-]+", "-", said).lstrip(".")


@dataclass(frozen=True)
class Guest:
    """A line that a user draws into a figure whose spec does not name it. Claims do not read it."""

    name: str
    label: str
    setting: str
    seed: int
    last_step: int
    training: RunConfig | None
    """Its configuration; None for a trace that another program wrote."""
    scale: str = ""
    """The scale that the run was trained at; empty for a trace that another program wrote."""


@dataclass(frozen=True)
class Resolved:
    """An experiment at one scale."""

    experiment: Experiment
    scale: Scale
    runs: tuple[ResolvedRun, ...]
    """The runs that the figure shows, in its order, with the seeds of a run together."""
    extra: tuple[ResolvedRun, ...]
    """Further runs that only the claims read."""
    guests: tuple[Guest, ...] = ()
    """Lines that the user adds to the picture."""

    @property
    def lines(self) -> tuple[ResolvedRun | Guest, ...]:
        """All that the picture shows: the figure's own runs, then the guests."""
        return (*self.runs, *self.guests)

    def is_shown(self, trace_of: Callable[[ResolvedRun], object]) -> bool:
        """Whether the figure is shown at its scale where nobody asks for it by name: most of its runs have a trace.

        One trace is not enough. It may have been made for another figure, and every figure with that run would be shown
        at its scale. A figure without runs is the same at each scale, so that it is shown at the default scale alone.

        Args:
            trace_of: gives the trace of a run, or None if there is none.
        """
        if not self.runs:
            return self.experiment.kind == "diagram" and self.scale == DEFAULT_SCALE
        return sum(trace_of(run) is not None for run in self.runs) > len(self.runs) / 2


# ---------------------------------------------------------------------------------------------------
# Jobs that start from another job, or from a checkpoint


def measurement(training: ResolvedRun, step: int, examples: int | None = None, point: str | None = None) -> ResolvedRun:
    """The job that measures what `training` was after `step` of its steps.

    Args:
        examples, point: as in `MeasureConfig`; as in the probes of the training if None. With both as they are there,
            the measurement gives the numbers that the training recorded at that step.
    """
    run = _training_of(training)
    config = MeasureConfig.model_validate(
        {
            "parent": {"key": training.key, "step": step},
            "examples": examples or run.probe.batch_size,
            "point": point or run.probe.point,
            "precision": run.precision,
        }
    )
    return replace(training, config=config, parent=training)


def quantisation(training: ResolvedRun, step: int, examples: int | None = None, **config: Any) -> ResolvedRun:
    """The job that quantises what `training` was after `step` of its steps.

    Args:
        examples: held-out sequences of the evaluation; those of the training's own evaluations if None.
        config: further fields of `QuantiseConfig`.
    """
    run = _training_of(training)
    whole = run.eval.batches * run.batch_size
    fields = {"parent": {"key": training.key, "step": step}, "examples": examples or whole, **config}
    return replace(training, config=QuantiseConfig.model_validate(fields), parent=training)


def checkpoint_quantisation(parent: CheckpointParent, text: TextSample, examples: int, **config: Any) -> ResolvedRun:
    """The job that quantises a checkpoint and evaluates it on a text.

    Args:
        examples: number of sequences of the evaluation.
        config: further fields of `QuantiseConfig`.
    """
    measured = checkpoint_measurement(parent, text, examples)
    return replace(measured, config=QuantiseConfig(parent=parent, text=text, examples=examples, **config))


def checkpoint_measurement(
    parent: CheckpointParent | RunParent,
    text: TextSample,
    examples: int,
    *,
    training: ResolvedRun | None = None,
    **config: Any,
) -> ResolvedRun:
    """The job that measures a checkpoint, or the weights of a training, on a text.

    Args:
        examples: number of sequences.
        training: the run that `parent` names, if it names one.
        config: further fields of `MeasureConfig`.
    """
    measured = MeasureConfig(parent=parent, text=text, examples=examples, **config)
    if training is not None:
        return replace(training, config=measured, parent=training)
    assert isinstance(parent, CheckpointParent)
    own = checkpoint_name(parent)
    return ResolvedRun(own, own, "", "", 0, measured, paper_data=True)


def _training_of(run: ResolvedRun) -> RunConfig:
    assert run.training is not None, "only a training keeps weights to start from"
    return run.training
