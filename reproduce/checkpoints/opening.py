"""Opening a checkpoint: the module with its weights, its tokenizer, and its blocks.

    checkpoint = open_checkpoint("models/mine")
    tokens = checkpoint.tokens("some text")       (T,)
    logits = checkpoint.logits(tokens[None])      (1, T, V)

Weights are loaded in `dtype`, float32 by default, whatever type they are stored in. Code that comes with a checkpoint
is run only if the caller asks for it. A checkpoint that is larger than the memory is spread by `accelerate` over the
devices, the memory and the disk.

    checkpoint    what is opened
    foreign       what `transformers` reads
    own           what `ofe export` has written in our own architecture, and runs of the cache
    tokenizers    the tokenizer of either
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Literal

import torch

from reproduce.checkpoints.checkpoint import Checkpoint
from reproduce.checkpoints.exporting import OWN_TYPE
from reproduce.checkpoints.files import read_config
from reproduce.checkpoints.foreign import load_transformers, read_once
from reproduce.checkpoints.identity import Located, locate, snapshot
from reproduce.checkpoints.own import load_own, load_run
from reproduce.job_config import RunParent
from reproduce.store.runs import Store

Dtype = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def open_checkpoint(
    model: str,
    *,
    revision: str | None = None,
    step: int | None = None,
    gguf: str | None = None,
    store: Store | None = None,
    dtype: Dtype = "float32",
    device: torch.device | None = None,
    offline: bool = False,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Open the model that a user calls `model`; see `reproduce.checkpoints.identity.locate` for what that may be.

    Raises:
        OfeError: there is no such model, or it cannot be opened or measured.
    """
    located = locate(
        model, store=store, revision=revision, step=step, gguf=gguf, offline=offline, allow_pickle=allow_pickle
    )
    return load(
        located,
        store=store,
        dtype=dtype,
        device=device,
        offline=offline,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
    )


def load(
    identity: Located,
    *,
    store: Store | None = None,
    dtype: Dtype = "float32",
    device: torch.device | None = None,
    offline: bool = False,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
) -> Checkpoint:
    """Open the model with this identity.

    Args:
        store: where the weights of a run are.
        device: where it is put. None: a GPU if there is one, and else the CPU. A checkpoint that is larger than the
            memory there is spread over devices, memory and disk.

    Raises:
        OfeError: it is not there, is damaged, or cannot be measured.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(identity, RunParent):
        assert store is not None, "a run is in a store"
        return load_run(identity, store, DTYPES[dtype], device)
    path = snapshot(identity, offline=offline, allow_pickle=allow_pickle)
    if path.is_dir() and read_config(path).get("model_type") == OWN_TYPE:
        return load_own(identity, path, DTYPES[dtype], device)
    with nullcontext() if path.is_dir() else read_once():
        return load_transformers(identity, path, DTYPES[dtype], device, allow_pickle, trust_remote_code)
