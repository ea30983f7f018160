"""From an experiment and a scale to runs: every value of every training, in its final place.

A run's configuration is laid up in this order, the later over the earlier, nested keys merging:

    setting.base < setting.scales[scale] < block variant < run < run.at[scale] < overrides

The block variant is the last `block` named in any layer: its choices (`reproduce.models.variants`), then what
the setting says of it in `blocks`. Nothing here imports torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from pydantic import ValidationError

from reproduce.config import DataConfig, Precision, RunConfig
from reproduce.errors import OfeError, SpecError
from reproduce.job_config import CheckpointParent, JobConfig, MeasureConfig, QuantiseConfig, RunParent, TextSample
from reproduce.keys import recipe_key, run_key
from reproduce.machine import Machine, best_precision, this_machine
from reproduce.models.variants import variant_fields
from reproduce.specs.fields import deviation_fields
from reproduce.specs.load import catalogue, load_setting
from reproduce.specs.overrides import parse_overrides
from reproduce.specs.problems import explain, nearest
from reproduce.specs.schema import Experiment, Quantised, RunRef, RunSpec, Scale, Setting, Snapshots
from reproduce.specs.yaml import dotted

Fingerprint = Callable[[DataConfig], str]


@dataclass(frozen=True)
class ResolvedRun:
    """One job under the name that figures give it: a training with one seed, or a measurement of one."""

    name: str
    label: str
    setting: str
    scale: str
    seed: int
    config: JobConfig
    paper_data: bool
    """Whether the run trains on the paper's own data. If not, what it shows is badged as that of a substitute."""
    parent: ResolvedRun | None = None
    """The job whose result this one starts from: the training whose weights are measured."""

    @property
    def trained(self) -> bool:
        """Whether the job is a training of ours, or starts from one. What starts from a checkpoint does not."""
        return isinstance(self.config, RunConfig) or (self.parent is not None and self.parent.trained)

    @property
    def training(self) -> RunConfig:
        """The configuration of the training, which is the job or what it descends from; see `trained`."""
        if isinstance(self.config, RunConfig):
            return self.config
        assert self.parent is not None, "what starts from a checkpoint has no training"
        return self.parent.training

    @property
    def last_step(self) -> int:
        """The last optimiser step of the training."""
        return self.training.last_step

    @cached_property
    def key(self) -> str:
        return run_key(self.config)

    @cached_property
    def recipe(self) -> str:
        if not self.trained:
            return recipe_key(self.config)
        return recipe_key(self.training, *([] if isinstance(self.config, RunConfig) else [self.config]))

    @property
    def slug(self) -> str:
        """The name of the run for people: `cp-op-laptop-s0`, or `cp-op-laptop-s0-at-20` for it after 20 steps.

        A checkpoint has neither a scale nor a seed: `pythia-160m-step1000-measured`.
        """
        suffix = "" if isinstance(self.config, RunConfig) else self.config.slug_suffix
        if not self.trained:
            return f"{self.name}{suffix}"
        return f"{self.name}-{self.scale}-s{self.seed}{suffix}"


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


def resolve(
    experiment: Experiment,
    scale: Scale,
    *,
    overrides: Sequence[str] = (),
    seeds: int | None = None,
    only_runs: Sequence[str] | None = None,
    fingerprint: Fingerprint | None = None,
    machine: Machine | None = None,
) -> Resolved:
    """The runs of `experiment` at `scale`.

    Args:
        overrides: `key=value` items laid over every run.
        seeds: seeds of every run, in place of the figure's own number and of the scale's limit.
        only_runs: names of the runs wanted; all if None.
        fingerprint: gives the hash of a run's data; by default `fingerprint_of`, whose errors come through. Those
             that need an answer even without the data pass `fingerprint_if_any`.
        machine: decides what the precision `auto` is; this one if None.

    Raises:
        SpecError: if a value is missing or wrong, naming experiment, run and field.
        OfeError: if data cannot be had.
    """
    changes = parse_overrides(overrides)
    shown = list(shown_runs(experiment))
    needed = list(_needed(experiment, {run.name for _, run, _ in shown}))
    if only_runs is not None:
        names = [run.name for _, run, _ in (*shown, *needed)]
        for name in only_runs:
            if name not in names:
                close = nearest(name, names)
                hint = f"did you mean {close}?" if close else f"it has {', '.join(names)}"
                raise SpecError(f"{experiment.id} has no run {name}", hint=hint)
        shown = [entry for entry in shown if entry[1].name in only_runs]
        needed = [entry for entry in needed if entry[1].name in only_runs]
    hashes = cache(fingerprint or fingerprint_of)
    precision = best_precision(machine or this_machine())

    def trainings(entries: list[_Entry]) -> tuple[ResolvedRun, ...]:
        return tuple(
            run
            for setting, spec, ref in entries
            for run in _seeds(experiment, setting, spec, ref, scale, changes, seeds, hashes, precision)
        )

    return Resolved(experiment, scale, trainings(shown), trainings(needed))


def fingerprint_of(data: DataConfig) -> str:
    """The hash of the data.

    Raises:
        OfeError: they cannot be had.
    """
    from reproduce.data import fingerprint

    return fingerprint(data)


def fingerprint_if_any(data: DataConfig) -> str:
    """The hash of the data, or "" where the data cannot be had. It serves commands that only look."""
    try:
        return fingerprint_of(data)
    except OfeError:
        return ""


# ---------------------------------------------------------------------------------------------------
# Which runs

_Entry = tuple[Setting, RunSpec, RunRef]


def shown_runs(experiment: Experiment) -> Iterator[_Entry]:
    """The figure's runs. An experiment without a setting has none, since there is nothing to train."""
    if not experiment.settings:
        return
    settings = [load_setting(name) for name in experiment.settings]
    named = {run.name: (setting, run) for setting in settings for run in setting.runs}
    for entry in experiment.runs:
        if isinstance(entry, RunSpec):
            yield settings[0], entry, RunRef(name=entry.name)
        else:
            ref = RunRef(name=entry) if isinstance(entry, str) else entry
            yield (*named[ref.name], ref)


def _needed(experiment: Experiment, shown: set[str]) -> Iterator[_Entry]:
    names = dict.fromkeys(name for claim in experiment.claims for name in claim.needs if name not in shown)
    if names:
        runs = catalogue(experiment)
        for name in names:
            yield (*runs[name], RunRef(name=name))


def _seeds(
    experiment: Experiment,
    setting: Setting,
    run: RunSpec,
    ref: RunRef,
    scale: Scale,
    changes: Mapping[str, Any],
    seeds: int | None,
    fingerprint: Fingerprint,
    precision: Precision,
) -> Iterator[ResolvedRun]:
    where = f"{experiment.id}, run {run.name} at {scale}"
    config = _configure(where, setting, run, scale, changes, fingerprint, precision)
    limit = setting.scales[scale].seeds
    count = seeds if seeds is not None else min(ref.seeds, limit or ref.seeds)
    label = ref.label if ref.label is not None else run.label
    own = setting.is_paper_data(config.data.source)
    for seed in range(count):
        seeded = config.model_copy(update={"seed": seed})
        training = ResolvedRun(run.name, label, setting.id, scale, seed, seeded, own)
        if ref.quantised is not None:
            yield _quantised(training, ref.quantised)
        elif ref.measured is not None:
            yield from _snapshots(training, ref.measured)
        else:
            yield training


def _snapshots(training: ResolvedRun, wanted: Snapshots) -> Iterator[ResolvedRun]:
    """The measurements of `training` at the parts of its steps that a figure names, each step once and in order."""
    last_step = training.training.last_step
    for step in sorted({round(part * last_step) for part in wanted.at}):
        yield measurement(training, step, wanted.examples, wanted.point)


def measurement(training: ResolvedRun, step: int, examples: int | None = None, point: str | None = None) -> ResolvedRun:
    """The job that measures what `training` was after `step` of its steps.

    Args:
        examples, point: as in `MeasureConfig`; as in the probes of the training if None. With both as they are there,
            the measurement gives the numbers that the training recorded at that step.
    """
    probe = training.training.probe
    config = MeasureConfig.model_validate(
        {
            "parent": {"key": training.key, "step": step},
            "examples": examples or probe.batch_size,
            "point": point or probe.point,
            "precision": training.training.precision,
        }
    )
    return replace(training, config=config, parent=training)


def _quantised(training: ResolvedRun, wanted: Quantised) -> ResolvedRun:
    """The quantisation of the weights that `training` ends with, as a figure asks for it."""
    fields = wanted.model_dump(exclude={"examples"})
    return quantisation(training, training.training.last_step, wanted.examples, **fields)


def quantisation(training: ResolvedRun, step: int, examples: int | None = None, **config: Any) -> ResolvedRun:
    """The job that quantises what `training` was after `step` of its steps.

    Args:
        examples: held-out sequences of the evaluation; those of the training's own evaluations if None.
        config: further fields of `QuantiseConfig`.
    """
    run = training.training
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
    name: str | None = None,
    label: str | None = None,
    setting: str = "",
    scale: str = "",
    **config: Any,
) -> ResolvedRun:
    """The job that measures a checkpoint, or the weights of a training, on a text.

    Args:
        examples: number of sequences.
        training: the run that `parent` names, if it names one.
        name: how figures call it; by default its own name with its revision.
        setting, scale: those of the figure that shows it.
        config: further fields of `MeasureConfig`.
    """
    measured = MeasureConfig(parent=parent, text=text, examples=examples, **config)
    if training is not None:
        return replace(training, config=measured, parent=training)
    assert isinstance(parent, CheckpointParent)
    own = re.sub(r"[^\w.-]+", "-", "-".join(filter(None, (parent.name.rpartition("/")[2], parent.revision)))).lstrip(
        "."
    )
    return ResolvedRun(name or own, label or own, setting, scale, 0, measured, paper_data=True)


# ---------------------------------------------------------------------------------------------------
# What a run is


def _configure(
    where: str,
    setting: Setting,
    run: RunSpec,
    scale: Scale,
    changes: Mapping[str, Any],
    fingerprint: Fingerprint,
    precision: Precision,
) -> RunConfig:
    """The configuration of one run; `precision` is what `auto` means on the machine at hand."""
    if scale not in setting.scales:
        raise SpecError(
            f"{where}: setting {setting.id} has no scale {scale}", hint=f"it has {', '.join(setting.scales)}"
        )
    beneath = [deviation_fields(setting.base), deviation_fields(setting.scales[scale])]
    above = [deviation_fields(run), *(deviation_fields(run.at[at]) for at in run.at if at == scale), changes]
    tree = merge(*beneath, *_variant(where, setting, beneath + above), *above)
    tree.pop("block", None)
    if tree.get("precision") == "auto":
        tree["precision"] = precision
    try:
        config = RunConfig.model_validate(tree)
    except ValidationError as error:
        problems = explain(error, RunConfig)
        raise SpecError(
            "\n".join(f"{where}: {': '.join(filter(None, (dotted(p.path), p.text)))}" for p in problems),
            hint="; ".join(p.hint for p in problems if p.hint) or None,
        ) from None
    return config.model_copy(update={"data": config.data.model_copy(update={"fingerprint": fingerprint(config.data)})})


def _variant(where: str, setting: Setting, layers: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The layers of the block variant that the last of `layers` to name one names."""
    said = merge(*layers)
    block, kind = said.get("block"), said.get("model", {}).get("kind", "transformer")
    if block is None:
        return []
    try:
        return [
            {"model": variant_fields(block, kind)},
            {"model": {"block": setting.blocks[block]}} if block in setting.blocks else {},
        ]
    except ValueError as error:
        raise SpecError(f"{where}: block: {error}") from None


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers laid over one another, the last on top. Mappings merge by key, anything else is replaced."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                beneath = merged.get(key)
                merged[key] = merge(beneath if isinstance(beneath, Mapping) else {}, value)
            else:
                merged[key] = value
    return merged
