"""A language model on tokens drawn from a seed and a classifier of images drawn from one: each trains in a second."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from reproduce.config import ImageData, RunConfig
from reproduce.data import TextCorpus
from reproduce.data.images.image_set import Labelled, StoredImages
from reproduce.data.images.opening import Images
from reproduce.data.images.whitening import Normalisation
from reproduce.parallel import group
from reproduce.store.runs import RunFolder
from reproduce.training.language import LanguageTask
from reproduce.training.train import Execution, Interrupted, Task, Training
from reproduce.training.vision import ImageTask

CPU = torch.device("cpu")
STEPS = 6
SOAP = {"name": "soap", "eps": 1e-2, "precond_freq": 2}
"""With an eps above the rounding of the gradients: directions without a gradient are not divided by their noise."""


def toy_config(**changes: Any) -> RunConfig:
    """A tied transformer with trained scalar gains, a probe batch that two processes cannot halve, and clipping."""
    norms = {"pre_qk": "rms", "pre_v": "rms", "pre_mlp": "ln", "final_norm": "rms"}
    tree: dict[str, Any] = {
        "model": {"kind": "transformer", "layers": 2, "width": 16, "heads": 2, "tied": True, "biases": "all"},
        "data": {"kind": "text", "source": "random", "seq_len": 12, "vocab_size": 257},
        "optimizer": {"lr": 1e-2, "weight_decay": 0.1},
        "steps": STEPS,
        "batch_size": 8,
        "grad_clip": 0.5,
        "probe": {"every": 3, "batch_size": 5},
        "eval": {"every": 3, "batches": 2},
    }
    tree["model"]["block"] = norms | {"gains": "scalar", "attn_gain": 0.3, "mlp_gain": 0.3}
    for section, change in changes.items():
        tree[section] = tree[section] | change if isinstance(change, dict) else change
    return RunConfig.model_validate(tree)


class RandomCorpus:
    """Every token is drawn from the seed and the step, skewed so that there is something to learn."""

    def _draw(self, key: tuple[int, ...], size: int) -> np.ndarray:
        return np.random.default_rng(key).geometric(0.05, (size, 12)).clip(max=256)

    def batch(self, seed: int, step: int, size: int) -> np.ndarray:
        return self._draw((0, seed, step), size)

    def eval_batch(self, index: int, size: int) -> np.ndarray:
        return self._draw((1, index), size)

    def probe_batch(self, size: int) -> np.ndarray:
        return self._draw((2,), size)


def image_config() -> RunConfig:
    """A vision transformer whose every third step has the last 5 of 21 images, or the last one of 17."""
    return RunConfig.model_validate(
        {
            "model": {"kind": "vit", "layers": 2, "width": 16, "heads": 2, "patch": 4, "drop_path": 0.2},
            "data": {"kind": "images", "source": "photo-patches", "side": 8, "augment": {"mixup": 0.8, "flip": True}},
            "optimizer": {"lr": 1e-2},
            "steps": STEPS,
            "batch_size": 8,
            "probe": {"every": 3, "batch_size": 5},
            "eval": {"every": 3, "batches": 2},
        }
    )


def random_images(count: int) -> Images:
    draw = np.random.default_rng(0)
    train, test = (
        Labelled(draw.integers(0, 256, (size, 3, 8, 8), np.uint8), draw.integers(0, 10, size)) for size in (count, 12)
    )
    normalisation = Normalisation(np.full(3, 0.5, np.float32), np.full(3, 4.0, np.float32))
    return Images(Path(), "", StoredImages("random images", train, test), normalisation)


def toy_task(config: RunConfig, execution: Execution, images: int = 21) -> Task:
    torch.manual_seed(config.seed)
    if isinstance(config.data, ImageData):
        return ImageTask(config, random_images(images), execution.device)
    on_meta = execution.mode == "fsdp" and not group.chief()
    with torch.device("meta") if on_meta else nullcontext():
        return LanguageTask(config, cast(TextCorpus, RandomCorpus()), execution.device, execution.micro_batch)


def train(
    folder: Path,
    config: RunConfig,
    *,
    stop_at: int | None = None,
    stop_on: int = 0,
    images: int = 21,
    device: torch.device = CPU,
    **execution: Any,
) -> Training:
    """Train in `folder`, from the checkpoint there if there is one; process `stop_on` asks for the end at `stop_at`."""
    folder.mkdir(parents=True, exist_ok=True)
    how = Execution(device, **execution)
    training = Training(config, toy_task(config, how, images), RunFolder(folder), how)

    def asked() -> bool:
        return training.step == stop_at and group.rank() == stop_on

    try:
        training.run(asked)
    except Interrupted:
        training.writer.close()
    assert training.step == (STEPS if stop_at is None else stop_at)
    return training
