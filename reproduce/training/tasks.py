"""From a run's configuration to its task, which has the model, the batches, the loss and the evaluation."""

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
    """Build the task of a run, with a model that is initialised from the run's seed.

    Args:
        micro_batch: number of examples in one forward pass; the whole batch if None.
        on_meta: build a language model on the meta device, where it takes no memory and has no values. FSDP2 gives it
            values when it divides the model among the devices.

    Returns:
        The task, and its data as provenance describes them: `source`, `description` and `fingerprint`.

    Raises:
        OfeError: the data cannot be had, or fewer examples are held out than a probe batch needs.
    """
    from reproduce.data import TextCorpus, open_data
    from reproduce.training.language import LanguageTask
    from reproduce.training.vision import ImageTask

    data = open_data(config.data)
    torch.manual_seed(config.seed)  # directly before the model is built, so that nothing else draws from it
    about = {"source": config.data.source, "description": data.description, "fingerprint": data.fingerprint}
    if isinstance(data, TextCorpus):
        with torch.device("meta") if on_meta else nullcontext():
            return LanguageTask(config, data, device, micro_batch), about
    return ImageTask(config, data, device), about
