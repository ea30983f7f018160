"""Models of our own architecture: what `ofe export` has written under our own names, and runs of the cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from reproduce.checkpoints.checkpoint import UNKNOWN, Checkpoint, structure_of
from reproduce.checkpoints.exporting import build_own
from reproduce.checkpoints.files import read_config, weight_files
from reproduce.checkpoints.tokenizers import PlainTokenizer, run_tokenizer, tokenizer_in
from reproduce.config import TextData, TransformerConfig
from reproduce.errors import OfeError
from reproduce.job_config import CheckpointParent, RunParent
from reproduce.models.transformer import Transformer
from reproduce.store.runs import Store


def load_own(identity: CheckpointParent, folder: Path, dtype: torch.dtype, device: torch.device) -> Checkpoint:
    """A model that `ofe export` has written in our own architecture."""
    from reproduce.training.weights import load_weights

    config = read_config(folder)
    module = build_own(config)
    (file,) = weight_files(folder)
    load_weights(file, module)
    module.to(device=device, dtype=dtype).eval()
    opened = Checkpoint(
        module,
        tokenizer_in(folder, {"local_files_only": True}),
        identity,
        UNKNOWN,
        int(config["vocab_size"]),
        int(config["max_position_embeddings"]),
    )
    return replace(opened, structure=structure_of(opened))


def load_run(identity: RunParent, store: Store, dtype: torch.dtype, device: torch.device) -> Checkpoint:
    """A language model that was trained here, with the weights that it has kept, and its tokenizer if that is known.

    Raises:
        OfeError: it is not in the store, models images, or has not kept these weights.
    """
    from reproduce.training.weights import load_weights

    folder = store.find(identity.key)
    if folder is None:
        raise OfeError(f"there is no run {identity.key}", hint="`ofe status` lists the runs")
    config = folder.training()
    if not isinstance(config.model, TransformerConfig) or not isinstance(config.data, TextData):
        raise OfeError(f"{folder.slug} is a model of images, which reads no tokens", hint="name a language model",
                       exit_code=2)  # fmt: skip
    module = Transformer(config.model, config.data.vocab_size, config.data.seq_len)
    load_weights(folder.weights_file(identity.step), module)
    module.to(device=device, dtype=dtype).eval()
    tokenizer = run_tokenizer(folder)
    opened = Checkpoint(
        module,
        None if tokenizer is None else PlainTokenizer(tokenizer),
        identity,
        UNKNOWN,
        config.data.vocab_size,
        config.data.seq_len,
    )
    return replace(opened, structure=structure_of(opened))
