"""From the arguments of a command to resolved runs and their traces. All commands share these functions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reproduce.errors import OfeError, SpecError
from reproduce.specs.load import is_path, list_experiments, load_experiment, load_setting
from reproduce.specs.resolve import fingerprint_if_any, fingerprint_of, resolve, shown_runs
from reproduce.specs.runs import Resolved, ResolvedRun
from reproduce.specs.schema import SCALES, Experiment, Scale
from reproduce.store.archive import ArchivedRuns, unpack
from reproduce.store.home import ofe_home
from reproduce.store.reference import find_reference, read_index, reference_root
from reproduce.store.runs import Store

if TYPE_CHECKING:
    from reproduce.claims import Verdict
    from reproduce.machine import Machine
    from reproduce.plan.planner import Plan
    from reproduce.store.frame import Loaded


def experiments(ids: Sequence[str]) -> list[Experiment]:
    """The named experiments, each once. The name `all` stands for every experiment.

    Raises:
        SpecError: there is no experiment of that name, or its file is not a valid spec. The hint names similar ones. Or
            two that differ have the same id, and so the same picture.
    """
    found = [(name, one) for name in ids for one in (list_experiments() if name == "all" else [_spec_of(name)])]
    first: dict[str, tuple[str, Experiment]] = {}
    for name, experiment in found:
        earlier, same = first.setdefault(experiment.id, (name, experiment))
        if experiment != same:
            names = earlier if earlier == name else f"{earlier} and {name}"
            hint = "change the id in one of them"
            raise SpecError(f"two figures have the id {experiment.id}: {names}", hint=hint)
    return [experiment for _, experiment in first.values()]


def select(ids: Sequence[str], scale: Scale) -> list[Experiment]:
    """The named experiments, each once. The name `all` stands for every experiment that has the scale."""
    figures = experiments(ids)
    return [figure for figure in figures if has_scale(figure, scale)] if "all" in ids else figures


def has_scale(experiment: Experiment, scale: Scale) -> bool:
    """Whether all settings of the experiment define the scale."""
    return all(scale in load_setting(name).scales for name in experiment.settings)


def resolve_all(
    figures: Sequence[Experiment],
    scale: Scale,
    *,
    overrides: Sequence[str] = (),
    seeds: int | None = None,
    to_train: bool = False,
    machine: Machine | None = None,
) -> list[Resolved]:
    """The runs of each figure.

    Args:
        to_train: whether data that cannot be had are an error. They are none for commands that only show runs.
        machine: decides what the precision `auto` means; this machine if None.

    Raises:
        SpecError: an override or the scale does not fit an experiment.
        OfeError: data cannot be had, and `to_train` is true.
    """
    # Figures share data, and computing a fingerprint may read all of them, so it is done once.
    identify = cache(fingerprint_of if to_train else fingerprint_if_any)
    return [
        resolve(one, scale, overrides=overrides, seeds=seeds, fingerprint=identify, machine=machine) for one in figures
    ]


def check_chosen_data(resolveds: Iterable[Resolved], overrides: Sequence[str]) -> None:
    """Refuse data that the user chose, by an override or a path, and that are not there.

    Other data that cannot be had here are no mistake in a command that only looks: the runs may be meant for another
    machine.

    Raises:
        OfeError: they cannot be had; as training them would say.
    """
    chosen = any(change.startswith("data.") for change in overrides)
    trainings = [run.training for resolved in resolveds for run in resolved.runs if run.training is not None]
    for data in dict.fromkeys(training.data for training in trainings):
        if not data.fingerprint and (chosen or data.path is not None):
            fingerprint_of(data)


_archives: list[ArchivedRuns] = []
"""The opened archive, where a command reads one in place of OFE_HOME."""


def store() -> Store:
    """The runs of this OFE_HOME, or of the archive that the command reads."""
    return _archives[-1] if _archives else Store(ofe_home())


@contextmanager
def reading(archive: Path | None) -> Iterator[dict[str, Any] | None]:
    """A context in which `store` has the runs of `archive`, and of OFE_HOME if None; yields what ofe.json says.

    Specs that came in the archive are read from there by `select`.

    Raises:
        OfeError: the archive is refused (`reproduce.store.archive`).
    """
    if archive is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="ofe-", ignore_cleanup_errors=True) as folder:
        about = unpack(archive, Path(folder))
        _archives.append(ArchivedRuns(Path(folder)))
        try:
            yield about
        finally:
            _archives.pop()


def _spec_of(name: str) -> Experiment:
    """The experiment of that name, from the opened archive if it has a spec of that name."""
    if _archives:
        given = _archives[-1].runs.parent / "specs" / f"{Path(name).stem if is_path(name) else name}.yaml"
        if given.is_file():
            return load_experiment(str(given))
    return load_experiment(name)


def plan_for(
    figures: Sequence[Experiment],
    scale: Scale,
    *,
    overrides: Sequence[str] = (),
    seeds: int | None = None,
    jobs: int | None = None,
    devices: int = 1,
    to_train: bool = False,
    keep_weights: bool = False,
    measure: bool = False,
    device: str | None = None,
    report: Callable[[str], None] | None = None,
) -> tuple[list[Resolved], Plan]:
    """The runs of the figures, and the plan for them that `ofe plan` prints and `ofe reproduce` carries out.

    Args:
        jobs: number of runs at the same time; by default the number of cores divided by `devices`, and on GPUs one
            for each of them, or for `devices` of them.
        devices: number of devices of each run.
        device: name of the device that the runs are to be trained on, if that is not this machine's.

    Raises:
        OfeError: there is no device of that name, the machine has fewer GPUs, or an environment variable has an invalid
            value.
    """
    from reproduce.environment import environment
    from reproduce.machine import this_machine
    from reproduce.plan.devices import machine_of, named_device
    from reproduce.plan.planner import plan, side_by_side

    named = None if device is None else named_device(device)
    machine = this_machine(environment().device) if named is None else machine_of(named, devices)
    gpus = len(machine.gpus)
    if to_train and machine.device == "cuda" and not gpus:
        hint = "unset it to train on the CPU"
        raise OfeError("OFE_DEVICE is cuda, but there is no CUDA device", hint=hint, exit_code=2)
    if to_train and machine.device == "cuda" and devices > gpus:
        hint = "start the worker of each run with torchrun to use several machines"
        raise OfeError(f"--devices {devices} needs {devices} GPUs, and there are {gpus}", hint=hint, exit_code=2)
    jobs = jobs or side_by_side(machine, max(1, machine.cores // devices), devices)
    resolveds = resolve_all(figures, scale, overrides=overrides, seeds=seeds, to_train=to_train, machine=machine)
    planned = plan(
        resolveds,
        store(),
        machine,
        jobs=jobs,
        devices=devices,
        keep_weights=keep_weights,
        measure=measure,
        named=named,
        report=report,
    )
    return resolveds, planned


def judged(resolved: Resolved, scale: Scale, *, reference: bool) -> tuple[Loaded, list[Verdict]]:
    """The traces of a figure, and the verdicts on its claims.

    Args:
        reference: whether reference traces stand in for runs that were not trained here.
    """
    from reproduce.claims import judge
    from reproduce.store.frame import load

    loaded = load(resolved, store(), reference=reference)
    return loaded, judge(resolved.experiment, loaded, scale)


def how_to_train(slug: str) -> str | None:
    """The command that trains the run `slug`, such as `cp-op-laptop-s0`; None if no shipped figure has it."""
    for scale in SCALES:
        name, at, seed = slug.rpartition(f"-{scale}-s")
        if at and seed.isdigit():
            figures = (one for one in list_experiments() if has_scale(one, scale))
            wanted = (one.id for one in figures if any(run.name == name for _, run, _ in shown_runs(one)))
            if (figure := next(wanted, None)) is not None:
                return f"`ofe reproduce {figure} --scale {scale}` trains it"
    return None


class Shelf:
    """The traces that exist at one scale. The disk is read once, so that any number of questions costs little."""

    def __init__(self, scale: str) -> None:
        self._own = {folder.key for folder in store().list() if folder.sealed}
        self._shipped = {recipe: entry["key"] for recipe, entry in read_index(scale, reference_root()).items()}
        if _archives:  # which stand in for both
            self._shipped = {recipe: folder.key for recipe, folder in _archives[-1].by_recipe.items()}

    def own(self, run: ResolvedRun) -> bool:
        """Whether the store has a sealed trace of `run`."""
        return run.key in self._own

    def key(self, run: ResolvedRun, *, reference: bool = True) -> str | None:
        """Key of the trace of `run` in the store, or else of its reference trace, or None if there is neither."""
        if self.own(run):
            return run.key
        return self._shipped.get(run.recipe) if reference or _archives else None

    def provenances(self, resolveds: Iterable[Resolved]) -> list[dict[str, Any]]:
        """The provenance of each trace that the figures and their claims read, each once."""
        found = {}
        for run in (run for resolved in resolveds for run in (*resolved.runs, *resolved.extra)):
            folder = store().folder(run) if self.own(run) else find_reference(run.recipe, run.scale)
            if folder is not None:
                found[folder.path] = folder.provenance()
        return list(found.values())

    def state(self, run: ResolvedRun) -> Literal["sealed", "shipped", "missing"]:
        """Whether `run` was trained here, has a reference trace, or has no trace."""
        return "sealed" if self.own(run) else "shipped" if self.key(run) is not None else "missing"

    def traces(self, resolved: Resolved, *, reference: bool = True) -> dict[str, str | None]:
        """Slug -> `key`, for every run that the figure and its claims read."""
        return {run.slug: self.key(run, reference=reference) for run in (*resolved.runs, *resolved.extra)}
