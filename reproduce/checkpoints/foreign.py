"""Checkpoints in the formats that `transformers` reads: folders, snapshots of the hub, GGUF files.

A checkpoint that is larger than the memory is spread by `accelerate` over the devices, the memory and the disk.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from reproduce.checkpoints.checkpoint import UNKNOWN, Checkpoint, structure_of
from reproduce.checkpoints.files import refuse_config, weight_files, weights_bytes
from reproduce.checkpoints.library import explained, silent
from reproduce.checkpoints.tokenizers import tokenizer_in
from reproduce.errors import OfeError
from reproduce.job_config import CheckpointParent
from reproduce.machine import this_machine
from reproduce.store.home import ensure_home

_HEADROOM = 1.2
"""Memory that a model takes, as a multiple of its weights, beside its activations."""


def load_transformers(
    identity: CheckpointParent,
    path: Path,
    dtype: torch.dtype,
    device: torch.device,
    allow_pickle: bool,
    trust_remote_code: bool,
) -> Checkpoint:
    """Open a checkpoint in a folder, or in a GGUF file; the latter best within `read_once`.

    Raises:
        OfeError: `transformers` cannot load it, it cannot be measured, or weights are missing.
    """
    import transformers

    name = identity.name
    folder, gguf = (path, {}) if path.is_dir() else (path.parent, {"gguf_file": path.name})
    common = {"trust_remote_code": trust_remote_code, "local_files_only": True, **gguf}
    with explained(name, trust_remote_code=trust_remote_code), silent():
        config = transformers.AutoConfig.from_pretrained(folder, **common)
    if not gguf:
        refuse_config(name, config.to_dict())
        weight_files(folder, allow_pickle=allow_pickle)
    with explained(name, trust_remote_code=trust_remote_code):
        kind = _auto_class(config)
    options: dict[str, Any] = {"dtype": dtype, "output_loading_info": True, **common}
    if not gguf:
        options["use_safetensors"] = not allow_pickle or None
    size = path.stat().st_size * 8 if gguf else weights_bytes(folder, allow_pickle=allow_pickle)
    memory = (
        this_machine().memory_bytes if device.type == "cpu" else torch.cuda.get_device_properties(device).total_memory
    )
    spread = size * _HEADROOM > memory
    if spread:
        options |= {"device_map": "auto", "offload_folder": str(ensure_home() / "offloaded")}
        if device.type == "cpu":
            options["max_memory"] = {"cpu": int(memory / _HEADROOM)}
    with explained(name, trust_remote_code=trust_remote_code), silent():
        module, info = kind.from_pretrained(folder, **options)
    missing = sorted(key for key in info["missing_keys"] if "pooler" not in key)  # a pooler comes after the stream
    wrong = missing or sorted(map(str, info["mismatched_keys"])) or list(info["error_msgs"])
    if wrong:
        raise OfeError(
            f"{name} lacks weights of its own architecture, such as {wrong[0]}, which would be random",
            hint="copy the checkpoint again from where it came",
        )
    if not spread:
        module.to(device)
    module.eval()
    text = config.get_text_config()
    length = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None)
    vocabulary = int(getattr(text, "vocab_size", 0))
    with explained(name, trust_remote_code=trust_remote_code, part="the tokenizer"):
        tokenizer = tokenizer_in(folder, common)
    unused = _further_blocks(info["unexpected_keys"], (key for key, _ in module.named_parameters()))
    opened = Checkpoint(module, tokenizer, identity, UNKNOWN, vocabulary, length, unused)
    return replace(opened, structure=structure_of(opened))


def _further_blocks(unexpected: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Those of the unexpected tensors that are named as a known parameter is, up to the number of the block.

    Others are left out on purpose, such as the head of an encoder, or can be computed.
    """
    shapes = {re.sub(r"\d+", "#", key) for key in known}
    return tuple(key for key in sorted(unexpected) if re.sub(r"\d+", "#", key) in shapes)


def _auto_class(config: Any) -> Any:
    """The class of `transformers` that opens a model with its output embedding, if it is a decoder.

    The head of an encoder changes the stream before its output embedding, so an encoder is opened without.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as DECODERS
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as ENCODERS

    architecture = (getattr(config, "architectures", None) or [""])[0]
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return transformers.AutoModelForCausalLM
    plain = architecture in ("", type(config).__name__.replace("Config", "Model"))
    decoder = config.model_type in DECODERS and config.model_type not in ENCODERS
    tied = getattr(config, "tie_word_embeddings", False) or not architecture
    return transformers.AutoModelForCausalLM if plain and decoder and tied else transformers.AutoModel


@contextlib.contextmanager
def read_once() -> Iterator[None]:
    """Let `transformers` read a GGUF file once, and not for the configuration, the weights and the tokenizer each.

    Its index of tensors and its vocabulary of a hundred thousand entries are parsed in Python, which takes seconds.
    """
    import gguf

    reader = gguf.GGUFReader
    gguf.GGUFReader = cache(reader)
    try:
        yield
    finally:
        gguf.GGUFReader = reader
