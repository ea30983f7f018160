"""From a run's configuration to what it trains on: model, batches, loss and evaluation, as one task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from reproduce.config import RunConfig, TextData

if TYPE_CHECKING:
    from reproduce.train import Task


def build_task(config: RunConfig, device: torch.device) -> tuple[Task, dict[str, Any]]:
    """The task of a run and a description of its data. Draws the initialisation from the run's seed."""
    from reproduce.data import open_text
    from reproduce.language import LanguageTask

    assert isinstance(config.data, TextData)
    corpus = open_text(config.data)
    torch.manual_seed(config.seed)
    about = {"source": config.data.source, "description": corpus.description, "fingerprint": corpus.fingerprint}
    return LanguageTask(config, corpus, device), about
