"""Reference traces: sealed traces that are shipped with the code, from which a fresh clone draws without training.

    figures/<scale>/traces/<slug>-<key>/     sealed run folders
    figures/<scale>/traces/index.json        {recipe: {"folder": ..., "key": ..., "name": ..., "seed": ...}}

They are found by recipe (`reproduce.keys.recipe_key`) and not by key, because the embedded corpus and the precision
differ between machines although the experiment is the same.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from reproduce.config import RunConfig
from reproduce.errors import OfeError
from reproduce.job_config import CheckpointParent, JobConfig, MeasureConfig, RunParent
from reproduce.store.atomic import write_json, write_text
from reproduce.store.home import shared_folder
from reproduce.store.json_text import loads
from reproduce.store.layout import RUN_YAML, damaged
from reproduce.store.regular import text_of
from reproduce.store.runs import RunFolder, Store
from reproduce.store.seal import write_provenance, write_sums
from reproduce.store.transfer import copy_sealed, remove_folder

INDEX = "index.json"

MACHINE_FIELDS = frozenset(
    {"host", "hostname", "node", "user", "username", "pid", "cwd", "argv", "command", "executable", "env", "home"}
)
"""Names of provenance fields that identify who trained a run, and on which machine. Reference traces lack them."""

_ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])(?:/[^\s/:'\"]+){2,}/?|\b[A-Za-z]:\\[^\s'\"]+")


def reference_root() -> Path:
    """The folder `figures` of this clone or installation."""
    return shared_folder("figures")


def read_index(scale: str, figures: Path) -> dict[str, dict[str, Any]]:
    """The index of the reference traces of one scale, by recipe. It is empty if there are none.

    Raises:
        OfeError: the index is damaged.
    """
    path = _traces(scale, figures) / INDEX
    try:
        return loads(text_of(path))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise damaged(path, "is not JSON") from error


def find_reference(recipe: str, scale: str, figures: Path | None = None) -> RunFolder | None:
    """The run folder with the reference trace of `recipe`, or None if there is none."""
    figures = figures or reference_root()
    entry = read_index(scale, figures).get(recipe)
    return RunFolder(_traces(scale, figures) / entry["folder"]) if entry else None


def add_reference(run_folder: RunFolder, scale: str, figures: Path | None = None) -> RunFolder:
    """Make a sealed run a reference trace: copy its sealed files and enter it in the index.

    Whatever identifies this machine or its user is removed from the copy's provenance, and the place of a checkpoint
    from its run.yaml. An earlier reference trace of the same recipe is replaced.

    Raises:
        OfeError: the run is not sealed, is damaged, belongs to no figure, or reads data from a folder of this machine.
    """
    run_folder.verify()
    config = run_folder.config()
    content = run_folder.read_run_yaml()
    if not content["setting"] or _asked_for(config):
        raise OfeError(
            f"{run_folder.path.name} was made for no figure, so that no figure would show it",
            hint="choose a run of a figure",
            exit_code=2,
        )
    training: RunConfig | None = config if isinstance(config, RunConfig) else None
    if not isinstance(config, RunConfig) and isinstance(config.parent, RunParent):
        parent = Store.of(run_folder).find(config.parent.key)
        if parent is None:
            raise OfeError(
                f"the training {config.parent.key}, which {run_folder.path.name} measures, is not in this cache",
                hint="import it first (`ofe cache import`): it says which data the measurement rests on",
            )
        training = parent.training()
    if training is not None and training.data.path is not None:
        raise OfeError(
            f"{run_folder.path.name} rests on a folder of this machine, which others do not have",
            hint="choose a run on embedded or published data",
        )
    figures = figures or reference_root()
    index = read_index(scale, figures)
    earlier = index.get(content["recipe"])
    reference = RunFolder(_traces(scale, figures) / run_folder.path.name)
    copy_sealed(run_folder.path, reference.path)
    write_provenance(reference.path, without_machine(run_folder.provenance()))
    _leave_out_place(reference.path, config)
    index[content["recipe"]] = {"folder": reference.path.name} | {
        name: content[name] for name in ("key", "name", "seed")
    }
    write_json(_traces(scale, figures) / INDEX, index)
    # The old folder goes last, so that the index never names a folder that is not there.
    if earlier is not None and earlier["folder"] != reference.path.name:
        remove_folder(_traces(scale, figures) / earlier["folder"])
    return reference


def _asked_for(config: JobConfig) -> bool:
    """Whether the job measures a run on a text as a user asked for it, and not as figures do, which export it first."""
    if not isinstance(config, MeasureConfig) or not isinstance(config.parent, RunParent):
        return False
    return config.text is not None and not config.exported


def _leave_out_place(folder: Path, config: JobConfig) -> None:
    """Keep the name of a checkpoint from elsewhere, and not where it lies on this machine. The key has neither."""
    parent = None if isinstance(config, RunConfig) else config.parent
    if isinstance(parent, CheckpointParent) and parent.path is not None:
        text = (folder / RUN_YAML).read_text(encoding="utf-8")
        write_text(folder / RUN_YAML, text.replace(parent.path, parent.name))
        write_sums(folder)


def without_machine(value: Any) -> Any:
    """Provenance without the fields in `MACHINE_FIELDS`, at any depth, and with `<path>` for each absolute path."""
    if isinstance(value, dict):
        return {key: without_machine(item) for key, item in value.items() if key not in MACHINE_FIELDS}
    if isinstance(value, list):
        return [without_machine(item) for item in value]
    return _ABSOLUTE_PATH.sub("<path>", value) if isinstance(value, str) else value


def _traces(scale: str, figures: Path) -> Path:
    return figures / scale / "traces"
