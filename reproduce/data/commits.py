"""The commits to which revisions of models on the Hugging Face hub lead, as they were when a figure first used them.

    OFE_HOME/commits.json        {"EleutherAI/pythia-160m": {"step1000": "<commit>"}}

A branch or tag can be moved. Once a figure has used one, the commit is what its measurements are keyed by, on this
machine and for as long as the file is there. Nothing here imports torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reproduce.data.hub import may_not_download, reaching
from reproduce.errors import OfeError
from reproduce.store.atomic import write_json
from reproduce.store.home import ensure_home, ofe_home
from reproduce.store.regular import text_of

FILE = "commits.json"
CONFIG = "config.json"
OTHER_COPY = (
    "download the repository where there is a network (`hf download NAME --local-dir DIR`), and name that folder"
)
"""What a user may do who cannot reach a repository."""


def commit_of(name: str, revision: str | None, *, file: str = CONFIG, offline: bool = False) -> Path:
    """The folder in the hub's cache, called as the commit, of the revision of a model; `file` is fetched on the way.

    Raises:
        OfeError: there is no such repository or revision, or it is not in the cache and may not be asked for.
    """
    from huggingface_hub import hf_hub_download

    with reaching(name, "", may_not_download(offline), other=OTHER_COPY) as alone:
        found = Path(hf_hub_download(name, file, revision=revision, local_files_only=alone))
    return found.parents[len(Path(file).parts) - 1]


def recorded_commit(name: str, revision: str | None) -> str:
    """The commit that was recorded of the revision; "" if none was."""
    return str(_read().get(name, {}).get(revision or "main", ""))


def pinned_commit(name: str, revision: str | None) -> str:
    """The commit that was recorded of the revision, or the one to which it leads now, which is recorded.

    Raises:
        OfeError: the hub has to be asked and cannot be, or the record is damaged.
    """
    known = recorded_commit(name, revision)
    if known:
        return known
    found = commit_of(name, revision).name
    content = _read()
    content.setdefault(name, {})[revision or "main"] = found
    write_json(ensure_home() / FILE, content)
    return found


def _read() -> dict[str, Any]:
    path = ofe_home() / FILE
    try:
        content = json.loads(text_of(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise OfeError(f"{path} cannot be read", hint="remove it: commits are then looked up again") from error
    return content if isinstance(content, dict) else {}
