"""What a run is: every number that changes its trace, in frozen, validated types.

`RunConfig` is the one value that crosses from the specs to the training code. It holds all that a run's
numbers depend on and nothing else: device, worker count, logging and micro-batching stay out of it. Its
hash is the run's identity (`reproduce.keys`). This module never imports torch.

Adding a field with a default leaves every old key where it was; changing a default does not, and a test
freezes the defaults for that reason.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from reproduce.optim.records import OPTIMIZERS

Norm = Literal["none", "ln", "rms", "srms"]
Precision = Literal["fp32", "bf16", "fp16"]
ProbePoint = Literal["residual", "attention-input"]


class Frozen(BaseModel):
    """Base of every configuration type: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


# ---------------------------------------------------------------------------------------------------
# Models


class BlockConfig(Frozen):
    """One transformer block as a few orthogonal choices (paper Eqs 6, 7, 12, 13; norm positions of v1 Tab 3).

    q = W_Q n_qk(X),  k = W_K n_qk(X),  v = W_V n_v(X);      per head q <- n_post(q), k <- n_post(k)
    A = softmax(cap(q k^T / sqrt(d_h)) + mask);              A <- alpha I + beta A
    H = X + b_a A V W_P;   out = H + b_m W_2 phi(alpha_mlp W_1 n_mlp(H))
    """

    pre_qk: Norm = "none"
    """Norm before the query and key projections (Pre-QK). Shares its weights with `pre_v` when both are the same."""
    pre_v: Norm = "none"
    """Norm before the value projection (Pre-V)."""
    pre_mlp: Norm = "none"
    """Norm before the MLP (Pre-MLP)."""
    post_qk: Norm = "none"
    """Norm of each head's queries and keys after their projection (Post-QK, known as QK-Norm)."""
    post_norm: Norm = "none"
    """Norm after each residual sum: the Post-Norm block of Eq (7)."""
    final_norm: Norm = "none"
    """Norm before the unembedding."""
    tanh_cap: float | None = Field(default=None, gt=0)
    """Soft cap of the attention logits, cap * tanh(z / cap), after 1/sqrt(d_h) and before the mask."""
    attn_gain: float = 1.0
    """Residual gain b_a of the attention branch (its initial value when trained)."""
    mlp_gain: float = 1.0
    """Residual gain b_m of the MLP branch (its initial value when trained)."""
    gains: Literal["fixed", "scalar", "vector"] = "fixed"
    """Residual gains: constants, one trained scalar per branch (SkipInit), or one trained vector (LayerScale)."""
    attn_alpha: float = 0.0
    """Weight of the identity added to the attention matrix (Value-SkipInit); 0 is plain attention."""
    attn_beta: float = 1.0
    """Weight of the softmax attention matrix in Value-SkipInit; 0 leaves alpha I, which reads no query or key."""
    mlp_input_scale: float | Literal["unit-preactivation"] = 1.0
    """Scale alpha of the MLP input; `unit-preactivation` is 1 / (init_std sqrt(width)): W_1's output is then O(1)."""

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
            "pre_qk": self.pre_qk not in ("none", self.pre_v),  # if they are of a kind, it norms the values too
            "post_qk": self.post_qk != "none",
            "tanh_cap": self.tanh_cap is not None,
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
    layers: int = Field(ge=1)
    width: int = Field(ge=1)
    """Width d of the residual stream."""
    heads: int = Field(ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    """Hidden width of the MLP over d."""
    activation: Literal["relu", "leaky-relu", "gelu"] = "relu"
    leaky_slope: float = Field(default=0.0, ge=0, lt=1)
    positions: Literal["learnt", "rope"] = "learnt"
    biases: Literal["none", "qk", "all"] = "none"
    """Which linear layers have a bias (zero at initialisation)."""
    tied: bool = False
    """Whether the unembedding shares the token embedding's matrix."""
    embed_scale: float = 1.0
    """Factor on the token embeddings in the forward pass; 50 makes the stream's mean square 1 at init_std 0.02."""
    init_std: float = Field(default=0.02, gt=0)
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
    def mlp_input_scale(self) -> float:
        scale = self.block.mlp_input_scale
        return 1 / (self.init_std * math.sqrt(self.width)) if isinstance(scale, str) else scale


class MlpConfig(Frozen):
    """Residual MLP on flattened images (v1 App B): x + W_2 phi(W_1 Norm(x)), zero-initialised readout."""

    kind: Literal["mlp"] = "mlp"
    layers: int = Field(ge=1)
    width: int = Field(ge=1)
    norm: Norm = "none"
    activation: Literal["relu", "gelu"] = "relu"


class VitConfig(Frozen):
    """Vision transformer on square patches, class token, learnt positions (v2 App E.1.2)."""

    kind: Literal["vit"] = "vit"
    layers: int = Field(ge=1)
    width: int = Field(ge=1)
    heads: int = Field(ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    patch: int = Field(default=16, ge=1)
    """Side of a patch in pixels."""
    init_std: float = Field(default=0.02, gt=0)
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Probability that an image skips a branch of the last block, rising linearly from 0 in the first one."""
    block: BlockConfig = BlockConfig()

    @model_validator(mode="after")
    def _consistent(self) -> VitConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
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
    """Folder of the user's own files, for the sources that read one."""
    dataset: str | None = None
    """Dataset of the Hugging Face hub that the source `hub` reads: owner/name, or owner/name@revision."""
    subset: str | None = None
    """Configuration of a hub dataset, such as sample-100BT of fineweb-edu; its default one if None."""
    column: str | None = None
    """Column of a hub dataset that is the text; if None, the one called text or content, or the only one of strings."""
    seq_len: int = Field(ge=2)
    """Tokens in a sequence."""
    vocab_size: int = Field(ge=257)
    packing: Literal["chunks", "stream"] = "chunks"
    """chunks: documents cut into exact sequences, remainder dropped, shuffled; stream: each row reads its own queue."""
    train_tokens: int | None = Field(default=None, ge=1)
    """Tokens after which no further training document is taken from the source; all are if None."""
    fingerprint: str = ""
    """Hash of the text and of the tokeniser, filled in when the run is resolved."""


class AugmentConfig(Frozen):
    """How training images and their targets are varied; nothing of it by default."""

    crop: bool = False
    """Random resized crop: 8 to 100 % of the area, resized. For sources that read files."""
    flip: bool = False
    """Half the images are mirrored."""
    erase: float = Field(default=0.0, ge=0, le=1)
    """Part of the images that have a random rectangle replaced by noise."""
    mixup: float = Field(default=0.0, ge=0)
    """alpha of the Beta distribution of mixup's weight; 0 is off."""
    cutmix: float = Field(default=0.0, ge=0)
    """alpha of the Beta distribution of cutmix's area; 0 is off. With mixup, each batch has one of the two."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Part of every target that is spread over all classes."""


class ImageData(Frozen):
    """Labelled images of a fixed size."""

    kind: Literal["images"] = "images"
    source: str
    """Name of a registered source: photo-patches, cifar10, imagenet-1k, ..."""
    path: str | None = None
    side: int = Field(default=32, ge=1)
    """Side of the square image in pixels."""
    classes: int = Field(default=10, ge=2)
    whiten: bool = False
    """PCA-whitening, fitted on the training images only."""
    train_images: int | None = Field(default=None, ge=1)
    """Images in an epoch of a source that draws them afresh."""
    augment: AugmentConfig = AugmentConfig()
    fingerprint: str = ""

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
"""A name of the table in `reproduce.optim.records`. Type checkers cannot read a table, so that they see any string."""


class OptimizerConfig(Frozen):
    """Optimiser and its constants; each module of `reproduce.optim` gives its equations and source."""

    name: OptimizerName = "adamw"
    lr: float = Field(gt=0)
    """Peak learning rate."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of the first moment; for sgd, of the gradient's moving average (momentum in EMA form)."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(default=1e-8, ge=0)
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of matrices and embeddings; norm parameters, biases and gains have none."""
    precond_freq: int = Field(default=10, ge=1)
    """Steps between two updates of the eigenbases (soap, adafactor-rotated)."""
    max_precond_dim: int = Field(default=10_000, ge=1)
    """Axes longer than this are not rotated (soap, adafactor-rotated)."""

    @model_validator(mode="after")
    def _all_read(self) -> OptimizerConfig:
        for name, field in OptimizerConfig.model_fields.items():
            if name in ("name", "lr", "weight_decay") or name in OPTIMIZERS[self.name].reads:
                continue
            if getattr(self, name) != field.default:
                readers = [other for other, record in OPTIMIZERS.items() if name in record.reads]
                raise ValueError(
                    f"{name} has no effect on {self.name}: set it to its default {field.default:g}, "
                    f"or name to one of {', '.join(readers)}"
                )
        return self


class ScheduleConfig(Frozen):
    """Learning-rate schedule: linear warm-up from 0, then linear or cosine decay to 0, or WSD."""

    kind: Literal["linear", "cosine", "wsd", "constant"] = "linear"
    warmup_fraction: float = Field(default=0.0, ge=0, le=1)
    """Warm-up over the run's steps."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Warm-up in steps; excludes `warmup_fraction`."""
    decay_fraction: float = Field(default=0.2, gt=0, le=1)
    """wsd only: the last part of the run, over which the rate falls linearly to 0."""

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
        """Warm-up in steps for a run whose schedule spans `steps`."""
        return self.warmup_steps if self.warmup_steps is not None else round(self.warmup_fraction * steps)


class ProbeConfig(Frozen):
    """When and on how much the metrics are measured."""

    every: int = Field(ge=1)
    """Steps between probes, after the first log-spaced ones."""
    batch_size: int = Field(ge=1)
    """Examples (sequences or images) of the fixed held-out probe batch."""
    point: ProbePoint = "residual"
    """residual: the stream entering each attention branch; attention-input: the same after its Pre-Norm, if any."""
    on: Literal["held-out", "train-batch"] = "held-out"
    """train-batch probes the current training batch, as the authors' code does."""
    moment_updates_layer: int | None = Field(default=None, ge=1)
    """Block at whose input the order-by-order moment updates are measured at every step (v1 App D)."""


class EvalConfig(Frozen):
    """Held-out loss."""

    every: int = Field(ge=1)
    batches: int = Field(ge=1)
    """Batches of the run's batch size in one evaluation."""


class RunConfig(Frozen):
    """Everything that changes a run's numbers."""

    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig = ScheduleConfig()
    steps: int = Field(ge=1)
    """Optimiser steps that the schedule spans."""
    stop_after: int | None = Field(default=None, ge=1)
    """Steps actually trained when the figure ends before the schedule does."""
    batch_size: int = Field(ge=1)
    """Examples (sequences or images) per optimiser step, over all devices and accumulation steps."""
    grad_clip: float | None = Field(default=None, gt=0)
    """Largest global gradient norm."""
    precision: Precision = "fp32"
    """Type of matrix products; weights, optimiser state and metrics are float32 in any case."""
    seed: int = Field(default=0, ge=0)
    """Seeds the initialisation and the order of the data."""
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
            raise ValueError("an mlp has no attention: set probe.point to residual")
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


# ---------------------------------------------------------------------------------------------------
# Measurements


class RunParent(Frozen):
    """A training of this store, as it was after so many of its steps."""

    kind: Literal["run"] = "run"
    key: str = Field(pattern=r"^[0-9a-f]{16}$")
    """Key of the training."""
    step: int = Field(ge=0)
    """Optimiser steps it had taken: 0 is its initialisation, its last step its final weights."""


class MeasureConfig(Frozen):
    """Everything that changes the numbers of a measurement of a trained model."""

    kind: Literal["measure"] = "measure"
    parent: RunParent
    """The model that is measured. It brings its architecture, its weights, and the held-out text or images."""
    examples: int = Field(ge=1)
    """Held-out examples (sequences or images) that the metrics are taken of."""
    point: ProbePoint = "residual"
    """As `ProbeConfig.point`."""
    precision: Precision = "fp32"
    """Type of matrix products; metrics are float32 in any case."""

    @property
    def last_step(self) -> int:
        """The step of its parent that it measures, which is the one step of its trace."""
        return self.parent.step


JobConfig = RunConfig | MeasureConfig
"""What the store holds a trace of: a training, or a measurement of a model."""
JOB_KINDS: dict[str, type[JobConfig]] = {"train": RunConfig, "measure": MeasureConfig}


def kind_of(config: JobConfig) -> str:
    """The name of the kind of job that `config` describes."""
    return next(name for name, kind in JOB_KINDS.items() if isinstance(config, kind))
