"""What sources have of the Hugging Face hub: a dataset's folder in its cache, or what is said where there is none.

The network is not used where a caller says so or `HF_HUB_OFFLINE` does; the cache alone must then serve.
A dataset that is named is read from the hub, never from a folder of the same name below the current one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reproduce.data.files import find_damage, find_files, user_folder
from reproduce.errors import OfeError, SpecError


def hub_address(name: str) -> str:
    """What the functions of `datasets` have to be given so that they read the dataset `name` of the hub.

    They prefer a folder below the current one that is called owner/name, unless the name has this prefix. Releases that
    do not know the prefix yet raise an error there, which is still better than other data.
    """
    return f"hf://datasets/{name}" if os.path.exists(name) else name


def may_not_download(offline: bool) -> bool:
    """Whether nothing may be read but the cache."""
    import datasets

    return offline or datasets.config.HF_HUB_OFFLINE


@contextmanager
def only_the_cache() -> Iterator[None]:
    """Do as if `HF_HUB_OFFLINE` were set: for what is read by `datasets` alone, which cannot be told in another way."""
    import datasets
    import huggingface_hub

    places: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def find_snapshot(name: str, revision: str, *, copy: str, offline: bool, wanted: list[str] | None = None) -> Path:
    """The folder of a dataset in the hub's cache, called as its commit, downloaded first unless `offline`.

    Args:
        name: owner/name.
        copy: what the user may put in place of it, as in "set data.path to ...".
        wanted: patterns of the files to download; all if None.

    Raises:
        OfeError: there is no such dataset, it cannot be reached, or it is not in the cache and may not be downloaded.
    """
    from huggingface_hub import snapshot_download

    with reaching(name, copy, offline):
        found = snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=wanted, local_files_only=offline
        )
    return Path(found)


@contextmanager
def reaching(name: str, copy: str, offline: bool, *, other: str | None = None) -> Iterator[None]:
    """Turn what stops `huggingface_hub` into an `OfeError` about the repository `name`.

    Args:
        copy: what the user may put in place of a dataset, as in "set data.path to ...".
        other: all that the user may do instead, where the repository is no dataset.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    way_out = other or f"set data.path to {copy}, or prepare the data where there is a network and copy OFE_HOME/data"
    other = other or f"set data.path to {copy}"
    try:
        yield
    except HFValidationError as error:
        raise OfeError(f"{name!r} is no name on the Hugging Face hub", hint="names are owner/name") from error
    except GatedRepoError as error:
        hint = f"accept its terms there and log in with `hf auth login`, or {other}"
        raise OfeError(f"{name} is on the Hugging Face hub for those who accept its terms", hint=hint) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        hint = f"check the name and the revision, log in with `hf auth login` if it is private, or {other}"
        raise OfeError(f"{name} is not to be found on the Hugging Face hub", hint=hint) from error
    except OSError as error:
        if offline:
            message = f"{name} is not in the cache of the Hugging Face hub, and the network may not be used"
            raise OfeError(message, hint=way_out) from error
        hint = f"check the network, or {way_out}"
        raise OfeError(f"{name} cannot be reached on the Hugging Face hub", hint=hint) from error


@contextmanager
def explained(what: str, hint: str | None = None, *, folder: Path | None = None) -> Iterator[None]:
    """Turn whatever stops `datasets` into an `OfeError`: it passes on the errors of any file format and HTTP client.

    The library's logger is silent meanwhile, as the error says the same in words of ours.

    Args:
        folder: the folder of the user's own that is read. The error then names the file and line that cannot be read
            where one is found, and does not advise trying again, as a damaged file stays damaged.
    """
    try:
        with _silent_datasets():
            yield
    except OfeError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__
        if folder is not None and (damage := find_damage(find_files(folder, None, ()).files)):
            reason, hint = damage, f"mend that file, or take it out of {folder}"
        raise OfeError(f"{what}: {reason}", hint=hint) from error


@contextmanager
def _silent_datasets() -> Iterator[None]:
    """Log nothing of `datasets`. This costs a microsecond, unlike a level, as reading comes here for every row."""
    logger = logging.getLogger("datasets")
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before


def copy_of_rows(path: str) -> Path:
    """The folder that `data.path` names, for a source that reads it with `datasets`.

    Raises:
        SpecError: there is no such folder, or its name means something else to the library.
    """
    folder = user_folder(path)
    if set("*?[]").intersection(str(folder)):
        raise SpecError(
            f"{folder} has one of * ? [ ] in its name, which the library that reads data sets takes for a pattern",
            hint="rename the folder, or copy it to another place",
        )
    return folder
