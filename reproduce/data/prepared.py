"""What data of every kind have in common: the source a configuration names, and the folder of what was prepared."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reproduce.config import DataConfig
from reproduce.data.sources.registry import SourceInfo
from reproduce.errors import OfeError, SpecError
from reproduce.store.home import ofe_home


def make_source(info: SourceInfo, data: DataConfig) -> Any:
    """The source of `info` as `data` configures it; nothing is read yet.

    Raises:
        SpecError: it needs a path and is given none, or is given one that it does not read.
        OfeError: what it reads is not there.
    """
    if info.needs_path and data.path is None:
        hint = f"set data.path to {info.path_means}"
        if info.substitute:
            hint += f", or train on a substitute with data.source={info.substitute}"
        raise SpecError(f"the source {info.name} needs data.path", hint=hint)
    if data.path is not None and not info.takes_path:
        raise SpecError(f"the source {info.name} reads no path", hint="drop data.path, or name another data.source")
    module, _, name = info.factory.partition(":")
    return getattr(importlib.import_module(module), name)(data)


def hash_identity(identity: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of JSON."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def prepared_folder(data: DataConfig, fingerprint: str) -> Path:
    """Where what was prepared of `data` lies; it exists if and only if it has been prepared."""
    return ofe_home() / "data" / f"{data.source}-{fingerprint}"


def refuse_other_data(data: DataConfig, fingerprint: str) -> None:
    """Refuse data whose fingerprint is not the one that `data` carries; without one, all will do.

    Raises:
        OfeError: they differ.
    """
    if data.fingerprint not in ("", fingerprint):
        raise OfeError(
            f"the data of {data.source} here are not those this run was made for"
            f" ({fingerprint}, not {data.fingerprint})",
            hint=f"copy {prepared_folder(data, data.fingerprint).name} to {ofe_home() / 'data'}"
            " from where the run was made",
        )
