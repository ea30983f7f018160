"""What sources have of the Hugging Face hub: a dataset's folder in its cache, or what is said where there is none.

The network is not used where a caller says so or `HF_HUB_OFFLINE` does; the cache alone must then serve.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reproduce.errors import OfeError


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
def reaching(name: str, copy: str, offline: bool) -> Iterator[None]:
    """Turn what stops `huggingface_hub` into an `OfeError` about the repository `name`."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    other = f"set data.path to {copy}"
    way_out = f"{other}, or prepare the data where there is a network and copy OFE_HOME/data"
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
def explained(what: str, hint: str | None = None) -> Iterator[None]:
    """Turn whatever stops `datasets` into an `OfeError`: it passes on the errors of any file format and HTTP client."""
    try:
        yield
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__
        raise OfeError(f"{what}: {reason}", hint=hint) from error
