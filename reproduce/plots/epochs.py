"""How many optimiser steps one pass over the training images takes, for figures whose x axis is the epoch."""

from __future__ import annotations

import math

from reproduce.config import RunConfig
from reproduce.errors import SpecError

_TRAIN_IMAGES = {"cifar10": 50_000, "imagenet-1k": 1_281_167}
"""Training images of the published sets; other sources say how many they draw for an epoch."""


def steps_per_epoch(config: RunConfig) -> int:
    """Steps in an epoch, its last and smaller batch included.

    Raises:
        SpecError: the run is on text, or on images of unknown number.
    """
    data = config.data
    if data.kind != "images":
        raise SpecError("a run on text has no epochs", hint="set plot.x.metric to step")
    images = data.train_images or _TRAIN_IMAGES.get(data.source)
    if images is None:
        raise SpecError(f"nothing says how many images of {data.source} make an epoch", hint="set data.train_images")
    return math.ceil(images / config.batch_size)
