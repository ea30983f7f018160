"""A trained run as a folder in the format of the Hugging Face hub: config.json, model.safetensors, tokenizer.json.

A Pre-LN or Post-LN block with learnt positions is an OPT, whose class in `transformers` gives the same logits:

    ours                                OPT
    embed_scale x token embedding       embed_tokens, multiplied once
    position_scale x position i         embed_positions at i + 2, multiplied once
    block i: norm_qk, query, ...        layers.i: self_attn_layer_norm, self_attn.q_proj, ...
    biases that we have not             zeros

Every other model is written under our own names, with its `TransformerConfig` in config.json and `model_type` "ofe".
`reproduce.checkpoints.opening` reads that folder, and no code has to be trusted.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from reproduce.config import RunConfig, TextData, TransformerConfig
from reproduce.errors import OfeError
from reproduce.models.transformer import Block, Transformer
from reproduce.store.atomic import aside_of
from reproduce.store.home import explain_os_errors
from reproduce.store.runs import RunFolder
from reproduce.training.weights import load_weights

OWN_TYPE = "ofe"
"""`model_type` of a checkpoint in our own architecture."""
_POSITIONS_BEFORE = 2
"""Rows of OPT's table of positions before that of the first one."""


def export_run(folder: RunFolder, step: int, target: Path) -> str:
    """Write the model of a run after `step` steps to the folder `target`, and return the name of its architecture.

    Raises:
        OfeError: the run is no language model or has not kept these weights, or `target` holds something already.
    """
    training = folder.training()
    if not isinstance(training.model, TransformerConfig) or not isinstance(training.data, TextData):
        raise OfeError(f"{folder.slug} is a model of images, which the hub's format of language models does not hold",
                       hint="name a language model", exit_code=2)  # fmt: skip
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OfeError(f"{target} exists and is not an empty folder", hint="name another folder", exit_code=2)
    model = Transformer(training.model, training.data.vocab_size, training.data.seq_len)
    load_weights(folder.weights_file(step), model)
    fits = is_opt(training.model)
    config = opt_config(training) if fits else own_config(training)
    config["ofe"] = {"run": folder.slug, "key": folder.key, "step": step}
    aside = aside_of(target)
    with explain_os_errors(target, "--to"):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir()
            (aside / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            save_file(opt_weights(model) if fits else own_weights(model), aside / "model.safetensors", {"format": "pt"})
            (aside / "model.safetensors").chmod((aside / "config.json").stat().st_mode)  # else for its owner alone
            _write_tokenizer(folder, aside, training.data.seq_len)
            if target.exists():
                target.rmdir()
            aside.rename(target)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
    return str(config["architectures"][0])


def _write_tokenizer(run: RunFolder, target: Path, length: int) -> None:
    import transformers

    from reproduce.checkpoints.tokenizers import run_tokenizer
    from reproduce.data import open_data
    from reproduce.data.text.tokeniser import END_OF_DOCUMENT

    open_data(run.training().data)  # prepares them where they are not, and the tokenizer with them
    tokenizer = run_tokenizer(run)
    if tokenizer is None:
        raise OfeError(
            f"the text of {run.slug} was tokenised by a tokeniser that is no tokenizer.json, which an export needs",
            hint="measure the run itself: `ofe measure` reads it without a tokenizer",
        )
    end = END_OF_DOCUMENT if tokenizer.token_to_id(END_OF_DOCUMENT) is not None else None
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, model_max_length=length)
    wrapped.save_pretrained(target)


# ---------------------------------------------------------------------------------------------------
# OPT


def is_opt(model: TransformerConfig) -> bool:
    """Whether OPT computes what `model` does, so that its weights can be written as those of an OPT."""
    block = model.block
    pre = (block.pre_qk, block.pre_v, block.pre_mlp) == ("ln", "ln", "ln") and block.post_norm == "none"
    post = (block.pre_qk, block.pre_v, block.pre_mlp) == ("none", "none", "none") and block.post_norm == "ln"
    plain = (
        block.post_qk == "none" and block.tanh_cap is None and block.attn_alpha == 0 and block.gains == "fixed"
        and block.attn_gain == block.mlp_gain == 1 and set(model.mlp_input_scales) == {1}
    )  # fmt: skip
    return (
        (pre or post)
        and plain
        and model.positions == "learnt"
        and model.activation in ("relu", "gelu")
        and block.final_norm in (("none", "ln") if pre else ("none",))
        and (model.embed_scale == 1 or not model.tied)  # a tied unembedding would be multiplied too
    )


def opt_config(training: RunConfig) -> dict[str, Any]:
    """The config.json of an OPT with the shape of the run's model."""
    model, data = training.model, training.data
    assert isinstance(model, TransformerConfig)
    assert isinstance(data, TextData)
    return {
        "architectures": ["OPTForCausalLM"],
        "model_type": "opt",
        "activation_function": model.activation,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "do_layer_norm_before": model.block.post_norm == "none",
        "_remove_final_layer_norm": model.block.final_norm == "none",
        "dropout": 0.0,
        "enable_bias": True,
        "eos_token_id": 0,
        "ffn_dim": model.mlp_width,
        "hidden_size": model.width,
        "init_std": model.init_std,
        "layer_norm_elementwise_affine": True,
        "layerdrop": 0.0,
        "max_position_embeddings": data.seq_len,
        "num_attention_heads": model.heads,
        "num_hidden_layers": model.layers,
        "pad_token_id": None,
        "tie_word_embeddings": model.tied,
        "dtype": "float32",
        "use_cache": False,
        "vocab_size": data.vocab_size,
        "word_embed_proj_dim": model.width,
    }


@torch.no_grad()
def opt_weights(model: Transformer) -> dict[str, Tensor]:
    """The weights of `model` under the names of OPT, with zeros for biases that it has not."""
    config, decoder = model.config, "model.decoder"
    assert model.position_embedding is not None
    positions = config.position_scale * model.position_embedding.weight
    before = positions.new_zeros(_POSITIONS_BEFORE, positions.shape[1])
    tensors = {
        f"{decoder}.embed_tokens.weight": config.embed_scale * model.token_embedding.weight,
        f"{decoder}.embed_positions.weight": torch.cat((before, positions)),
    }

    def linear(name: str, module: Any) -> None:
        bias = module.bias if module.bias is not None else module.weight.new_zeros(module.weight.shape[0])
        tensors.update({f"{name}.weight": module.weight, f"{name}.bias": bias})

    def norm(name: str, module: Any) -> None:
        tensors.update({f"{name}.weight": module.gain, f"{name}.bias": module.bias})

    for index, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        layer, attention, mlp = f"{decoder}.layers.{index}", block.attention, block.mlp
        for name, module in (("q", attention.query), ("k", attention.key), ("v", attention.value)):
            linear(f"{layer}.self_attn.{name}_proj", module)
        linear(f"{layer}.self_attn.out_proj", attention.project)
        linear(f"{layer}.fc1", mlp.up)
        linear(f"{layer}.fc2", mlp.down)
        after = config.block.post_norm == "ln"
        norm(f"{layer}.self_attn_layer_norm", block.post_norm_attn if after else attention.norm_qk)
        norm(f"{layer}.final_layer_norm", block.post_norm_mlp if after else mlp.norm)
    if config.block.final_norm == "ln":
        norm(f"{decoder}.final_layer_norm", model.final_norm)
    if not config.tied:
        tensors["lm_head.weight"] = model.unembedding.weight
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


# ---------------------------------------------------------------------------------------------------
# Our own architecture


def own_config(training: RunConfig) -> dict[str, Any]:
    """The config.json of a model in our own architecture: its `TransformerConfig`, with every default."""
    assert isinstance(training.data, TextData)
    return {
        "architectures": ["OfeTransformer"],
        "model_type": OWN_TYPE,
        "vocab_size": training.data.vocab_size,
        "max_position_embeddings": training.data.seq_len,
        "dtype": "float32",
        "transformer": training.model.model_dump(mode="json"),
    }


def own_weights(model: Transformer) -> dict[str, Tensor]:
    """The weights under our own names. A tied unembedding is written once."""
    return {name: parameter.detach().clone().contiguous() for name, parameter in model.named_parameters()}


def build_own(config: dict[str, Any]) -> Transformer:
    """The model that a config.json of our own architecture describes, without its weights.

    Raises:
        OfeError: a later version of ofe has written it.
    """
    from pydantic import ValidationError

    try:
        own = TransformerConfig.model_validate(config["transformer"])
        return Transformer(own, int(config["vocab_size"]), int(config["max_position_embeddings"]))
    except (KeyError, ValidationError) as error:
        raise OfeError(
            "the checkpoint was exported by another version of ofe, whose models this one does not know",
            hint="update ofe, or export the run again",
        ) from error
