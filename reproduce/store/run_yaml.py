"""run.yaml: what a run is, in the folder of its trace.

It repeats the whole configuration, defaults included, so that the folder can be understood by a reader without
this program, and by a later version of it whose defaults differ.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from reproduce.config import JOB_KINDS, JobConfig, kind_of
from reproduce.errors import OfeError
from reproduce.keys import canonical, run_key
from reproduce.store.layout import RUN_YAML, damaged

if TYPE_CHECKING:
    from reproduce.specs.resolve import ResolvedRun

SCHEMA = 1
"""Version of the form of run.yaml."""

_FIELDS = {"schema", "key", "recipe", "slug", "name", "label", "setting", "scale", "seed", "config", "numerics"}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def render(run: ResolvedRun) -> str:
    """The text of run.yaml, the same for the same run."""
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
    }
    if kind_of(run.config) != "train":  # a folder that names no kind holds a training, as all once did
        content["kind"] = kind_of(run.config)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def read(folder: Path) -> dict[str, Any]:
    """The content of `folder`'s run.yaml.

    Raises:
        OfeError: the file is missing, damaged, or from a later version of ofe.
    """
    path = folder / RUN_YAML
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise damaged(path, "cannot be read") from error
    if not isinstance(content, dict) or not content.keys() >= _FIELDS:
        raise damaged(path, f"lacks one of {', '.join(sorted(_FIELDS))}")
    if content["schema"] != SCHEMA:
        raise OfeError(
            f"{path} has schema {content['schema']}, and this version of ofe reads {SCHEMA}",
            hint="update ofe, or use the version that wrote the run",
        )
    return content


def read_config(folder: Path) -> JobConfig:
    """The job's configuration, with every field as it was when it was done.

    Raises:
        OfeError: run.yaml is damaged, or holds a configuration that this version cannot read.
    """
    content = read(folder)
    try:
        return JOB_KINDS[content.get("kind", "train")].model_validate(content["config"])
    except (ValidationError, KeyError) as error:
        raise damaged(folder / RUN_YAML, "holds a configuration that this version of ofe cannot read") from error


def own_name(folder: Path) -> str:
    """The name `<slug>-<key>` under which the run in `folder` is kept.

    Raises:
        OfeError: run.yaml names no run, or its key is not that of its configuration.
    """
    content = read(folder)
    name = f"{content['slug']}-{content['key']}"
    if not re.fullmatch(r"[^./\\][^/\\]*-[0-9a-f]{16}", name):  # it must not lead out of the store
        raise damaged(folder / RUN_YAML, f"names the run {name!r}, which is no name of a run")
    config = read_config(folder)
    current = content["numerics"] == canonical(config)["numerics"]
    if current and run_key(config) != content["key"]:
        raise damaged(folder / RUN_YAML, f"has key {content['key']}, but its configuration's key is {run_key(config)}")
    return name
