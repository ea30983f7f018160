"""The weights of a model as a safetensors file, in float32 and under the names of the parameters.

A parameter that is used in two places (a tied unembedding) is written once, under its first name. Under FSDP2 each
process holds a shard of each parameter, so all processes take part in putting them together, and the chief writes.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from reproduce.parallel import group
from reproduce.store.atomic import file_hash, replacing
from reproduce.store.layout import damaged
from reproduce.store.weights import file_name, read_weights, write_weights


@torch.no_grad()
def keep_weights(folder: Path, model: nn.Module, step: int, last_step: int) -> None:
    """Write the weights after `step` of `last_step` optimiser steps to the run folder, and list them in weights.json.

    All processes have to call this.

    Raises:
        OfeError: the disk is full or cannot be written. The weights that were kept before stay.
    """
    tensors: dict[str, Tensor] = {}  # of the chief alone: the others would hold the whole model for nothing
    for name, parameter in model.named_parameters():
        # A collective operation under FSDP2: all processes gather each parameter, in the same order.
        whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        if group.chief():
            tensors[name] = whole.detach().cpu().contiguous()
    if not group.chief():
        return
    path = folder / file_name(step, last_step)
    with replacing(path, needs=sum(tensor.nbytes for tensor in tensors.values())) as aside:
        try:
            aside.touch()
            mode = aside.stat().st_mode  # as any other file has it; safetensors lets the owner alone read
            save_file(tensors, aside, metadata={"format": "pt"})  # one entry: several would come in any order
            aside.chmod(mode)
        except SafetensorError as error:  # the number of the system's error is only in its text
            number = re.search(r"os error (\d+)", str(error))
            raise (OSError(int(number[1]), os.strerror(int(number[1]))) if number else error) from error
    known = read_weights(folder)
    write_weights(folder, replace(known, files=known.files | {step: (path.name, file_hash(path))}))


@torch.no_grad()
def load_weights(path: Path, model: nn.Module) -> None:
    """Copy the weights in the file `path` into the parameters of `model`, on whatever device they are.

    Raises:
        OfeError: the file is damaged, or holds the weights of another model.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise damaged(path, "cannot be read") from error
    # All names and shapes are compared before the first copy, so that no model is left with weights of two runs.
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != shapes:
        raise damaged(path, "holds the weights of another model")
    for name, parameter in model.named_parameters():
        parameter.copy_(tensors[name])
