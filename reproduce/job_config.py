"""The configurations of the jobs that a store holds: trainings, measurements of models, and quantisations of them.

Like `RunConfig`, they hold everything that changes the numbers of a trace, and nothing else. This module never imports
torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from reproduce.config import Frozen, Precision, ProbePoint, RunConfig
from reproduce.quantise.rows import ROWS

# ---------------------------------------------------------------------------------------------------
# What a job starts from


class RunParent(Frozen):
    """A training in the same store, in its state after `step` steps."""

    kind: Literal["run"] = "run"
    key: str = Field(pattern=r"^[0-9a-f]{16}$")
    """Key of the training."""
    step: int = Field(ge=0)
    """Number of optimiser steps taken. 0 is the initialisation, and the last step has the final weights."""


class CheckpointParent(Frozen):
    """A checkpoint that no run here has trained: on the Hugging Face hub, in a folder in its format, or a GGUF file.

    What decides the numbers is `fingerprint`. With it, neither the place of a local checkpoint nor its name is part of
    a key, and of a checkpoint on the hub the name and the commit are.
    """

    kind: Literal["checkpoint"] = "checkpoint"
    form: Literal["hub", "folder", "gguf"]
    name: str
    """Its name on the hub, owner/name, or that of the folder or file without what is before it."""
    path: str | None = None
    """Where a folder or file lies."""
    revision: str | None = None
    """Branch, tag or commit on the hub. None: the main branch."""
    file: str | None = None
    """The GGUF file in a repository of the hub that has several."""
    step: int | None = Field(default=None, ge=0)
    """Number of optimiser steps that it was trained for, where a figure shows several over training."""
    allow_pickle: bool = False
    """Whether tensors may be read from a Python pickle. Like the next field, it is no part of a key."""
    trust_remote_code: bool = False
    """Whether code that comes with the checkpoint may be run."""
    fingerprint: str = ""
    """Commit on the hub, or hash of the files. It is filled in when the checkpoint is located."""

    @model_validator(mode="after")
    def _consistent(self) -> CheckpointParent:
        if self.form != "hub" and self.revision is not None:
            raise ValueError(f"only a checkpoint on the hub has a revision, and {self.name} is a {self.form}")
        if (self.path is None) != (self.form == "hub"):
            raise ValueError("path goes with the forms folder and gguf, and not with hub")
        return self


class TextSample(Frozen):
    """The text on which a checkpoint is measured, in its own tokens."""

    source: str = "prose-and-code"
    """A registered source of text (`ofe data list`), or one of
    prose-and-code: sequences of the embedded prose and the embedded code in turn; file, folder: text of the user's own;
    ids: token indices in a file."""
    path: str | None = None
    """The file or folder of the user's own."""
    dataset: str | None = None
    """Data set of the Hugging Face hub that the source `hub` reads."""
    seq_len: int = Field(default=512, ge=2)
    """Number of tokens in a sequence, those at its ends included that the tokenizer adds (BOS, or [CLS] and [SEP])."""
    fingerprint: str = ""
    """Hash of the text, which is filled in when the measurement is asked for."""


class OfModel(Frozen):
    """What jobs have in common that start from a trained model."""

    parent: RunParent | CheckpointParent
    """The training whose weights are taken, or a checkpoint from elsewhere. A training also gives the architecture, and
    the text or images that it has held out."""

    @property
    def last_step(self) -> int:
        """The step of the parent that is looked at, which is the only step of the trace. 0 where it is not known."""
        return self.parent.step or 0


# ---------------------------------------------------------------------------------------------------
# Measurements


InnerPoint = Literal["attn_out", "mlp_out", "down_in", "q", "k"]
"""A place inside a block of a checkpoint (`reproduce.checkpoints.points`)."""


class MeasureConfig(OfModel):
    """The configuration of a measurement of a trained model: everything that changes its numbers."""

    kind: Literal["measure"] = "measure"
    examples: int = Field(ge=1)
    """Number of held-out examples (sequences or images) on which the metrics are measured."""
    point: ProbePoint = "residual"
    """See `ProbeConfig.point`."""
    precision: Precision = "fp32"
    """Type of the matrix products, and of the weights of a checkpoint. Metrics are float32 or better in any case."""
    text: TextSample | None = None
    """The text on which the model is measured. None: examples that the training has held out."""
    skip_first: int = Field(default=0, ge=0)
    """Positions at the start of each sequence that the second column of metrics leaves out. 0: there is no such
    column for a training's own examples."""
    points: tuple[InnerPoint, ...] = ()
    """Places inside each block that are measured beside the stream."""
    correlations: bool = False
    """Whether the RMS correlations of a checkpoint are measured too."""
    exported: bool = False
    """Whether the weights of a training are first written as a checkpoint, as `ofe export` does, and opened as one."""

    @model_validator(mode="after")
    def _consistent(self) -> MeasureConfig:
        if self.text is None and isinstance(self.parent, CheckpointParent):
            raise ValueError("a checkpoint has held out no examples: give a text")
        if self.text is None and (self.points or self.correlations):
            raise ValueError("points and correlations go with a text")
        if self.exported and (self.text is None or isinstance(self.parent, CheckpointParent)):
            raise ValueError("exported is about a training that is measured on a text")
        if self.text is not None and self.point != "residual":
            raise ValueError("on a text the residual stream is measured: set point to residual")
        return self

    @property
    def slug_suffix(self) -> str:
        """What the slug of the job adds to that of its parent."""
        if isinstance(self.parent, CheckpointParent):
            return "-measured"
        return f"-at-{self.parent.step}" + ("" if self.text is None else f"-on-{self.text.source}")


# ---------------------------------------------------------------------------------------------------
# Quantisations


if TYPE_CHECKING:
    RowName = str
else:
    RowName = Literal[tuple(ROWS)]
"""A name in `reproduce.quantise.rows.ROWS`. Type checkers cannot evaluate the table, so they see any string."""

Bits = Annotated[int, Field(ge=2, le=16)]


class QuantiseConfig(OfModel):
    """The configuration of a quantisation of a trained model: everything that changes its numbers."""

    kind: Literal["quantise"] = "quantise"
    rows: tuple[RowName, ...] = ()
    """Ways to quantise it, each of which is evaluated."""
    weights: Bits = 8
    """Bits of weights in the rows of causes, of methods at 8 bits, and of the published protocol as a row."""
    activations: Bits = 8
    """Bits of activations there."""
    widths: tuple[Bits, ...] = ()
    """Widths of weights and activations at which the published protocol is evaluated with each calibration seed."""
    seeds: int = Field(default=3, ge=1)
    """Number of random subsets of the training text with which the published protocol is calibrated."""
    examples: int = Field(ge=1)
    """Number of held-out sequences on which perplexity is evaluated."""
    calibration_batches: int = Field(default=4, ge=1)
    """Number of batches from which static ranges are learnt, and which methods see."""
    calibration_batch_size: int = Field(default=8, ge=1)
    """Number of sequences in each of them."""
    tensors: int = Field(default=0, ge=0)
    """Number of tensors, those with the lowest SQNR, that are quantised alone to see what they do to the logits."""
    text: TextSample | None = None
    """The text on which a checkpoint is evaluated and calibrated. None: that of the training."""

    @model_validator(mode="after")
    def _consistent(self) -> QuantiseConfig:
        if (self.text is None) == isinstance(self.parent, CheckpointParent):
            raise ValueError("a text goes with a checkpoint; a run is quantised on its own text")
        if self.widths and isinstance(self.parent, CheckpointParent):
            raise ValueError("the published protocol needs a model of this package: leave out widths")
        if not self.rows and not self.widths:
            raise ValueError("give rows or widths: there is nothing to evaluate")
        return self

    @property
    def slug_suffix(self) -> str:
        """What the slug of the job adds to that of its parent."""
        if isinstance(self.parent, CheckpointParent):
            return "-quantised"
        return f"-quantised-at-{self.parent.step}"


JobConfig = RunConfig | MeasureConfig | QuantiseConfig
"""The configuration of a job of any kind. The store holds one trace for each."""
JOB_KINDS: dict[str, type[JobConfig]] = {"train": RunConfig, "measure": MeasureConfig, "quantise": QuantiseConfig}
"""Name of each kind of job -> type of its configuration."""


def kind_of(config: JobConfig) -> str:
    """The name of the kind of job that `config` describes."""
    return next(name for name, kind in JOB_KINDS.items() if isinstance(config, kind))
