"""The files of a checkpoint in a folder, read without torch: which hold its weights, and whether it can be measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduce.errors import OfeError
from reproduce.store.json_text import loads

CONFIG = "config.json"
SAFE, PICKLED = ("*.safetensors",), ("pytorch_model*.bin", "*.pt", "*.pth")
IDENTIFYING = (CONFIG, "*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin*", "tokenizer*", "vocab*",
               "merges.txt", "*.model", "special_tokens_map.json", "added_tokens.json")  # fmt: skip
"""Files that decide what is measured: weights, architecture and tokenizer."""


def weight_files(folder: Path, *, allow_pickle: bool = False) -> list[Path]:
    """The files with the weights of the checkpoint in `folder`, safetensors if it has any.

    Args:
        allow_pickle: whether PyTorch's older format will do, which is a Python pickle.

    Raises:
        OfeError: there are none, or only pickles, which are not allowed.
    """
    safe = _matching(folder, *SAFE)
    if safe:
        return safe
    pickled = _matching(folder, *PICKLED)
    if not pickled:
        raise OfeError(
            f"{folder} has no weights: neither a .safetensors nor a .bin file",
            hint="name a folder that `save_pretrained` or `ofe export` has written",
            exit_code=2,
        )
    if not allow_pickle:
        raise OfeError(
            f"the weights in {folder} are a Python pickle ({pickled[0].name}), which can run code when it is read",
            hint="convert them to safetensors, or pass --allow-pickle to read tensors and nothing else from it",
            exit_code=2,
        )
    return pickled


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json in `folder`.

    Raises:
        OfeError: it is missing or damaged.
    """
    path = folder / CONFIG
    try:
        content = loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OfeError(
            f"{folder} is no checkpoint: it has no {CONFIG}",
            hint="name a folder in the Hugging Face format, a .gguf file, a name on the hub, or a run (`ofe status`)",
            exit_code=2,
        ) from error
    except (OSError, ValueError) as error:
        raise OfeError(f"{path} cannot be read", hint="copy the checkpoint again from where it came") from error
    if not isinstance(content, dict):
        raise OfeError(f"{path} is not a JSON object", hint="copy the checkpoint again from where it came")
    return content


def most_positions(config: dict[str, Any]) -> int | None:
    """The longest sequence that the model of a config.json takes, as far as the file says it; else None."""
    for name in ("max_position_embeddings", "n_positions", "seq_len"):
        found = config.get(name)
        if isinstance(found, int) and not isinstance(found, bool) and found > 0:
            return found
    return None


def refuse_config(name: str, config: dict[str, Any]) -> None:
    """Refuse a checkpoint whose config.json shows that it cannot be measured.

    Raises:
        OfeError: it is quantised, or it is an encoder with a decoder.
    """
    quantised = config.get("quantization_config") or config.get("compression_config")
    if quantised:
        how = quantised.get("quant_method", "some method") if isinstance(quantised, dict) else quantised
        raise OfeError(
            f"{name} is quantised ({how}), and its activations are not those of the model that it was made from",
            hint="name the checkpoint in 16 or 32 bits",
            exit_code=2,
        )
    if config.get("is_encoder_decoder"):
        raise OfeError(
            f"{name} has an encoder and a decoder, and two streams have no layers in common",
            hint="name a decoder or an encoder, or measure one part in Python, with `outlier_probe(model.encoder)`",
            exit_code=2,
        )


def weights_bytes(folder: Path, *, allow_pickle: bool = False) -> int:
    """Size in bytes of the weight files in `folder`."""
    return sum(path.stat().st_size for path in weight_files(folder, allow_pickle=allow_pickle))


def identifying_files(folder: Path) -> list[Path]:
    """The files of `folder` that decide what is measured, each once and by name."""
    return _matching(folder, *IDENTIFYING)


def _matching(folder: Path, *patterns: str) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
