"""Specs from their files: experiments by id, and the settings whose runs they name.

The files stand in `experiments/` of a clone or of the installed package, or where `OFE_EXPERIMENTS` points.
Whatever is wrong with one of them is a `SpecError` that reads `file:line:column: field.path: what was expected`.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from reproduce.config import Frozen
from reproduce.errors import SpecError
from reproduce.specs.checks import experiment_problems, run_problems, setting_problems
from reproduce.specs.problems import Problem, explain, spec_error
from reproduce.specs.schema import CheckpointSpec, Experiment, RunSpec, Scale, Setting
from reproduce.specs.yaml import Document, parse
from reproduce.store.home import shared_folder

Spec = TypeVar("Spec", bound=Frozen)


def experiments_root() -> Path:
    """The folder that holds the specs."""
    given = os.environ.get("OFE_EXPERIMENTS")
    if not given:
        return shared_folder("experiments")
    if not Path(given).is_dir():
        raise SpecError(f"OFE_EXPERIMENTS names {given}, which is not a folder", hint="unset it or correct it")
    return Path(given)


def list_experiments() -> list[Experiment]:
    """Every experiment: the figures of v1, its tables, those that only v2 has, then any others."""
    experiments = [_load_file(path) for path in _experiment_files().values()]
    owner: dict[str, str] = {}
    for experiment in experiments:
        for run in experiment.runs:
            if isinstance(run, RunSpec) and owner.setdefault(run.name, experiment.id) != experiment.id:
                raise SpecError(
                    f"{owner[run.name]} and {experiment.id} both define a run {run.name}",
                    hint="move it into their setting's runs, where both can name it",
                )
    return experiments


def load_experiment(name: str) -> Experiment:
    """The experiment with this id (`fig5`, `tab2`, `v2-fig8`), label of a version (`v2:fig7`) or file (`mine.yaml`).

    Raises:
        SpecError: if there is none, with the nearest ids, or if its file is not a valid spec.
    """
    return _load_file(experiment_file(name))


def experiment_file(name: str) -> Path:
    """The file of the experiment that `load_experiment` finds under this name.

    Raises:
        SpecError: there is none, with the nearest ids.
    """
    if is_path(name):
        return Path(name)
    version, colon, label = name.lower().partition(":")
    if colon and version in ("v1", "v2"):
        name = _by_label(version, label).id
    files = _experiment_files()
    if name.lower() not in files:
        close = difflib.get_close_matches(name.lower(), files, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see `ofe list`"
        raise SpecError(f"no experiment {name}", hint=hint)
    return files[name.lower()]


def portable(name: str) -> dict[str, str]:
    """The texts of the spec in the file `name` and of the settings that it names by path, each by its name.

    In one folder, where each is the file `<name>.yaml`, they are the same figure. Runs in files of their own are put in
    their places.

    Raises:
        SpecError: one of the files is not there or is not valid.
    """
    experiment, (written, _) = load_experiment(name), _read(Path(name), Experiment)
    if experiment == written:  # it names no other file
        return {experiment.id: Path(name).read_text(encoding="utf-8")}
    beside = {path: f"{experiment.id}.{load_setting(path).id}" for path in experiment.settings if is_path(path)}
    settings = [f"./{beside[one]}.yaml" if one in beside else one for one in experiment.settings]
    content = experiment.model_dump(mode="json", exclude_unset=True, by_alias=True) | {"setting": settings}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return {experiment.id: text} | {of: Path(path).read_text(encoding="utf-8") for path, of in beside.items()}


def is_path(name: str) -> bool:
    """Whether a name in a spec or on the command line is the path of a YAML file rather than an id."""
    return name.endswith((".yaml", ".yml"))


def load_setting(name: str) -> Setting:
    """The setting with this id, or in this file."""
    if is_path(name):
        return _setting(Path(name), Path(name).stat().st_mtime_ns)
    files = _setting_files()
    if name not in files:
        raise SpecError(f"no setting {name}", hint=f"there are {', '.join(files)}")
    return _setting(files[name], files[name].stat().st_mtime_ns)


def cautions(experiment: Experiment, scale: Scale) -> list[str]:
    """The sentences of an experiment's settings that a reader of its results at `scale` must know."""
    settings = [load_setting(name) for name in experiment.settings]
    said = [setting.scales[scale].caution for setting in settings if scale in setting.scales]
    return list(dict.fromkeys(filter(None, said)))


def catalogue(experiment: Experiment | None = None) -> dict[str, tuple[Setting, RunSpec | CheckpointSpec]]:
    """Every run that a setting names, with its setting.

    Args:
        experiment: one whose own settings count too. Their runs stand before shipped ones of the same name.

    Raises:
        SpecError: if two settings give the same name to a run: a name is one training in the whole collection.
    """
    runs: dict[str, tuple[Setting, RunSpec | CheckpointSpec]] = {}
    for setting in map(load_setting, _setting_files()):
        for run in setting.catalogue:
            if run.name in runs:
                raise SpecError(f"settings {runs[run.name][0].id} and {setting.id} both have a run {run.name}")
            runs[run.name] = (setting, run)
    for name in experiment.settings if experiment else ():
        if is_path(name):
            setting = load_setting(name)
            runs |= {run.name: (setting, run) for run in setting.catalogue}
    return runs


# ---------------------------------------------------------------------------------------------------
# Files


def _experiment_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(experiments_root().glob("*.yaml"), key=lambda path: _order(path.stem))}


def _setting_files() -> dict[str, Path]:
    folder = experiments_root() / "settings"
    return _listed(folder, folder.stat().st_mtime_ns) if folder.is_dir() else {}


@lru_cache
def _listed(folder: Path, _modified: int) -> dict[str, Path]:
    """The YAML files of a folder by their names; a listing asks for them some hundred times."""
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _order(name: str) -> tuple[int, int, str]:
    match = re.fullmatch(r"(v2-)?(fig|tab)(\d+)", name)
    if match is None:
        return (4, 0, name)
    return (2 * (match[1] is not None) + (match[2] == "tab"), int(match[3]), name)


def _by_label(version: str, label: str) -> Experiment:
    words = re.fullmatch(r"(fig|tab)(?:ure|le)?\s*(\d+)", label)
    if words is None:
        raise SpecError(f"{version}:{label} names no figure or table", hint="write v2:fig7 or v2:tab3")
    title = f"{'Figure' if words[1] == 'fig' else 'Table'} {words[2]}"
    found = [experiment for experiment in list_experiments() if getattr(experiment, version) == title]
    if len(found) != 1:
        ids = " or ".join(experiment.id for experiment in found)
        what = f"{title} of {version} is in parts" if found else f"{version} has no {title} here"
        raise SpecError(what, hint=f"name {ids}" if found else "see `ofe list`")
    return found[0]


def _load_file(path: Path) -> Experiment:
    experiment, document = _read(path, Experiment)
    experiment = _with_own_files(experiment, path.parent)
    problems = list(_id_problems(experiment.id, path))
    for index, name in enumerate(experiment.settings):
        place = ("setting", index) if isinstance(experiment.setting, list) else ("setting",)
        problems += _setting_name_problems(name, place)
    if not problems:
        ids = [load_setting(name).id for name in experiment.settings]
        problems += experiment_problems(experiment, catalogue(experiment), ids)
    if problems:
        raise spec_error(problems, document)
    return experiment


def _setting_name_problems(name: str, place: tuple[str | int, ...]) -> Iterator[Problem]:
    """What is wrong with the name of a setting in an experiment."""
    files = _setting_files()
    if is_path(name):
        if not Path(name).is_file():
            yield Problem(place, f"there is no file {name}")
        elif load_setting(name).id in files and Path(name).resolve() != files[load_setting(name).id].resolve():
            taken = load_setting(name).id
            yield Problem(place, f"{name} has the id {taken}, which is that of a shipped setting: give it another id")
    elif name not in files:
        close = difflib.get_close_matches(name, files, n=1)
        yield Problem(place, f"no setting {name}", close[0] if close else None, tuple(files))


def _with_own_files(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with settings by absolute path, and with runs that it names by path put in their places.

    Args:
        folder: the folder of the spec, from which its paths start.
    """

    def absolute(name: str) -> str:
        return str((folder / name).resolve()) if is_path(name) else name

    given = experiment.setting
    setting = [absolute(name) for name in given] if isinstance(given, list) else given and absolute(given)
    runs = [_own_run(folder / run) if isinstance(run, str) and is_path(run) else run for run in experiment.runs]
    return experiment.model_copy(update={"setting": setting, "runs": runs})


def _own_run(path: Path) -> RunSpec:
    """A run in a file of its own."""
    run, document = _read(path, RunSpec)
    problems = list(run_problems(run))
    if problems:
        raise spec_error(problems, document)
    return run


@lru_cache
def _setting(path: Path, _modified: int) -> Setting:
    setting, document = _read(path, Setting)
    shipped = path.is_relative_to(experiments_root())
    problems = [*_id_problems(setting.id, path), *setting_problems(setting, sourced=shipped)]
    if problems:
        raise spec_error(problems, document)
    return setting


def _id_problems(name: str, path: Path) -> Iterator[Problem]:
    if path.is_relative_to(experiments_root()) and name != path.stem:
        yield Problem(("id",), f"expected {path.stem}, the name of the file, got {name!r}")


def _read(path: Path, model: type[Spec]) -> tuple[Spec, Document]:
    name = os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)
    try:
        document = parse(path.read_text(encoding="utf-8"), name)
    except UnicodeDecodeError:
        raise SpecError(f"{name}:1:1: expected text in UTF-8") from None
    except OSError as error:
        raise SpecError(f"cannot read {name}: {error.strerror}") from None
    try:
        return model.model_validate(document.data), document
    except ValidationError as error:
        raise spec_error(explain(error, model), document) from None
