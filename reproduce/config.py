"""The configuration of a run in frozen, validated types. It has every value that changes the run's trace.

`RunConfig` is the only value that the specs pass to the training code. It holds everything that a run's numbers depend
on, and nothing else: the device, the number of workers, logging and micro-batching are not part of it. Its hash is the
identity of the run (`reproduce.keys`). This module never imports torch.

A new field with a default leaves all existing keys as they are. Changing a default changes keys, and a test freezes the
defaults for that reason.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reproduce.optim.records import OPTIMIZERS

Norm = Literal["none", "ln", "rms", "srms"]
Precision = Literal["fp32", "bf16", "fp16"]
ProbePoint = Literal["residual", "attention-input", "mlp-input"]


class Frozen(BaseModel):
    """Base of all configuration types. They are immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


# ---------------------------------------------------------------------------------------------------
# Models


class BlockConfig(Frozen):
    """One transformer block, described by independent choices (paper Eqs 6, 7, 12, 13; norm positions of v1 Tab 3).

    q = W_Q n_qk(X),  k = W_K n_qk(X),  v = W_V n_v(X);      per head q <- n_post(q), k <- n_post(k)
    A = softmax(cap(q k^T / sqrt(d_h)) + mask);              A <- alpha I + beta A
    H = X + b_a A V W_P;   out = H + b_m W_2 phi(alpha_mlp W_1 n_mlp(H))

    Here d_h is the width of a head, n a norm, cap the soft cap of the logits, and phi the activation function.
    """

    pre_qk: Norm = "none"
    """Norm before the query and key projections (Pre-QK). It shares its weights with `pre_v` if both are of a kind."""
    pre_v: Norm = "none"
    """Norm before the value projection (Pre-V)."""
    pre_mlp: Norm = "none"
    """Norm before the MLP (Pre-MLP)."""
    post_qk: Norm = "none"
    """Norm of each head's queries and keys after their projection (Post-QK, also known as QK-Norm)."""
    post_norm: Norm = "none"
    """Norm after each residual sum, which makes the Post-Norm block of Eq (7)."""
    final_norm: Norm = "none"
    """Norm before the unembedding."""
    tanh_cap: float | None = Field(default=None, gt=0)
    """Soft cap of the attention logits z, cap * tanh(z / cap), after the factor 1/sqrt(d_h) and before the mask."""
    attn_gain: float = 1.0
    """Residual gain b_a of the attention branch, or its initial value if `gains` are trained."""
    mlp_gain: float = 1.0
    """Residual gain b_m of the MLP branch, or its initial value if `gains` are trained."""
    gains: Literal["fixed", "scalar", "vector"] = "fixed"
    """Residual gains: constants, one trained scalar per branch (SkipInit), or one trained vector (LayerScale)."""
    attn_alpha: float = 0.0
    """Weight alpha of the identity that is added to the attention matrix (Value-SkipInit). 0 is plain attention."""
    attn_beta: float = 1.0
    """Weight beta of the softmax matrix in Value-SkipInit. 0 leaves alpha I, which depends on no query or key."""
    gate: float | None = Field(default=None, gt=0, lt=1)
    """Gated attention: its initial gate probability. None: no gate. Each head has a gate of its own for each token.

    Source: Bondarenko et al., arXiv 2306.12929, Section 4.2.
    """
    softmax_gamma: float = Field(default=0.0, le=0, gt=-1)
    """Clipped softmax: clip((1 - gamma) softmax(z) + gamma, 0, 1), which reaches 0 with finite logits. 0: not clipped.

    Source: Bondarenko et al., arXiv 2306.12929, Section 4.1, with zeta = 1. They use gamma = -12 / T for OPT.
    """
    mlp_input_scale: float | Literal["unit-preactivation", "unit-stream"] = 1.0
    """Scale alpha_mlp of the MLP's input. The paper gives no number and points to NFNets, which has two readings.

    `unit-preactivation` stands for 1 / (init_std sqrt(width)), with which the output of W_1 is O(1) at initialisation.
    `unit-stream` stands for 1 / sqrt(v), with the variance v that the stream has there at initialisation. As in NFNets
    (Brock et al., arXiv 2102.06171), v starts as the variance of the embeddings, and every branch adds the square of
    its gain.
    """

    @model_validator(mode="after")
    def _meaningful(self) -> BlockConfig:
        pre = [name for name in ("pre_qk", "pre_v", "pre_mlp") if getattr(self, name) != "none"]
        if self.post_norm != "none" and pre:
            raise ValueError(f"post_norm excludes {', '.join(pre)}: set one side to none")
        if self.post_norm != "none" and self.final_norm != "none":
            raise ValueError("post_norm already normalises the last stream: set final_norm to none")
        if self.tanh_cap is not None and self.post_qk != "none":
            raise ValueError("tanh_cap and post_qk both regulate attention entropy: drop one of them")
        if self.attn_alpha == 0.0 and self.attn_beta != 1.0:
            raise ValueError("attn_beta only has a meaning beside the identity of Value-SkipInit: set attn_alpha too")
        regulated = {
            "pre_qk": self.pre_qk not in ("none", self.pre_v),  # if they are of a kind, the values are normed by it too
            "post_qk": self.post_qk != "none",
            "tanh_cap": self.tanh_cap is not None,
            "softmax_gamma": self.softmax_gamma != 0.0,
        }
        if self.attn_beta == 0.0 and any(regulated.values()):
            names = ", ".join(name for name, on in regulated.items() if on)
            raise ValueError(
                f"attn_beta 0 leaves out the softmax that {names} would act on: drop it or choose another attn_beta"
            )
        return self


class TransformerConfig(Frozen):
    """Decoder-only transformer language model."""

    kind: Literal["transformer"] = "transformer"
    layers: int = Field(ge=1, le=10_000)
    width: int = Field(ge=1)
    """Width d of the residual stream."""
    heads: int = Field(ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    """Hidden width of the MLP, as a multiple of d."""
    activation: Literal["relu", "leaky-relu", "gelu"] = "relu"
    leaky_slope: float = Field(default=0.0, ge=0, lt=1)
    positions: Literal["learnt", "rope"] = "learnt"
    biases: Literal["none", "qk", "all"] = "none"
    """Which linear layers have a bias: none, those of queries and keys, or all. Biases are 0 at initialisation."""
    tied: bool = False
    """Whether the unembedding uses the matrix of the token embedding."""
    embed_scale: float = 1.0
    """Factor on the token embeddings in the forward pass. With init_std 0.02, a factor of 50 gives them variance 1."""
    position_scale: float = 1.0
    """The same on learnt position embeddings."""
    init_std: float = Field(default=0.02, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of the output of each branch, before its residual gain, as in OPT. Only training steps have it."""
    block: BlockConfig = BlockConfig()

    @model_validator(mode="after")
    def _consistent(self) -> TransformerConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.positions == "rope" and (self.width // self.heads) % 2:
            raise ValueError(f"rope needs an even head width, got {self.width // self.heads}: change width or heads")
        if self.leaky_slope != 0.0 and self.activation != "leaky-relu":
            raise ValueError(f"leaky_slope has no effect on {self.activation}: set activation to leaky-relu")
        return self

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def mlp_width(self) -> int:
        return round(self.width * self.mlp_ratio)

    @property
    def mlp_input_scales(self) -> list[float]:
        """Scale of the MLP's input in each block."""
        match self.block.mlp_input_scale:
            case "unit-preactivation":
                return [1 / (self.init_std * math.sqrt(self.width))] * self.layers
            case "unit-stream":
                embedded = self.init_std**2 * (
                    self.embed_scale**2 + (self.positions == "learnt") * self.position_scale**2
                )
                attention, both = self.block.attn_gain**2, self.block.attn_gain**2 + self.block.mlp_gain**2
                return [1 / math.sqrt(embedded + place * both + attention) for place in range(self.layers)]
            case scale:
                return [scale] * self.layers


class MlpConfig(Frozen):
    """Residual MLP on flattened images (v1 App B): x + W_2 phi(W_1 Norm(x)) in each block, and a readout of zeros."""

    kind: Literal["mlp"] = "mlp"
    layers: int = Field(ge=1, le=10_000)
    width: int = Field(ge=1)
    norm: Norm = "none"
    activation: Literal["relu", "gelu"] = "relu"


class VitConfig(Frozen):
    """Vision transformer on square patches, with a class token and learnt positions (v2 App E.1.2)."""

    kind: Literal["vit"] = "vit"
    layers: int = Field(ge=1, le=10_000)
    width: int = Field(ge=1)
    heads: int = Field(ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    patch: int = Field(default=16, ge=1)
    """Side of a patch in pixels."""
    init_std: float = Field(default=0.02, gt=0)
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Probability that an image skips a branch of the last block. It rises linearly from 0 in the first block."""
    block: BlockConfig = BlockConfig()

    @model_validator(mode="after")
    def _consistent(self) -> VitConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if self.block.mlp_input_scale == "unit-stream":
            raise ValueError("the variance of embedded images is not known: set mlp_input_scale to a number")
        return self


ModelConfig = Annotated[TransformerConfig | MlpConfig | VitConfig, Field(discriminator="kind")]


# ---------------------------------------------------------------------------------------------------
# Data


class TextData(Frozen):
    """Tokenised text in sequences of a fixed length."""

    kind: Literal["text"] = "text"
    source: str
    """Name of a registered source (`ofe data list`): python-stdlib, python-prose, folder, codeparrot, ..."""
    path: str | None = None
    """Folder with the user's own files, for sources that read one."""
    dataset: str | None = None
    """Data set of the Hugging Face hub that the source `hub` reads: owner/name, or owner/name@revision."""
    subset: str | None = None
    """Configuration of a hub data set, such as sample-100BT of fineweb-edu, or None for its default one."""
    column: str | None = None
    """Column of a hub data set with the text. None: the one called text or content, or the only one of strings."""
    seq_len: int = Field(ge=2)
    """Number of tokens in a sequence."""
    vocab_size: int = Field(ge=257)
    packing: Literal["chunks", "stream"] = "chunks"
    """How documents become the rows of a batch.

    chunks: each document is cut into sequences of exactly `seq_len` tokens, its remainder is dropped, and the sequences
    are shuffled. stream: each row of the batch reads on in a queue of documents of its own.
    """
    train_tokens: int | None = Field(default=None, ge=1)
    """Number of tokens after which no further training document is taken from the source. None: all are taken."""
    fingerprint: str = ""
    """Hash of the text and the tokeniser, which is filled in when the run is resolved."""


class AugmentConfig(Frozen):
    """Augmentation of training images and their targets (`reproduce.training.augment`). By default there is none."""

    crop: bool = False
    """Random resized crop: a part with 8 to 100 % of the area is resized. Only sources that read files can do it."""
    flip: bool = False
    """Whether each image is mirrored with probability 1/2."""
    erase: float = Field(default=0.0, ge=0, le=1)
    """Probability that a random rectangle of an image is replaced by noise."""
    mixup: float = Field(default=0.0, ge=0)
    """Parameter alpha of the Beta distribution of mixup's weight. 0 turns mixup off."""
    cutmix: float = Field(default=0.0, ge=0)
    """Parameter alpha of the Beta distribution of cutmix's area. 0 turns cutmix off. A batch has mixup or cutmix."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of every target that is spread evenly over all classes."""


class ImageData(Frozen):
    """Labelled images of a fixed size."""

    kind: Literal["images"] = "images"
    source: str
    """Name of a registered source (`ofe data list`): photo-patches, cifar10, imagenet-1k, ..."""
    path: str | None = None
    """Folder with the images, for sources that read one."""
    side: int = Field(default=32, ge=1)
    """Side of the square image in pixels."""
    classes: int = Field(default=10, ge=2)
    whiten: bool = False
    """Whether images are whitened by PCA, which is fitted on the training images only."""
    train_images: int | None = Field(default=None, ge=1)
    """Number of images in an epoch, for sources that draw new images in each epoch."""
    augment: AugmentConfig = AugmentConfig()
    fingerprint: str = ""
    """Hash of the images, which is filled in when the run is resolved."""

    @model_validator(mode="after")
    def _consistent(self) -> ImageData:
        if self.whiten and self.augment != AugmentConfig():
            raise ValueError("whitened inputs are principal components without places: set whiten or augment, not both")
        return self


DataConfig = Annotated[TextData | ImageData, Field(discriminator="kind")]


# ---------------------------------------------------------------------------------------------------
# Optimisation


if TYPE_CHECKING:
    OptimizerName = str
else:
    OptimizerName = Literal[tuple(OPTIMIZERS)]
"""A name in `reproduce.optim.records.OPTIMIZERS`. Type checkers cannot evaluate the table, so they see any string."""


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


class OptimizerConfig(Frozen):
    """The optimiser and its constants. The modules of `reproduce.optim` give equations and sources."""

    name: OptimizerName = "adamw"
    lr: float = Field(gt=0)
    """Peak learning rate."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment. For sgd it is the decay of the gradient's moving average (momentum in EMA form)."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the second moment."""
    eps: float = Field(default=1e-8, ge=0)
    """Constant that keeps the update finite where the second moment is 0."""
    placement: Literal["torch", "transformers"] = "torch"
    """Where adamw adds eps and decays the weights (`reproduce.optim.adamw`): as PyTorch does, or as the AdamW of
    transformers does, with which the authors' released code trains."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of matrices and embeddings. Norm parameters, biases and gains are not decayed."""
    precond_freq: int = Field(default=10, ge=1)
    """Number of steps between two updates of the eigenbases (soap, adafactor-rotated)."""
    max_precond_dim: int = Field(default=10_000, ge=1)
    """Length of an axis above which it is not rotated (soap, adafactor-rotated)."""

    @model_validator(mode="after")
    def _all_read(self) -> OptimizerConfig:
        for name, field in OptimizerConfig.model_fields.items():
            if name in ("name", "lr", "weight_decay") or name in OPTIMIZERS[self.name].reads:
                continue
            if getattr(self, name) != field.default:
                readers = [other for other, record in OPTIMIZERS.items() if name in record.reads]
                raise ValueError(
                    f"{name} has no effect on {self.name}: set it to its default {_shown(field.default)}, "
                    f"or name to one of {', '.join(readers)}"
                )
        return self


class ScheduleConfig(Frozen):
    """Learning-rate schedule: linear warm-up from 0, followed by one of four shapes.

    linear and cosine decay to 0 at the last step. constant stays at the peak. wsd (warm-up, stable, decay) stays at the
    peak and decays linearly to 0 in the last part of the run.
    """

    kind: Literal["linear", "cosine", "wsd", "constant"] = "linear"
    warmup_fraction: float = Field(default=0.0, ge=0, le=1)
    """Length of the warm-up as a share of the run's steps."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Length of the warm-up in steps. It cannot be given together with `warmup_fraction`."""
    decay_fraction: float = Field(default=0.2, gt=0, le=1)
    """Length of the decay as a share of the run's steps. Only wsd reads it."""

    @model_validator(mode="after")
    def _one_warmup(self) -> ScheduleConfig:
        if self.warmup_steps is not None and self.warmup_fraction:
            raise ValueError("give warmup_fraction or warmup_steps, not both")
        return self

    @model_validator(mode="after")
    def _all_read(self) -> ScheduleConfig:
        default = ScheduleConfig.model_fields["decay_fraction"].default
        if self.kind != "wsd" and self.decay_fraction != default:
            raise ValueError(
                f"decay_fraction has no effect on {self.kind}: set it to its default {default:g}, or kind to wsd"
            )
        return self

    def warmup(self, steps: int) -> int:
        """Length of the warm-up in steps, for a schedule over `steps` steps."""
        return self.warmup_steps if self.warmup_steps is not None else round(self.warmup_fraction * steps)


class ProbeConfig(Frozen):
    """When, where and on which examples the metrics are measured."""

    every: int = Field(ge=1)
    """Number of steps between two probes, after the first ones at powers of two (`reproduce.cadence`)."""
    batch_size: int = Field(ge=1)
    """Number of examples (sequences or images) in the fixed held-out probe batch."""
    point: ProbePoint = "residual"
    """residual: the stream that enters each block. attention-input: the same after attention's Pre-Norm, if any.
    mlp-input: the stream between the two branches of each block, before the MLP's Pre-Norm, if any."""
    on: Literal["held-out", "train-batch"] = "held-out"
    """held-out: one held-out batch for all steps. train-batch: the step's training batch, as in the authors' code."""
    moment_updates_layer: int | None = Field(default=None, ge=1)
    """Block at whose input the moment updates are measured at every step, counting from 1 (v1 App D)."""


class EvalConfig(Frozen):
    """When the held-out loss is computed, and on how many examples."""

    every: int = Field(ge=1)
    """Number of steps between two evaluations."""
    batches: int = Field(ge=1)
    """Number of batches in one evaluation. They have the run's batch size."""


class RunConfig(Frozen):
    """The configuration of a training: everything that changes its numbers."""

    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = ScheduleConfig()
    steps: int = Field(ge=1, le=10_000_000)
    """Number of optimiser steps that the schedule spans."""
    stop_after: int | None = Field(default=None, ge=1)
    """Step after which training ends, if the figure ends before the schedule does."""
    batch_size: int = Field(ge=1)
    """Number of examples (sequences or images) in an optimiser step, over all devices and micro-batches."""
    grad_clip: float | None = Field(default=None, gt=0)
    """Global norm to which larger gradients are scaled down. None: gradients are not clipped."""
    precision: Precision = "fp32"
    """Type of the matrix products. Weights, optimiser state and metrics are float32 in any case."""
    seed: int = Field(default=0, ge=0)
    """Seed of the initialisation, the order of the data and the augmentation."""
    probe: ProbeConfig
    eval: EvalConfig

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        text_model = self.model.kind == "transformer"
        if text_model != (self.data.kind == "text"):
            raise ValueError(f"model kind {self.model.kind} cannot be trained on {self.data.kind} data")
        if self.stop_after is not None and self.stop_after > self.steps:
            raise ValueError(f"stop_after {self.stop_after} lies beyond steps {self.steps}")
        if isinstance(self.model, VitConfig) and isinstance(self.data, ImageData):
            if self.data.whiten:
                raise ValueError("whitened inputs have no patches: set data.whiten to false for a vit")
            if self.data.side % self.model.patch:
                raise ValueError(f"side {self.data.side} is not a multiple of patch {self.model.patch}")
        if isinstance(self.model, MlpConfig) and self.probe.point != "residual":
            raise ValueError("an mlp has no attention, and one stream in each block: set probe.point to residual")
        layer = self.probe.moment_updates_layer
        if layer is not None and layer > self.model.layers:
            raise ValueError(f"probe.moment_updates_layer {layer} lies beyond the model's {self.model.layers} layers")
        if self.schedule.warmup(self.steps) > self.steps:
            warmup = self.schedule.warmup(self.steps)
            raise ValueError(f"warm-up of {warmup} steps is longer than the run's {self.steps}")
        return self

    @property
    def last_step(self) -> int:
        """Step after which training ends."""
        return self.stop_after or self.steps
