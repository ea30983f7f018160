from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from reproduce.config import (
    AugmentConfig,
    BlockConfig,
    EvalConfig,
    ImageData,
    MlpConfig,
    OptimizerConfig,
    ProbeConfig,
    RunConfig,
    ScheduleConfig,
    TextData,
    TransformerConfig,
    VitConfig,
)

RUN: dict[str, Any] = {
    "model": {"kind": "transformer", "layers": 2, "width": 8, "heads": 2},
    "data": {"kind": "text", "source": "python-stdlib", "seq_len": 16, "vocab_size": 300},
    "optimizer": {"lr": 1e-3},
    "steps": 100,
    "batch_size": 4,
    "probe": {"every": 10, "batch_size": 2},
    "eval": {"every": 50, "batches": 2},
}
IMAGES = {"kind": "images", "source": "photo-patches"}
VALUES_ONLY: dict[str, Any] = {"attn_alpha": 1, "attn_beta": 0}

DEFAULTS: dict[type[BaseModel], dict[str, Any]] = {
    BlockConfig: {
        "pre_qk": "none",
        "pre_v": "none",
        "pre_mlp": "none",
        "post_qk": "none",
        "post_norm": "none",
        "final_norm": "none",
        "tanh_cap": None,
        "gate": None,
        "softmax_gamma": 0.0,
        "attn_gain": 1.0,
        "mlp_gain": 1.0,
        "gains": "fixed",
        "attn_alpha": 0.0,
        "attn_beta": 1.0,
        "mlp_input_scale": 1.0,
    },
    TransformerConfig: {
        "kind": "transformer",
        "mlp_ratio": 4.0,
        "activation": "relu",
        "leaky_slope": 0.0,
        "positions": "learnt",
        "biases": "none",
        "tied": False,
        "embed_scale": 1.0,
        "position_scale": 1.0,
        "init_std": 0.02,
        "dropout": 0.0,
        "block": BlockConfig(),
    },
    MlpConfig: {"kind": "mlp", "norm": "none", "activation": "relu"},
    VitConfig: {
        **{"kind": "vit", "mlp_ratio": 4.0, "patch": 16, "init_std": 0.02, "drop_path": 0.0},
        "block": BlockConfig(),
    },
    AugmentConfig: {
        **{"crop": False, "flip": False, "erase": 0.0, "mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0},
    },
    TextData: {
        **{"kind": "text", "path": None, "dataset": None, "subset": None, "column": None, "packing": "chunks"},
        **{"train_tokens": None, "fingerprint": ""},
    },
    ImageData: {
        "kind": "images",
        "path": None,
        "side": 32,
        "classes": 10,
        "whiten": False,
        "train_images": None,
        "augment": AugmentConfig(),
        "fingerprint": "",
    },
    OptimizerConfig: {
        "name": "adamw",
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-8,
        "placement": "torch",
        "weight_decay": 0.0,
        "precond_freq": 10,
        "max_precond_dim": 10_000,
    },
    ScheduleConfig: {"kind": "linear", "warmup_fraction": 0.0, "warmup_steps": None, "decay_fraction": 0.2},
    ProbeConfig: {"point": "residual", "on": "held-out", "moment_updates_layer": None},
    EvalConfig: {},
    RunConfig: {
        "schedule": ScheduleConfig(),
        "stop_after": None,
        "grad_clip": None,
        "precision": "fp32",
        "seed": 0,
    },
}


@pytest.mark.parametrize("model", DEFAULTS)
def test_defaults_are_frozen(model: type[BaseModel]) -> None:
    """A key leaves out what equals its default, so that changing one here would give old keys a new meaning.

    A field may be added to this table; a value in it may not change.
    """
    found = {name: field.default for name, field in model.model_fields.items() if not field.is_required()}
    assert found == DEFAULTS[model]


def run(**changes: Any) -> RunConfig:
    return RunConfig.model_validate(RUN | changes)


def test_a_config_survives_json() -> None:
    config = run(grad_clip=1.0, data=RUN["data"] | {"packing": "stream"})
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


def test_configs_are_immutable_and_know_their_fields() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RunConfig.__setattr__(run(), "steps", 3)
    with pytest.raises(ValidationError, match="Extra inputs"):
        run(stepz=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": MlpConfig(layers=1, width=4)}, "model kind mlp cannot be trained on text data"),
        ({"data": IMAGES}, "model kind transformer cannot be trained on images data"),
        ({"stop_after": 101}, "stop_after 101 lies beyond steps 100"),
        ({"probe": RUN["probe"] | {"moment_updates_layer": 3}}, "lies beyond the model's 2 layers"),
        ({"schedule": {"warmup_steps": 101}}, "warm-up of 101 steps is longer than the run's 100"),
        ({"schedule": {"warmup_steps": 1, "warmup_fraction": 0.1}}, "give warmup_fraction or warmup_steps, not both"),
        ({"model": RUN["model"] | {"heads": 3}}, "width 8 is not a multiple of heads 3"),
        ({"model": RUN["model"] | {"heads": 8, "positions": "rope"}}, "rope needs an even head width, got 1"),
        ({"model": RUN["model"] | {"leaky_slope": 0.1}}, "leaky_slope has no effect on relu"),
        (
            {"schedule": {"kind": "cosine", "decay_fraction": 0.5}},
            "decay_fraction has no effect on cosine: set it to its default 0.2, or kind to wsd",
        ),
        (
            {"optimizer": {"name": "sgd", "lr": 1.0, "eps": 1e-4}},
            "eps has no effect on sgd: set it to its default 1e-08, or name to one of adamw, adafactor, soap, ",
        ),
        (
            {"optimizer": {"lr": 1.0, "precond_freq": 5}},
            "precond_freq has no effect on adamw: set it to its default 10, or name to one of soap, adafactor-rotated",
        ),
    ],
)
def test_what_does_not_fit_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        run(**changes)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"post_norm": "ln", "pre_v": "ln", "pre_mlp": "ln"}, "post_norm excludes pre_v, pre_mlp"),
        ({"post_norm": "ln", "final_norm": "ln"}, "post_norm already normalises the last stream"),
        ({"tanh_cap": 30, "post_qk": "rms"}, "tanh_cap and post_qk both regulate attention entropy"),
        ({"attn_beta": 0.5}, "attn_beta only has a meaning beside the identity"),
        (VALUES_ONLY | {"post_qk": "rms"}, "attn_beta 0 leaves out the softmax that post_qk would act on"),
        (VALUES_ONLY | {"tanh_cap": 30}, "attn_beta 0 leaves out the softmax that tanh_cap would act on"),
        (VALUES_ONLY | {"softmax_gamma": -0.1}, "leaves out the softmax that softmax_gamma would act on"),
        (VALUES_ONLY | {"pre_qk": "ln", "pre_v": "rms", "post_qk": "rms"}, "that pre_qk, post_qk would act on"),
    ],
)
def test_blocks_that_make_no_sense(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BlockConfig(**block)


@pytest.mark.parametrize("block", [{}, {"pre_v": "ln"}, {"pre_qk": "ln", "pre_v": "ln", "pre_mlp": "ln"}], ids=str)
def test_a_block_without_softmax_may_normalise_its_values(block: dict[str, Any]) -> None:
    """Pre-QK and Pre-V of one kind are the one Pre-Norm of an ordinary block."""
    BlockConfig(**VALUES_ONLY, **block)


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_what_has_no_effect_may_be_said_at_its_default(kind: str) -> None:
    """A setting's base spells its optimiser and its schedule out, and a run that deviates names another one."""
    OptimizerConfig(name="sgd", lr=1.0, beta2=0.999, eps=1e-8, precond_freq=10, max_precond_dim=10_000)
    ScheduleConfig.model_validate({"kind": kind, "decay_fraction": 0.2})


def test_a_vit_needs_whole_heads() -> None:
    with pytest.raises(ValidationError, match="width 8 is not a multiple of heads 3"):
        VitConfig(layers=1, width=8, heads=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": IMAGES | {"whiten": True, "augment": {"flip": True}}}, "set whiten or augment, not both"),
        ({"data": IMAGES | {"whiten": True}}, "whitened inputs have no patches"),
        ({"data": IMAGES | {"side": 30}}, "side 30 is not a multiple of patch 16"),
        ({"model": MlpConfig(layers=1, width=4), "probe": RUN["probe"] | {"point": "attention-input"}}, "no attention"),
    ],
)
def test_images_that_do_not_fit(changes: dict[str, Any], message: str) -> None:
    vit = VitConfig(layers=1, width=8, heads=2)
    with pytest.raises(ValidationError, match=message):
        run(**({"model": vit, "data": IMAGES} | changes))


def test_derived_sizes() -> None:
    model = TransformerConfig(layers=1, width=768, heads=12, block=BlockConfig(mlp_input_scale="unit-preactivation"))
    assert (model.head_width, model.mlp_width) == (64, 3072)
    assert model.mlp_input_scales == [pytest.approx(1.804, abs=5e-4)]  # v2 App B with sigma_w 0.02
    assert TransformerConfig(layers=2, width=8, heads=1).mlp_input_scales == [1.0, 1.0]


def test_the_scale_of_nfnets_counts_the_branches_before_the_mlp() -> None:
    """A stream of variance 1, to which branches of unit variance add their squared gains: 1.01, 1.03, 1.05."""
    block = BlockConfig(mlp_input_scale="unit-stream", attn_gain=0.1, mlp_gain=0.1)
    model = TransformerConfig(layers=3, width=8, heads=1, positions="rope", embed_scale=50.0, block=block)
    assert model.mlp_input_scales == pytest.approx([1.01**-0.5, 1.03**-0.5, 1.05**-0.5])
    learnt = model.model_copy(update={"positions": "learnt"})
    assert learnt.mlp_input_scales[0] == pytest.approx((1.01 + 0.0004) ** -0.5)
    assert learnt.model_copy(update={"position_scale": 10.0}).mlp_input_scales[0] == pytest.approx(1.05**-0.5)
    with pytest.raises(ValidationError, match="variance of embedded images"):
        VitConfig(layers=1, width=8, heads=2, block=block)


def test_warmup_in_steps() -> None:
    assert ScheduleConfig(warmup_fraction=0.05).warmup(80_000) == 4_000
    assert ScheduleConfig(warmup_steps=1_000).warmup(50_000) == 1_000
    assert ScheduleConfig().warmup(10) == 0


def test_last_step() -> None:
    assert run().last_step == 100
    assert run(stop_after=30).last_step == 30
