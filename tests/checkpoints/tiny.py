"""Tiny random checkpoints of many architectures, in the format of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

VOCABULARY = 320
_COMMON = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
_GATED = _COMMON | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 64}
_FFN = _COMMON | {"intermediate_size": 64, "max_position_embeddings": 64}
_ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

DECODERS: dict[str, dict[str, Any]] = {
    "GPTNeoX": _FFN | {"use_parallel_residual": True},
    "OPT": _COMMON | {"ffn_dim": 64, "max_position_embeddings": 64, "word_embed_proj_dim": 32, **_ENDS},
    "GPT2": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64},
    "Llama": _GATED,
    "Qwen2": _GATED,
    "Qwen3": _GATED | {"head_dim": 16},
    "Mistral": _GATED,
    "Mixtral": _GATED | {"num_local_experts": 3, "num_experts_per_tok": 2},
    "Gemma": _GATED | {"head_dim": 16, **_ENDS},
    "Gemma2": _GATED | {"head_dim": 16, **_ENDS},
    "Phi": _FFN,
    "Phi3": _GATED | _ENDS,
    "Bloom": {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 3, "n_head": 4},
    "Falcon": _COMMON | {"new_decoder_architecture": False},
    "GPTBigCode": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64},
    "GPTNeo": {"vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 4,
               "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 64},
    "GPTJ": {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "rotary_dim": 4},
    "Olmo2": _GATED,
    "StableLm": _GATED,
    "Starcoder2": _GATED,
}  # fmt: skip
"""Name of an architecture -> its configuration. All have `<name>Config` and `<name>ForCausalLM`."""

ENCODERS: dict[str, dict[str, Any]] = {
    "Bert": _FFN,
    "Roberta": _FFN,
    "Albert": _FFN | {"embedding_size": 16},
    "DistilBert": {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64},
    "Electra": _FFN | {"embedding_size": 16},
}

IMAGES: dict[str, dict[str, Any]] = {
    "ViT": {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
            "image_size": 32, "patch_size": 8},
}  # fmt: skip

FAMILIES = DECODERS | ENCODERS | IMAGES


def build(family: str, seed: int = 0, **changes: Any) -> Any:
    """A tiny random model of `family`, in evaluation mode."""
    config = getattr(transformers, f"{family}Config")(**(FAMILIES[family] | changes))
    kind = f"{family}ForCausalLM" if hasattr(transformers, f"{family}ForCausalLM") else f"{family}LMHeadModel"
    torch.manual_seed(seed)
    return getattr(transformers, kind if family in DECODERS else f"{family}Model")(config).eval()


def inputs(family: str, batch: int = 2, length: int = 10, seed: int = 1) -> dict[str, torch.Tensor]:
    """A batch for a model of `family`."""
    generator = torch.Generator().manual_seed(seed)
    if family in IMAGES:
        return {"pixel_values": torch.randn(batch, 3, 32, 32, generator=generator)}
    return {"input_ids": torch.randint(3, VOCABULARY, (batch, length), generator=generator)}


def save(model: Any, folder: Path, *, tokenizer: bool = True, **options: Any) -> Path:
    """Write `model` to `folder` as the hub has it, with a tokenizer of bytes."""
    model.save_pretrained(folder, **options)
    if tokenizer:
        byte_tokenizer().save_pretrained(folder)
    return folder


def byte_tokenizer() -> Any:
    """A tokenizer with a token for each byte, of which there are fewer than `VOCABULARY`."""
    alphabet = {symbol: index for index, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    plain = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=plain)
