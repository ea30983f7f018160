"""run.yaml, the file of a run folder that describes the run.

It holds the whole configuration with all defaults. So a reader understands the folder without this program, and so does
a later version of the program with other defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from reproduce.errors import OfeError
from reproduce.job_config import JOB_KINDS, JobConfig, kind_of
from reproduce.keys import canonical, run_key
from reproduce.specs.load import load_setting
from reproduce.specs.yaml import check_size
from reproduce.store.layout import RUN_NAME, RUN_YAML, damaged
from reproduce.store.regular import open_regular, text_of

if TYPE_CHECKING:
    from reproduce.specs.runs import ResolvedRun

SCHEMA = 1
"""Version of the format of run.yaml."""

_FIELDS = {"schema", "key", "recipe", "slug", "name", "label", "setting", "scale", "seed", "config", "numerics"}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def render(run: ResolvedRun) -> str:
    """The text of run.yaml, which is a function of the run alone."""
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "key": run.key,
        "recipe": run.recipe,
        "slug": run.slug,
        "name": run.name,
        "label": run.label,
        "setting": run.setting,
        "scale": run.scale,
        "seed": run.seed,
        "config": run.config.model_dump(mode="json"),
        "numerics": canonical(run.config)["numerics"],
        "paper_data": run.paper_data,
    }
    if kind_of(run.config) != "train":  # folders without a kind are older than it, and are trainings
        content["kind"] = kind_of(run.config)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def read(folder: Path) -> dict[str, Any]:
    """The content of `folder`'s run.yaml.

    Raises:
        OfeError: the file is missing, damaged, or from a later version of ofe.
    """
    path = folder / RUN_YAML
    try:
        text = text_of(path)
        check_size(text)
        content = yaml.load(text, Loader=_LOADER)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # dates and long numbers can be no values
        raise damaged(path, "cannot be read") from error
    if not isinstance(content, dict) or not content.keys() >= _FIELDS:
        raise damaged(path, f"lacks one of {', '.join(sorted(_FIELDS))}")
    if content["schema"] != SCHEMA:
        raise OfeError(
            f"{path} has schema {content['schema']}, and this version of ofe reads {SCHEMA}",
            hint="update ofe, or use the version that wrote the run",
        )
    return content


def on_paper_data(content: Mapping[str, Any], source: str) -> bool:
    """Whether a run trains on the paper's own data.

    Args:
        content: the content of its run.yaml. One of version 0.1 does not say so, and its setting is asked.
        source: the name of its data source.
    """
    stated = content.get("paper_data")
    return bool(stated) if stated is not None else load_setting(content["setting"]).is_paper_data(source)


def stated_key(folder: Path) -> str | None:
    """The key that the first lines of run.yaml state, without reading the rest; None where they state none."""
    try:
        with open_regular(folder / RUN_YAML) as file:
            found = re.search(rb"^key: '?([0-9a-f]{16})'?$", file.read(200), re.MULTILINE)
    except OSError:
        return None
    return found[1].decode() if found else None


def read_config(folder: Path) -> JobConfig:
    """The job's configuration, with the value that every field had when the folder was created.

    Raises:
        OfeError: run.yaml is damaged, or holds a configuration that this version cannot read.
    """
    content = read(folder)
    try:
        return JOB_KINDS[content.get("kind", "train")].model_validate(content["config"])
    except (ValidationError, KeyError) as error:
        reason = "holds a configuration that this version of ofe cannot read"
        if isinstance(error, ValidationError) and {one["type"] for one in error.errors()} == {"extra_forbidden"}:
            unknown = ", ".join(".".join(map(str, one["loc"])) for one in error.errors())
            hint = "a later version of ofe has written it: update ofe"
            raise OfeError(f"{folder / RUN_YAML} {reason}: {unknown}", hint=hint) from error
        raise damaged(folder / RUN_YAML, reason) from error


def own_name(folder: Path) -> str:
    """The name `<slug>-<key>` that the folder of this run has in a store, according to its run.yaml.

    Raises:
        OfeError: run.yaml does not name a run, or its key is not that of its configuration.
    """
    content = read(folder)
    name = f"{content['slug']}-{content['key']}"
    if not RUN_NAME.fullmatch(name):
        raise damaged(folder / RUN_YAML, f"names the run {name!r}, which is no name of a run")
    config = read_config(folder)
    # Only a key of the current numerics can be computed again. That of an older version is taken as it is.
    current = content["numerics"] == canonical(config)["numerics"]
    if current and run_key(config) != content["key"]:
        raise damaged(folder / RUN_YAML, f"has key {content['key']}, but its configuration's key is {run_key(config)}")
    return name
