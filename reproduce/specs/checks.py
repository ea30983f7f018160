"""What must hold between the parts of a spec: names are known and unique, and every value says where it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, assert_never

from reproduce.checkpoints.anchors import ANCHORS
from reproduce.metrics.table import METRICS, Form, terms
from reproduce.models.variants import VARIANTS
from reproduce.specs.claims import claim_problems, quantities
from reproduce.specs.facets import LineOf, facet_problems
from reproduce.specs.fields import check_tree, deviation_fields
from reproduce.specs.problems import Problem, nearest, unknown
from reproduce.specs.schema import (
    CheckpointSpec,
    Claim,
    Deviation,
    DiagramPlot,
    Experiment,
    LinePlot,
    MethodsPlot,
    Plot,
    Quantity,
    RunRef,
    RunSpec,
    Setting,
    TablePlot,
)
from reproduce.specs.yaml import Path, dotted

X_METRICS = ("step", "epoch")
"""What the x axis of curves may show."""

Catalogue = Mapping[str, tuple[Setting, RunSpec | CheckpointSpec]]
"""Every run that a setting names, with its setting."""


def setting_problems(setting: Setting, *, sourced: bool = True) -> Iterator[Problem]:
    """What is wrong with a setting that has the right shape.

    Args:
        sourced: whether it must say where every value comes from, as shipped settings do and a user's own need not.
    """
    yield from check_tree(deviation_fields(setting.base), ("base",))
    for scale, spec in setting.scales.items():
        yield from check_tree(deviation_fields(spec), ("scales", scale))
    for block, fields in setting.blocks.items():
        if block in VARIANTS:
            yield from check_tree(fields, ("blocks", block), "model.block")
        else:
            yield unknown("block", block, list(VARIANTS), ("blocks", block), at_key=True)
    for index, run in enumerate(setting.runs):
        yield from run_problems(run, ("runs", index))
    yield from _repeated((run.name for run in setting.runs), "runs", "name")
    yield from _checkpoint_problems(setting)
    if sourced and setting.paper_data is None:
        yield Problem(("paper_data",), "required, but missing")
    yield from _source_problems(setting, every=sourced)


def _checkpoint_problems(setting: Setting) -> Iterator[Problem]:
    """What is wrong with the checkpoints of a setting."""
    names = [run.name for run in setting.runs]
    for index, checkpoint in enumerate(setting.checkpoints):
        path: Path = ("checkpoints", index)
        if checkpoint.run is not None and checkpoint.run not in names:
            yield unknown("run", checkpoint.run, names, (*path, "run"))
        if checkpoint.anchor is not None and checkpoint.anchor not in ANCHORS:
            yield unknown("anchor", checkpoint.anchor, list(ANCHORS), (*path, "anchor"))
        for scale in checkpoint.steps:
            if scale not in setting.scales:
                yield Problem((*path, "steps", scale), f"the setting has no scale {scale}", at_key=True)
            elif (setting.scales[scale].text or setting.text) is None:
                yield Problem(path, "the setting has no text to measure it on, expected text")
    every = [*names, *(checkpoint.name for checkpoint in setting.checkpoints)]
    for index, name in enumerate(every[len(names) :]):
        if name in every[: len(names) + index]:
            yield Problem(("checkpoints", index, "name"), f"{name} is given twice")


def run_problems(run: RunSpec, path: Path = ()) -> Iterator[Problem]:
    """What is wrong with a run that has the right shape; `path` is its place in the file."""
    yield from check_tree(deviation_fields(run), path)
    for scale, deviation in run.at.items():
        yield from check_tree(deviation_fields(deviation), (*path, "at", scale))
    own = [run, *(deviation for scale, deviation in run.at.items() if scale == "paper")]
    values = [dotted(place) for layer in own for place, _ in _flat(deviation_fields(layer), ())]
    yield from _of_nothing(run.sources, values, path, "no value that the run sets at paper scale")


def _repeated(names: Iterable[str], section: str, field: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield Problem((section, index, field), f"{name} is given twice")
        seen.add(name)


def recipe_leaves(setting: Setting) -> dict[str, tuple[Path, Any]]:
    """Every value of `base` and `blocks`, by its path in `sources`, as its place in the file and the value."""
    base, blocks = _flat(deviation_fields(setting.base), ()), _flat(setting.blocks, ("blocks",))
    found = {dotted(path): (("base", *path), value) for path, value in base}
    return found | {dotted(path): (path, value) for path, value in blocks}


def _flat(tree: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, (*path, key))
        else:
            yield (*path, key), value


def covering(path: str, sources: Mapping[str, Any]) -> str | None:
    """The entry of `sources` that speaks for `path`, its own or that of its nearest parent; None if there is none."""
    while path and path not in sources:
        path = path.rpartition(".")[0]
    return path or None


def _source_problems(setting: Setting, *, every: bool) -> Iterator[Problem]:
    values = recipe_leaves(setting)
    for path, (place, _) in values.items():
        if every and covering(path, setting.sources) is None:
            yield Problem(place, f"no source given, expected an entry {path} in sources")
    yield from _of_nothing(setting.sources, values, (), "no value of base or blocks")


def _of_nothing(sources: Iterable[str], values: Iterable[str], path: Path, nothing: str) -> Iterator[Problem]:
    """A problem for each entry of `sources` that speaks for none of the values."""
    for entry in sources:
        if not any(value == entry or value.startswith(f"{entry}.") for value in values):
            yield Problem((*path, "sources", entry), f"names {nothing}", nearest(entry, values), at_key=True)


def experiment_problems(experiment: Experiment, catalogue: Catalogue, settings: Sequence[str]) -> Iterator[Problem]:
    """What is wrong with an experiment that has the right shape.

    Args:
        settings: ids of its settings.
    """
    names = [run if isinstance(run, str) else run.name for run in experiment.runs]
    if settings:  # without a setting there is nothing to train: the runs are public checkpoints, or none
        for index, run in enumerate(experiment.runs):
            yield from _entry_problems(run, ("runs", index), settings, catalogue)
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem(("runs", index), f"{name} is given twice")
    yield from _repeated((claim.id for claim in experiment.claims), "claims", "id")
    for index, claim in enumerate(experiment.claims):
        yield from _claim_problems(claim, ("claims", index), names, catalogue)
        for problem in claim_problems(claim):
            yield replace(problem, path=("claims", index, *problem.path))
    yield from _metric_problems(experiment.plot)
    if isinstance(experiment.plot, MethodsPlot):
        yield from _row_problems(experiment.runs, experiment.plot)
    yield from _layer_problems(experiment, catalogue, settings)
    if isinstance(experiment.plot, LinePlot):
        yield from facet_problems(experiment.plot, _lines(experiment, catalogue, settings))


def _metric_problems(plot: Plot) -> Iterator[Problem]:
    """Axes and columns of metrics that do not exist, or of a form that a metric does not have."""
    match plot:
        case LinePlot():
            if plot.x.metric not in X_METRICS:
                yield unknown("x metric", plot.x.metric, X_METRICS, ("plot", "x", "metric"))
            valid = [name for name, metric in METRICS.items() if not metric.is_fact]
            for index, axis in enumerate(plot.y):
                yield from _shown_problems(axis.metric, axis.form, valid, ("plot", "y", index))
        case TablePlot():
            for index, column in enumerate(plot.columns):
                if column.metric is not None:
                    yield from _shown_problems(column.metric, column.form, list(METRICS), ("plot", "columns", index))
        case MethodsPlot():
            pass  # its rows are names that the schema knows
        case DiagramPlot():
            pass  # it is drawn from a configuration
        case _:
            assert_never(plot)


def _row_problems(runs: Sequence[str | RunRef | RunSpec], plot: MethodsPlot) -> Iterator[Problem]:
    """Runs that are not quantised in all the ways that the plot shows."""
    for index, run in enumerate(runs):
        asked = run.quantised.rows if isinstance(run, RunRef) and run.quantised is not None else []
        without = [row for row in plot.rows if row not in asked]
        if without:
            yield Problem(("runs", index), f"its quantisation has no row {without[0]}, which plot.rows shows")


def _shown_problems(expression: str, form: Form, valid: Sequence[str], path: Path) -> Iterator[Problem]:
    names = [name for _, name in terms(expression)]
    for name in names:
        if name not in valid:
            yield unknown("metric", name, valid, (*path, "metric"))
        elif len(names) > 1 and METRICS[name].is_fact:
            yield Problem((*path, "metric"), f"{name} is a fact of a run, which cannot be added to other metrics")
    having = [name for name, metric in METRICS.items() if form in metric.forms]
    if set(names) <= METRICS.keys() and expression not in having and form != "eq1":
        yield Problem((*path, "form"), f"{form} is a form of {', '.join(having)}, not of {expression}")


def _layer_problems(experiment: Experiment, catalogue: Catalogue, ids: Sequence[str]) -> Iterator[Problem]:
    """Layers before the first block or beyond the last one of the deepest model, which no trace has at any scale."""
    if isinstance(experiment.plot, LinePlot) and experiment.plot.layers == []:
        yield Problem(("plot", "layers"), "expected at least 1 entry")
    settings = {setting.id: setting for setting, _ in catalogue.values() if setting.id in ids}
    runs = [run for run in experiment.runs if isinstance(run, RunSpec)]
    parts: list[Deviation] = []
    for setting in settings.values():
        parts += [setting.base, *setting.scales.values()]
        runs += setting.runs
    for run in runs:
        parts += [run, *run.at.values()]
    elsewhere = [one.size.layers for setting in settings.values() for one in setting.checkpoints if one.size]
    deepest = max([*(part.model.get("layers", 0) for part in parts), *elsewhere], default=0)
    for path, layer in _layers(experiment):
        if isinstance(layer, int) and layer < 1:
            yield Problem(path, f"blocks are counted from 1, got {layer}")
        elif deepest and isinstance(layer, int) and layer > deepest:
            yield Problem(path, f"layer {layer} lies beyond the {deepest} blocks of the deepest model")


def _layers(experiment: Experiment) -> Iterator[tuple[Path, Any]]:
    plot = experiment.plot
    if isinstance(plot, LinePlot) and isinstance(plot.layers, list):
        yield from ((("plot", "layers", index), layer) for index, layer in enumerate(plot.layers))
    if isinstance(plot, TablePlot):
        yield from ((("plot", "columns", index, "layer"), column.layer) for index, column in enumerate(plot.columns))
    for index, claim in enumerate(experiment.claims):
        for side, quantity in quantities(claim).items():
            listed = quantity.layer if isinstance(quantity.layer, list) else [quantity.layer]
            yield from ((("claims", index, side, "layer"), layer) for layer in listed)


def _lines(experiment: Experiment, catalogue: Catalogue, settings: Sequence[str]) -> list[LineOf]:
    """Name, label and setting of each run that the figure shows, as far as they are known."""
    found: list[LineOf] = []
    for entry in experiment.runs:
        if isinstance(entry, RunSpec):
            found.append(LineOf(entry.name, entry.label, settings[0] if settings else ""))
            continue
        name, label = (entry, None) if isinstance(entry, str) else (entry.name, entry.label)
        if name in catalogue:
            setting, run = catalogue[name]
            found.append(LineOf(name, label if label is not None else run.label, setting.id))
    return list({line.name: line for line in found}.values())  # a name given twice is reported by itself


def _entry_problems(run: Any, path: Path, settings: Sequence[str], catalogue: Catalogue) -> Iterator[Problem]:
    if isinstance(run, RunSpec):
        yield from run_problems(run, path)
        if run.name in catalogue:
            setting = catalogue[run.name][0].id
            yield Problem((*path, "name"), f"{run.name} is already a run of setting {setting}, name it only")
        if len(settings) > 1:
            yield Problem(path, f"expected the name of a run, since it could belong to {' or '.join(settings)}")
        return
    name, place = (run, path) if isinstance(run, str) else (run.name, (*path, "name"))
    own = [other for other, (setting, _) in catalogue.items() if setting.id in settings]
    if name in catalogue and name not in own:
        yield Problem(place, f"{name} is a run of setting {catalogue[name][0].id}, which this experiment does not name")
    elif name not in own:
        yield Problem(place, f"no run {name} in setting {' or '.join(settings)}", nearest(name, own))
    elif isinstance(run, RunRef) and isinstance(catalogue[name][1], CheckpointSpec):
        yield from _checkpoint_entry_problems(run, catalogue[name][1], path)


def _checkpoint_entry_problems(entry: RunRef, checkpoint: Any, path: Path) -> Iterator[Problem]:
    """What a figure asks of a checkpoint and only a run of ours has."""
    if entry.measured is not None:
        yield Problem((*path, "measured"), f"{entry.name} is a checkpoint, whose setting says where it is measured")
    if entry.quantised is None:
        return
    if checkpoint.run is not None:
        yield Problem((*path, "quantised"), f"{entry.name} is what a run was on its way: name {checkpoint.run} itself")
    elif entry.quantised.widths:
        text = "the published protocol is of this package's models, expected [] for a checkpoint"
        yield Problem((*path, "quantised", "widths") if "widths" in entry.quantised.model_fields_set
                      else (*path, "quantised"), text)  # fmt: skip


def _claim_problems(claim: Claim, path: Path, names: list[str], catalogue: Catalogue) -> Iterator[Problem]:
    for index, name in enumerate(claim.needs):
        if name not in catalogue:
            yield Problem((*path, "needs", index), f"no setting has a run {name}", nearest(name, catalogue))
    readable = {*names, *claim.needs}
    sides: dict[Path, Any] = {("left",): claim.left, ("right",): claim.right}
    sides |= {("at", scale, "right"): bound.right for scale, bound in claim.at.items()}
    for side, quantity in sides.items():
        if isinstance(quantity, Quantity):
            for place, name in _read(quantity):
                if name not in readable:
                    text = f"{name} is neither a run of this experiment nor one of the claim's needs"
                    yield Problem((*path, *side, *place), text, nearest(name, readable))


def _read(quantity: Quantity) -> Iterator[tuple[Path, str]]:
    if quantity.run is not None:
        yield ("run",), quantity.run
    for index, name in enumerate(quantity.runs or []):
        yield ("runs", index), name
    if quantity.minus_run is not None:
        yield ("minus_run",), quantity.minus_run
