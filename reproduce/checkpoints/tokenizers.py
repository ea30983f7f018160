"""The tokenizer of a checkpoint, or of a run, as a `reproduce.checkpoints.checkpoint.Tokenizer`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.checkpoints.checkpoint import Tokenizer
from reproduce.checkpoints.library import silent
from reproduce.store.runs import RunFolder

if TYPE_CHECKING:
    from tokenizers import Tokenizer as FastTokenizer


def tokenizer_in(folder: Path, common: dict[str, Any]) -> Tokenizer | None:
    import transformers

    if "gguf_file" not in common and not any(folder.glob("*token*")) and not any(folder.glob("vocab*")):
        return None
    with silent(), contextlib.suppress(OSError):  # files that look like those of a tokenizer, and are not
        return TransformersTokenizer(transformers.AutoTokenizer.from_pretrained(folder, **common))
    return None


class TransformersTokenizer:
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


def run_tokenizer(folder: RunFolder) -> FastTokenizer | None:
    """The tokenizer that the run's text was prepared with, if its prepared data are on this machine as `tokenizers` has
    them."""
    from tokenizers import Tokenizer as FastTokenizer

    from reproduce.data import prepared_folder
    from reproduce.data.text.tokeniser import TOKENISER_FILE

    file = prepared_folder(folder.training().data) / TOKENISER_FILE
    return FastTokenizer.from_file(str(file)) if file.is_file() else None


class PlainTokenizer:
    """A tokenizer that was trained here as a `Tokenizer`."""

    around: tuple[list[int], list[int]] = ([], [])

    def __init__(self, tokenizer: FastTokenizer) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=False))
