"""Opening a checkpoint: the module with its weights, its tokenizer, and its blocks.

    checkpoint = open_checkpoint("models/mine")
    tokens = checkpoint.tokens("some text")       (T,)
    logits = checkpoint.logits(tokens[None])      (1, T, V)

Weights are loaded in `dtype`, float32 by default, whatever type they are stored in. Code that comes with a checkpoint
is run only if the caller asks for it. A checkpoint that is larger than the memory is spread by `accelerate` over the
devices, the memory and the disk.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from reproduce.checkpoints.exporting import OWN_TYPE, build_own
from reproduce.checkpoints.files import read_config, refuse_config, weight_files, weights_bytes
from reproduce.checkpoints.identity import Located, locate, snapshot
from reproduce.checkpoints.structure import Structure, find_structure, first_tensor
from reproduce.config import TextData, TransformerConfig
from reproduce.errors import OfeError, out_of_memory
from reproduce.job_config import CheckpointParent, RunParent
from reproduce.machine import this_machine
from reproduce.models.transformer import Transformer
from reproduce.store.home import ensure_home
from reproduce.store.runs import RunFolder, Store

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer

Dtype = Literal["float32", "bfloat16", "float16"]
DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_TRIAL_TOKENS = 8
"""Positions of the forward pass in which the blocks are looked for."""
_HEADROOM = 1.2
"""Memory that a model takes, as a multiple of its weights, beside its activations."""


class Tokenizer(Protocol):
    """What is asked of the tokenizer of a checkpoint."""

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`, without any that begin or end a sequence."""
        ...

    def decode(self, tokens: list[int]) -> str:
        """The text that the tokens stand for."""
        ...

    @property
    def around(self) -> tuple[list[int], list[int]]:
        """The tokens that the model was trained to see before and after a sequence, such as BOS, or [CLS] and [SEP]."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """An opened model."""

    module: nn.Module
    """In evaluation mode, on its device."""
    tokenizer: Tokenizer | None
    identity: Located
    """What it is in the cache: a field `parent` of a job's configuration."""
    structure: Structure
    """Its blocks and its output embedding."""
    vocab_size: int
    max_length: int | None
    """Most positions in a sequence; None where the checkpoint sets no limit."""
    unused: tuple[str, ...] = ()
    """Tensors in its files of further blocks than its architecture has, by name."""

    @property
    def device(self) -> torch.device:
        """Where token indices have to be."""
        return next((p.device for p in self.module.parameters() if p.device.type != "meta"), torch.device("cpu"))

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) for `tokens` (B, T), or the last stream (B, T, d) of a model without output embedding."""
        output = first_tensor(self.call(tokens))
        assert output is not None
        return output

    @property
    def is_ours(self) -> bool:
        """Whether the module is one of ours, and not of `transformers`."""
        return isinstance(self.module, Transformer)

    def call(self, tokens: Tensor, **wanted: Any) -> Any:
        """What the module itself returns for `tokens` (B, T)."""
        tokens = tokens.to(self.device)
        if self.is_ours:
            return self.module(tokens)
        return self.module(input_ids=tokens, use_cache=False, **wanted) if self._caches else self.module(
            input_ids=tokens, **wanted
        )  # fmt: skip

    def logits(self, tokens: Tensor) -> Tensor:
        """The logits (B, T, V) for `tokens` (B, T).

        Raises:
            OfeError: the model has no output embedding.
        """
        if self.structure.head is None:
            raise OfeError(f"{type(self.module).__name__} predicts no tokens: it has no output embedding")
        return self.forward(tokens)

    def tokens(self, text: str) -> Tensor:
        """The tokens of `text`, (T,) int64.

        Raises:
            OfeError: the checkpoint has no tokenizer.
        """
        if self.tokenizer is None:
            raise OfeError(
                "this checkpoint has no tokenizer", hint="give token indices with --text-ids FILE", exit_code=2
            )
        return torch.tensor(self.tokenizer.encode(text), dtype=torch.int64)

    @property
    def _caches(self) -> bool:
        """Whether the model would keep keys and values for the tokens that follow, of which there are none here."""
        return hasattr(getattr(self.module, "config", None), "use_cache")


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
        return _load_run(identity, store, DTYPES[dtype], device)
    path = snapshot(identity, offline=offline, allow_pickle=allow_pickle)
    if path.is_dir() and read_config(path).get("model_type") == OWN_TYPE:
        return _load_own(identity, path, DTYPES[dtype], device)
    return _load_transformers(identity, path, DTYPES[dtype], device, allow_pickle, trust_remote_code)


# ---------------------------------------------------------------------------------------------------
# Checkpoints in the formats of `transformers`


def _load_transformers(
    identity: CheckpointParent,
    path: Path,
    dtype: torch.dtype,
    device: torch.device,
    allow_pickle: bool,
    trust_remote_code: bool,
) -> Checkpoint:
    import transformers

    name = identity.name
    folder, gguf = (path, {}) if path.is_dir() else (path.parent, {"gguf_file": path.name})
    common = {"trust_remote_code": trust_remote_code, "local_files_only": True, **gguf}
    with _explained(name, trust_remote_code=trust_remote_code), _silent():
        config = transformers.AutoConfig.from_pretrained(folder, **common)
    if not gguf:
        refuse_config(name, config.to_dict())
        weight_files(folder, allow_pickle=allow_pickle)
    with _explained(name, trust_remote_code=trust_remote_code):
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
    with _explained(name, trust_remote_code=trust_remote_code), _silent():
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
    with _explained(name, trust_remote_code=trust_remote_code, part="the tokenizer"):
        tokenizer = _tokenizer(folder, common)
    unused = _further_blocks(info["unexpected_keys"], (key for key, _ in module.named_parameters()))
    opened = Checkpoint(module, tokenizer, identity, _UNKNOWN, vocabulary, length, unused)
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


def _tokenizer(folder: Path, common: dict[str, Any]) -> Tokenizer | None:
    import transformers

    if "gguf_file" not in common and not any(folder.glob("*token*")) and not any(folder.glob("vocab*")):
        return None
    with _silent(), contextlib.suppress(OSError):  # files that look like those of a tokenizer, and are not
        return _TransformersTokenizer(transformers.AutoTokenizer.from_pretrained(folder, **common))
    return None


class _TransformersTokenizer:
    """A tokenizer of `transformers` as a `Tokenizer`."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        # Longer texts than the model takes are cut by the caller, so that no warning is wanted.
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens))

    @property
    def around(self) -> tuple[list[int], list[int]]:
        plain = self.encode("a")
        whole = list(self._tokenizer("a", verbose=False)["input_ids"])
        for start in range(len(whole) - len(plain) + 1):
            if whole[start : start + len(plain)] == plain:
                return whole[:start], whole[start + len(plain) :]
        return [], []


@contextlib.contextmanager
def _explained(name: str, *, trust_remote_code: bool, part: str = "") -> Iterator[None]:
    """Turn what stops `transformers` into an `OfeError` about the checkpoint `name`, or a `part` of it."""
    try:
        yield
    except OfeError:
        raise
    except Exception as error:  # any error of any loader: the library passes on those of every format
        if out_of_memory(error):
            hint = "pass --dtype bfloat16, or a smaller --batch"
            raise OfeError(f"{name} does not fit into the memory", hint=hint) from error
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        if "trust_remote_code" in str(error) and not trust_remote_code:
            raise OfeError(
                f"{name} brings code of its own, which would have to be run",
                hint="read that code, and pass --trust-remote-code if you trust it",
                exit_code=2,
            ) from error
        again = "copy the checkpoint again from where it came"
        if "ignore_mismatched_sizes" in str(error):  # an option of the library, which would make such weights random
            raise OfeError(f"the weights of {name} have other shapes than its config.json says", hint=again) from error
        if isinstance(error, LookupError | AttributeError | TypeError):  # whose text says nothing by itself
            said = f"{type(error).__name__}: {said}"
        if part:
            hint = f"{again}, or give token indices with --text-ids FILE"
            raise OfeError(f"{part} of {name} cannot be read ({said.rstrip('.')[:200]})", hint=hint) from error
        raise OfeError(
            f"{name} cannot be opened: {said.rstrip('.')[:200]}", hint="check that `transformers` can load it"
        ) from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep the progress bars and reports of `transformers` away from the terminal."""
    import transformers
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.ERROR)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
    del transformers


# ---------------------------------------------------------------------------------------------------
# Models of our own architecture: exported ones, and runs of the cache


def _load_own(identity: CheckpointParent, folder: Path, dtype: torch.dtype, device: torch.device) -> Checkpoint:
    """A model that `ofe export` has written in our own architecture."""
    from reproduce.training.weights import load_weights

    config = read_config(folder)
    module = build_own(config)
    (file,) = weight_files(folder)
    load_weights(file, module)
    module.to(device=device, dtype=dtype).eval()
    opened = Checkpoint(
        module,
        _tokenizer(folder, {"local_files_only": True}),
        identity,
        _UNKNOWN,
        int(config["vocab_size"]),
        int(config["max_position_embeddings"]),
    )
    return replace(opened, structure=structure_of(opened))


def _load_run(identity: RunParent, store: Store, dtype: torch.dtype, device: torch.device) -> Checkpoint:
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
        None if tokenizer is None else _PlainTokenizer(tokenizer),
        identity,
        _UNKNOWN,
        config.data.vocab_size,
        config.data.seq_len,
    )
    return replace(opened, structure=structure_of(opened))


def run_tokenizer(folder: RunFolder) -> FastTokenizer | None:
    """The tokenizer that the run's text was prepared with, if its prepared data are on this machine as `tokenizers` has
    them."""
    from tokenizers import Tokenizer as FastTokenizer

    from reproduce.data import prepared_folder
    from reproduce.data.text.tokeniser import TOKENISER_FILE

    file = prepared_folder(folder.training().data) / TOKENISER_FILE
    return FastTokenizer.from_file(str(file)) if file.is_file() else None


class _PlainTokenizer:
    """A tokenizer that was trained here as a `Tokenizer`."""

    around: tuple[list[int], list[int]] = ([], [])

    def __init__(self, tokenizer: FastTokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False))


# ---------------------------------------------------------------------------------------------------
# Structure


_UNKNOWN = Structure("", (), 0, 0, None)


def structure_of(checkpoint: Checkpoint) -> Structure:
    """The blocks of an opened model, found by one forward pass over a few tokens.

    Raises:
        OfeError: they cannot be found, or the model does not run on tokens.
    """
    vocabulary = max(checkpoint.vocab_size, 1)
    length = min(_TRIAL_TOKENS, checkpoint.max_length or _TRIAL_TOKENS)
    trial = (torch.arange(length) * 7 + 3)[None] % vocabulary  # (1, T)
    name = getattr(checkpoint.identity, "name", "this run")
    if not checkpoint.vocab_size:
        raise OfeError(
            f"{name} reads no tokens ({type(checkpoint.module).__name__} has no vocabulary)",
            hint="measure a model of images in Python, with `outlier_probe(model)` around your own forward passes",
            exit_code=2,
        )

    def run() -> None:
        with _explained(name, trust_remote_code=True):
            checkpoint.call(trial)

    return find_structure(checkpoint.module, run)
