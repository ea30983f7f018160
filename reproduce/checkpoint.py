"""The newest state of a training, replaced as a whole: a kill while it is written leaves the one before."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from reproduce.store.atomic import replacing
from reproduce.store.home import explain_os_errors
from reproduce.store.layout import CHECKPOINT, damaged


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` to the run folder's checkpoint.

    Raises:
        OfeError: the disk is full or cannot be written; the checkpoint before stays.
    """
    path = folder / CHECKPOINT
    with explain_os_errors(path), replacing(path) as aside, open(aside, "wb") as file:
        torch.save(state, file)


def load(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The run folder's checkpoint, None where there is none.

    Raises:
        OfeError: the file is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise damaged(path, "cannot be read") from error
