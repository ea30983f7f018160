"""From an experiment and a scale to runs: every value of every training, in its final place.

A run's configuration is laid up in this order, the later over the earlier, nested keys merging:

    setting.base < setting.scales[scale] < block variant < run < run.at[scale] < overrides

The block variant is the last `block` named in any layer: its choices (`reproduce.models.variants`), then what
the setting says of it in `blocks`. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from pydantic import ValidationError

from reproduce.checkpoints.anchors import anchored
from reproduce.config import DataConfig, Precision, RunConfig
from reproduce.errors import OfeError, SpecError
from reproduce.job_config import CheckpointParent, RunParent, TextSample
from reproduce.machine import Machine, best_precision, this_machine
from reproduce.models.variants import variant_fields
from reproduce.specs.fields import deviation_fields
from reproduce.specs.load import catalogue, load_setting
from reproduce.specs.overrides import parse_overrides
from reproduce.specs.problems import explain, nearest
from reproduce.specs.runs import (
    Resolved,
    ResolvedRun,
    checkpoint_measurement,
    checkpoint_quantisation,
    measurement,
    quantisation,
)
from reproduce.specs.schema import (
    CheckpointSpec,
    CheckpointText,
    Experiment,
    Quantised,
    RunRef,
    RunSpec,
    Scale,
    Setting,
    Snapshots,
)
from reproduce.specs.yaml import dotted

Identified = DataConfig | TextSample | CheckpointParent
"""What a job reads, whose hash or commit is part of its key."""
Fingerprint = Callable[[Identified], str]


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
    shown = [entry for entry in shown_runs(experiment) if _has_scale(entry[1], scale)]
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

    def jobs(entries: list[_Entry]) -> tuple[ResolvedRun, ...]:
        found: list[ResolvedRun] = []
        for setting, spec, ref in entries:
            run = spec if isinstance(spec, RunSpec) else _run_of(setting, spec)
            if run is None:
                assert isinstance(spec, CheckpointSpec)
                found += _checkpoints(experiment, setting, spec, ref, scale, changes, hashes)
                continue
            seeded = _seeds(experiment, setting, run, ref, scale, changes, seeds, hashes, precision)
            if isinstance(spec, CheckpointSpec):
                found += [one for training in seeded for one in _exported(setting, spec, ref, training, scale, hashes)]
            else:
                found += seeded
        return tuple(found)

    return Resolved(experiment, scale, jobs(shown), jobs(needed))


def fingerprint_of(read: Identified) -> str:
    """The hash of data or of a text, or the commit of a checkpoint on the hub, which is recorded at its first use.

    Raises:
        OfeError: they cannot be had.
    """
    from reproduce.data import fingerprint
    from reproduce.data.commits import pinned_commit
    from reproduce.data.text.sample import identified

    if isinstance(read, CheckpointParent):
        assert read.form == "hub", "the fingerprint of a local checkpoint is known when its place is"
        return pinned_commit(read.name, read.revision)
    return identified(read).fingerprint if isinstance(read, TextSample) else fingerprint(read)


def fingerprint_if_any(read: Identified) -> str:
    """The same, or "" where it cannot be had without asking the network. It serves commands that only look."""
    from reproduce.data.commits import recorded_commit

    if isinstance(read, CheckpointParent):
        return recorded_commit(read.name, read.revision)
    try:
        return fingerprint_of(read)
    except OfeError:
        return ""


# ---------------------------------------------------------------------------------------------------
# Which runs

_Entry = tuple[Setting, RunSpec | CheckpointSpec, RunRef]


def shown_runs(experiment: Experiment) -> Iterator[_Entry]:
    """The figure's runs and checkpoints. An experiment without a setting has none: there is nothing to train."""
    if not experiment.settings:
        return
    settings = [load_setting(name) for name in experiment.settings]
    named = {run.name: (setting, run) for setting in settings for run in setting.catalogue}
    for entry in experiment.runs:
        if isinstance(entry, RunSpec):
            yield settings[0], entry, RunRef(name=entry.name)
        else:
            ref = RunRef(name=entry) if isinstance(entry, str) else entry
            yield (*named[ref.name], ref)


def _has_scale(spec: RunSpec | CheckpointSpec, scale: Scale) -> bool:
    return isinstance(spec, RunSpec) or scale in spec.steps


def _run_of(setting: Setting, checkpoint: CheckpointSpec) -> RunSpec | None:
    """The run whose weights are the checkpoints; None for a model from elsewhere."""
    return next((run for run in setting.runs if run.name == checkpoint.run), None)


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
    for step in sorted({round(part * training.last_step) for part in wanted.at}):
        yield measurement(training, step, wanted.examples, wanted.point)


def _checkpoints(
    experiment: Experiment,
    setting: Setting,
    spec: CheckpointSpec,
    ref: RunRef,
    scale: Scale,
    changes: Mapping[str, Any],
    fingerprint: Fingerprint,
) -> Iterator[ResolvedRun]:
    """The measurements of a model from elsewhere, or its quantisations, one for each of its steps."""
    if changes:
        raise SpecError(
            f"{experiment.id} at {scale}: --set changes trainings, and {spec.name} is a checkpoint from elsewhere",
            hint="leave out --set, or choose a scale at which the figure shows runs of ours alone",
        )
    text = setting.text_at(scale)
    sample = _sample(text, fingerprint)
    for step in sorted(spec.steps[scale]):
        parent = _located(spec, step)
        if parent.form == "hub":
            parent = parent.model_copy(update={"fingerprint": fingerprint(parent)})
        if ref.quantised is not None:
            fields = ref.quantised.model_dump(exclude={"examples"})
            job = checkpoint_quantisation(parent, sample, ref.quantised.examples or text.examples, **fields)
        else:
            job = checkpoint_measurement(
                parent, sample, text.examples, skip_first=text.skip_first, correlations=text.correlations
            )
        yield replace(
            job,
            name=spec.name,
            label=spec.label if ref.label is None else ref.label,
            setting=setting.id,
            scale=scale,
            checkpoint=spec,
            paper_data=setting.is_paper_data(text.source),
        )


def _located(spec: CheckpointSpec, step: int) -> CheckpointParent:
    if spec.hub is not None:
        revision = spec.revision.format(step=step)
        return CheckpointParent(form="hub", name=spec.hub, revision=revision, step=step, allow_pickle=spec.allow_pickle)
    return anchored(str(spec.anchor)).model_copy(update={"step": step})


def _exported(
    setting: Setting,
    spec: CheckpointSpec,
    ref: RunRef,
    training: ResolvedRun,
    scale: Scale,
    fingerprint: Fingerprint,
) -> Iterator[ResolvedRun]:
    """The measurements of what a run of ours was on its way, each written as a checkpoint and opened as one."""
    text = setting.text_at(scale)
    sample = _sample(text, fingerprint)
    steps = sorted({min(step, training.last_step) for step in spec.steps[scale]})
    for step in steps:
        measured = checkpoint_measurement(
            RunParent(key=training.key, step=step),
            sample,
            text.examples,
            training=training,
            skip_first=text.skip_first,
            correlations=text.correlations,
            exported=True,
        )
        yield replace(
            measured,
            name=spec.name,
            label=spec.label if ref.label is None else ref.label,
            checkpoint=spec,
            paper_data=training.paper_data and setting.is_paper_data(text.source),
        )


def _sample(text: CheckpointText, fingerprint: Fingerprint) -> TextSample:
    sample = TextSample(source=text.source, seq_len=text.seq_len)
    return sample.model_copy(update={"fingerprint": fingerprint(sample)})


def _quantised(training: ResolvedRun, wanted: Quantised) -> ResolvedRun:
    """The quantisation of the weights that `training` ends with, as a figure asks for it."""
    fields = wanted.model_dump(exclude={"examples"})
    return quantisation(training, training.last_step, wanted.examples, **fields)


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
