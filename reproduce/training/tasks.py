"""From a run's configuration to what it trains on: model, batches, loss and evaluation, as one task."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from reproduce.config import RunConfig

if TYPE_CHECKING:
    from reproduce.training.train import Task


def build_task(
    config: RunConfig, device: torch.device, *, micro_batch: int | None = None, on_meta: bool = False
) -> tuple[Task, dict[str, Any]]:
    """The task of a run and a description of its data. Draws the initialisation from the run's seed.

    Args:
        micro_batch: examples that go through the model at once, where the batch does not fit into memory.
        on_meta: leave a language model without memory and values, which it is given when it is spread over devices.
    """
    from reproduce.data import TextCorpus, open_data
    from reproduce.training.language import LanguageTask
    from reproduce.training.vision import ImageTask

    data = open_data(config.data)
    torch.manual_seed(config.seed)
    about = {"source": config.data.source, "description": data.description, "fingerprint": data.fingerprint}
    if isinstance(data, TextCorpus):
        with torch.device("meta") if on_meta else nullcontext():
            return LanguageTask(config, data, device, micro_batch), about
    return ImageTask(config, data, device), about
