"""What sources have of the Hugging Face hub: a dataset's folder in its cache, or what is said where there is none.

The network is not used where a caller says so or `HF_HUB_OFFLINE` does; the cache alone must then serve.
A dataset that is named is read from the hub, never from a folder of the same name below the current one.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reproduce.data.files import find_damage, find_files, user_folder
from reproduce.errors import OfeError
from reproduce.units import size

PATIENCE_S = 30.0
"""Seconds without a byte after which a server is taken not to answer."""


STATED_BYTES = {
    "uoft-cs/cifar10": 119_705_255 + 23_940_850,  # sizes of its two parquet files
    "bookcorpus/bookcorpus": 1_179_510_242,  # download_size of its card
    "ILSVRC/imagenet-1k": 147_897_477_120 + 6_744_924_160,  # the archives of its training and validation images
}
"""Bytes that a dataset takes to download, as far as they are stated anywhere."""


def hub_address(name: str) -> str:
    """What the functions of `datasets` have to be given so that they read the dataset `name` of the hub.

    They prefer a folder below the current one that is called owner/name, unless the name has this prefix. Releases that
    do not know the prefix yet raise an error there, which is still better than other data.
    """
    return f"hf://datasets/{name}" if os.path.exists(name) else name


def go_offline() -> None:
    """Let this process and those that it starts read nothing but the cache.

    The libraries look at the environment when they are imported. One that has been imported already is told as well.
    """
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    for name in ("datasets.config", "huggingface_hub.constants"):
        if (library := sys.modules.get(name)) is not None:
            vars(library)["HF_HUB_OFFLINE"] = True


def may_not_download(offline: bool) -> bool:
    """Whether nothing may be read but the cache."""
    if offline:
        return True
    if (loaded := sys.modules.get("datasets.config")) is not None:
        return bool(loaded.HF_HUB_OFFLINE)
    # What `datasets` reads of the environment, without the seconds that its import takes.
    words = ("1", "ON", "YES", "TRUE")
    return any(os.environ.get(name, "").upper() in words for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"))


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


def named(name: str, reads: str = "") -> str:
    """A dataset as messages call it: with its size, or with what is read of it, as far as either is known."""
    known = size(STATED_BYTES[name]) if name in STATED_BYTES else reads
    return f"{name} ({known})" if known else name


def find_snapshot(
    name: str, revision: str, *, copy: str, offline: bool, wanted: list[str] | None = None, reads: str = ""
) -> Path:
    """The folder of a dataset in the hub's cache, called as its commit, downloaded first unless `offline`.

    Args:
        name: owner/name.
        copy: what the user may put in place of it, as in "set data.path to ...".
        wanted: patterns of the files to download; all if None.
        reads: how much of it is read, for the message that it cannot be had.

    Raises:
        OfeError: there is no such dataset, it cannot be reached, or it is not in the cache and may not be downloaded.
    """
    from huggingface_hub import snapshot_download

    with reaching(name, copy, offline, reads=reads) as alone:
        found = snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=wanted, local_files_only=alone
        )
    return Path(found)


@cache
def bound_waits() -> None:
    """Let no request of `huggingface_hub` wait for ever. Most have no time limit of their own, and some ask for none.

    A server that accepts a connection and never answers would otherwise stop a preparation without a word.
    """
    try:
        from huggingface_hub import set_client_factory
        from huggingface_hub.utils._http import default_client_factory
    except ImportError:  # releases before 1.0, whose client cannot be replaced
        return

    def limit(request: Any) -> None:
        given = request.extensions.get("timeout") or {}
        limits = {kind: given.get(kind) or PATIENCE_S for kind in ("connect", "read", "write", "pool")}
        request.extensions = {**request.extensions, "timeout": limits}

    def client() -> Any:
        made = default_client_factory()
        hooks = made.event_hooks
        made.event_hooks = {**hooks, "request": [*hooks.get("request", []), limit]}
        return made

    set_client_factory(client)


@contextmanager
def reaching(name: str, copy: str, offline: bool, *, other: str | None = None, reads: str = "") -> Iterator[bool]:
    """Turn what stops `huggingface_hub` into an `OfeError` about the repository `name`.

    Yields whether only the cache is to be asked: the network may not be used, or the hub cannot be found here, so that
    every request would be repeated for half a minute.

    Args:
        copy: what the user may put in place of a dataset, as in "set data.path to ...".
        other: all that the user may do instead, where the repository is no dataset.
        reads: how much of a dataset is read, for the message that it cannot be had.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    bound_waits()
    way_out = other or (
        f"set data.path to {copy}, or prepare the data where there is a network and copy OFE_HOME/data, or copy "
        f"{_folder_in_cache(name)} of the hub's cache to {constants.HF_HUB_CACHE}"
    )
    if other is None and name not in STATED_BYTES:
        way_out += f" ({constants.ENDPOINT}/datasets/{name} says how large it is)"
    sized = named(name, reads)
    other = other or f"set data.path to {copy}"
    alone = offline or not hub_is_known()
    try:
        with _quiet_hub():
            yield alone
    except HFValidationError as error:
        raise OfeError(f"{name!r} is no name on the Hugging Face hub", hint="names are owner/name") from error
    except GatedRepoError as error:
        hint = f"accept its terms there and log in with `hf auth login`, or {other}"
        raise OfeError(f"{name} is on the Hugging Face hub for those who accept its terms", hint=hint) from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        hint = f"check the name and the revision, log in with `hf auth login` if it is private, or {other}"
        raise OfeError(f"{name} is not to be found on the Hugging Face hub", hint=hint) from error
    except OfeError:
        raise
    except Exception as error:  # what the HTTP client or the library raises, such as for a proxy that it cannot use
        if not isinstance(error, OSError) and not type(error).__module__.startswith("httpx"):
            hint = (
                f"unset or mend the variables of proxies and certificates ({_proxies() or 'none is set'}), or {other}"
            )
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise OfeError(f"the Hugging Face hub cannot be asked for {name}: {reason}", hint=hint) from error
        if alone:
            hint = way_out if offline else f"check the network, or {way_out}"
            raise OfeError(not_in_the_cache(sized, offline), hint=hint) from error
        hint = f"check the network{_by_proxy()}, or {way_out}"
        raise OfeError(f"{sized} cannot be reached on the Hugging Face hub{_answer(error)}", hint=hint) from error


def not_in_the_cache(what: str, offline: bool) -> str:
    """The message that only the cache was asked for `what`, since the network may not be used or knows no hub."""
    reason = "the network may not be used" if offline else f"{_host()} cannot be found"
    return f"{what} is not in the cache of the Hugging Face hub, and {reason}"


def _folder_in_cache(name: str) -> str:
    """How the cache of the hub calls the folder of the dataset `name`."""
    return f"datasets--{name.replace('/', '--')}"


def hub_is_known() -> bool:
    """Whether the hub's name has an address here. Without one, each request would be repeated for half a minute."""
    if any(os.environ.get(name) for one in ("ALL_PROXY", "HTTPS_PROXY") for name in (one, one.lower())):
        return True  # the proxy looks the name up
    try:
        socket.getaddrinfo(_host(), 443)
    except OSError:
        return False
    return True


def _host() -> str | None:
    """The name of the machine that is the hub."""
    from huggingface_hub import constants

    return urlsplit(constants.ENDPOINT).hostname


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Let `huggingface_hub` tell of its retries to nobody: what came of them is told in our words."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _answer(error: BaseException) -> str:
    """What the server did, as the end of a sentence: the status that it gave, or what stopped the connection."""
    found: BaseException | None = error
    reason = ""
    while found is not None:
        if (status := getattr(getattr(found, "response", None), "status_code", None)) is not None:
            return f": the server answered with the status {status}"
        if type(found).__module__.startswith("httpx"):
            reason = f": {str(found).rstrip('.') or type(found).__name__}"
        found = found.__cause__ or found.__context__
    return reason


_NETWORK_VARIABLES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "HF_ENDPOINT")


def _proxies() -> str:
    """The names of the variables that are set and decide how the hub is reached. Values may hold passwords."""
    names = [name for one in _NETWORK_VARIABLES for name in (one, one.lower())]
    return ", ".join(name for name in names if os.environ.get(name))


def _by_proxy() -> str:
    return f" and {found}" if (found := _proxies()) else ""


def without_patterns(folder: Path) -> Path:
    """`folder`, or a folder of links with plain names where names in it mean something to `datasets`.

    The library takes `*`, `?` and brackets for patterns, and `::` for the address of a file inside another. The links
    lie in a temporary folder, which is removed when this process ends.
    """
    files = find_files(folder, None, ()).files
    if _plain(str(folder.resolve())) == str(folder.resolve()) and not any("::" in name for name in files):
        return folder
    around = Path(tempfile.mkdtemp(prefix="ofe-"))
    atexit.register(shutil.rmtree, around, ignore_errors=True)
    links = around / _plain(folder.name)
    links.mkdir()
    for number, (name, path) in enumerate(files.items()):
        link = links / _plain(name)
        if link.exists():  # two names that differ only in such characters
            link = link.with_name(f"{number}-{link.name}")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path.resolve())
    return links


def _plain(name: str) -> str:
    """`name` without characters that mean something to `datasets`."""
    return re.sub(r"[*?\[\]]|::", "_", name)


@contextmanager
def explained(what: str, hint: str | None = None, *, folder: Path | None = None) -> Iterator[None]:
    """Turn whatever stops `datasets` into an `OfeError`: it passes on the errors of any file format and HTTP client.

    The loggers of the libraries are silent meanwhile, as the error says the same in words of ours.

    Args:
        folder: the folder of the user's own that is read. The error then names the file and line that cannot be read
            where one is found, and does not advise trying again, as a damaged file stays damaged.
    """
    try:
        with _silent("datasets"), _silent("huggingface_hub"):
            yield
    except OfeError:
        raise
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "").rstrip(".") or type(error).__name__
        if folder is not None and (damage := find_damage(find_files(folder, None, ()).files)):
            reason, hint = damage, f"mend that file, or take it out of {folder}"
        raise OfeError(f"{what}: {reason}", hint=hint) from error


@contextmanager
def _silent(library: str) -> Iterator[None]:
    """Log nothing of a library. This costs a microsecond, unlike a level, as reading comes here for every row."""
    logger = logging.getLogger(library)
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before


def copy_of_rows(path: str) -> Path:
    """The folder that `data.path` names, for a source that reads it with `datasets`.

    Raises:
        SpecError: there is no such folder.
    """
    return user_folder(path)
