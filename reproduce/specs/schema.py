"""The shape of a spec: settings, runs, plots and claims as they stand in `experiments/`.

A figure or table is one `Experiment`. It names runs, which a `Setting` catalogues (or which it defines
itself), says how to plot them and what the paper claims about them. `reproduce.specs.load` reads the YAML,
`reproduce.specs.resolve` turns an experiment and a scale into runs. Nothing here imports torch.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from reproduce.choices import SCALES, Scale
from reproduce.config import Frozen, ProbePoint
from reproduce.job_config import Bits, RowName
from reproduce.metrics.table import Form

Source = Literal["stated-v1", "stated-v2", "code", "inferred"]
"""Where a value comes from: the text of v1 or v2, the authors' released code, or our own deduction."""
Origin = Source | tuple[Source, str]
"""A source, with a remark where one helps."""

NAME = re.compile(r"\w[\w.-]{0,99}")
"""What may be the id of a figure or a setting, or the name of a run: files and folders are called by it."""


def _as_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f"expected at most 100 letters, digits, dots, dashes and underscores, got {text[:60]!r}")
    return text


Name = Annotated[str, AfterValidator(_as_name)]
"""The id of a figure or a setting, or the name of a run."""

# ---------------------------------------------------------------------------------------------------
# Runs and settings


class Deviation(Frozen):
    """What a run or a scale changes of what stands beneath it (`reproduce.specs.resolve`). Nested keys merge."""

    block: str | None = None
    """Named block variant (`reproduce.models.variants`); `model.block` then changes single choices of it."""
    model: dict[str, Any] = {}
    data: dict[str, Any] = {}
    optimizer: dict[str, Any] = {}
    schedule: dict[str, Any] = {}
    probe: dict[str, Any] = {}
    eval: dict[str, Any] = {}
    steps: int | None = None
    stop_after: int | None = None
    batch_size: int | None = None
    grad_clip: float | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None


class ScaledDeviation(Deviation):
    """What one scale changes, and why."""

    because: str


class RunSpec(Deviation):
    """A named run: what deviates from its setting. One name is one training in the whole collection."""

    name: Name
    label: str
    """How legends and tables call it."""
    at: dict[Scale, ScaledDeviation] = {}
    """What the run changes further at a scale."""
    source: Source | None = None
    """Provenance of what the run changes, where that comes from the paper or the authors' code."""
    note: str = ""
    sources: dict[str, Origin] = {}
    """Provenance, by dotted path, of the values for which `source` and `note` do not hold."""


class Snapshots(Frozen):
    """Measurements of the weights that a run had on its way, in place of what was recorded while it trained.

    Each is a job of its own, which starts from weights that the run keeps (`reproduce.jobs.measure`).
    """

    at: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)
    """Parts of the run's steps after which it is measured: 0 is its initialisation, 1 its end."""
    examples: int | None = Field(default=None, ge=1)
    """Held-out examples that are measured; as many as the run's own probes take if None."""
    point: ProbePoint | None = None
    """What stands for a layer's stream; as the run's own probes take it if None."""


class Quantised(Frozen):
    """A quantisation of the weights that a run ends with, in place of what was recorded while it trained.

    Of a checkpoint it stands in place of the measurement. The first sequences of the setting's text calibrate it, and
    those after them are evaluated.
    """

    widths: list[Bits] = [8]
    """Widths at which the published protocol is evaluated: w8a8_ppl and so on. A model from elsewhere takes none."""
    seeds: int = Field(default=3, ge=1, le=1000)
    """Calibration subsets of the published protocol."""
    rows: list[RowName] = []
    """Further ways to quantise it (`reproduce.quantise.rows`)."""
    examples: int | None = Field(default=None, ge=1)
    """Held-out sequences of the evaluation. If None, those on which the run is evaluated while it trains; of a
    checkpoint as many as it is measured on."""
    calibration_batch_size: int = Field(default=8, ge=1)
    """Sequences in each of the four calibration batches."""


class RunRef(Frozen):
    """A run or a checkpoint of the setting's catalogue, as a figure uses it."""

    name: str
    seeds: int = Field(default=1, ge=1, le=1000)
    label: str | None = None
    measured: Snapshots | None = None
    """Where the figure shows measurements of the run's weights instead of its own trace."""
    quantised: Quantised | None = None
    """Where the figure shows a quantisation of the run's weights instead of its own trace, or of a checkpoint."""

    @model_validator(mode="after")
    def _one_job(self) -> RunRef:
        if self.measured is not None and self.quantised is not None:
            raise ValueError("give measured or quantised, not both")
        return self


class CheckpointText(Frozen):
    """The text on which the checkpoints of a setting are measured, each in tokens of its own."""

    source: str = "prose-and-code"
    """See `reproduce.config.TextSample`."""
    seq_len: int = Field(ge=2)
    """Number of tokens in a sequence."""
    examples: int = Field(ge=1)
    """Number of sequences."""
    skip_first: int = Field(default=1, ge=0)
    """Positions at the start of each sequence that the metrics called `*_skipped` leave out."""
    correlations: bool = False
    """Whether the RMS correlations are measured too."""


class ModelSize(Frozen):
    """How large a model from elsewhere is, from which the cost of measuring it is reckoned."""

    layers: int = Field(ge=1)
    """Number of blocks."""
    width: int = Field(ge=1)
    """Width of the residual stream."""
    parameters: int = Field(ge=1)
    stored_bytes: int = Field(ge=1)
    """Size of the files of one checkpoint, which are downloaded."""


class CheckpointSpec(Frozen):
    """A model at several steps of its training. Each step is one checkpoint, and one measurement on the setting's text.

    The checkpoints lie on the Hugging Face hub as revisions of one repository, or are one real model in a package of
    the Python index, or are what a run of the setting was on its way, exported in the hub's format.
    """

    name: Name
    label: str
    hub: str | None = None
    """Repository on the hub, owner/name."""
    revision: str = "step{step}"
    """Name of the revision with the weights after a step."""
    anchor: str | None = None
    """Name of a checkpoint in a package (`reproduce.checkpoints.anchors`)."""
    run: str | None = None
    """Name of a run of the same setting."""
    steps: dict[Scale, list[Annotated[int, Field(ge=0)]]] = Field(min_length=1)
    """The steps that a figure shows at each scale. At a scale that is not named, figures leave the model out. A run is
    measured at those that it reaches, and at its end."""
    size: ModelSize | None = None
    """How large a model from elsewhere is. A run says that itself."""
    allow_pickle: bool = False
    """Whether tensors may be read from a Python pickle where a revision has no safetensors."""
    stands_for: str = ""
    """What of the paper's it stands in for; empty for a model that the paper measured."""
    source: Source | None = None
    """Provenance of the model and its steps."""
    note: str = ""

    @model_validator(mode="after")
    def _one_origin(self) -> CheckpointSpec:
        if sum(one is not None for one in (self.hub, self.anchor, self.run)) != 1:
            raise ValueError("give one of hub, anchor and run")
        if (self.run is None) == (self.size is None):
            raise ValueError("give the size of a model from elsewhere, and leave it out where a run is named")
        return self


class ScaleSpec(ScaledDeviation):
    """What one scale changes in a setting."""

    seeds: int | None = Field(default=None, ge=1)
    """Largest number of seeds of any run at this scale, where the paper has more than the scale affords."""
    caution: str = ""
    """What a reader of any picture at this scale must know, in full sentences: that another rate trains better, say."""
    text: CheckpointText | None = None
    """The text on which checkpoints are measured at this scale, in place of the setting's."""


class Setting(Frozen):
    """A family of trainings that share a recipe. `base` is the paper's recipe, which `scales` change."""

    id: Name
    title: str
    """What `ofe list` and `ofe show` call it."""
    paper_data: list[str] | None = None
    """Data sources that the paper used. A run on any other source is badged as one on a substitute. It is None in a
    setting of a user's own that the paper does not have."""
    base: Deviation
    sources: dict[str, Origin] = {}
    """Provenance of every value of `base` and `blocks` by dotted path. A user's own setting need not give it."""
    blocks: dict[str, dict[str, Any]] = {}
    """What this setting changes in a named block variant, such as the gains of OP."""
    scales: dict[Scale, ScaleSpec]
    runs: list[RunSpec] = []
    text: CheckpointText | None = None
    """The text on which `checkpoints` are measured."""
    checkpoints: list[CheckpointSpec] = []
    """Models that are measured at several steps of their training."""
    notes: str = ""

    @property
    def catalogue(self) -> list[RunSpec | CheckpointSpec]:
        """All that a figure of the setting may name."""
        return [*self.runs, *self.checkpoints]

    def text_at(self, scale: Scale) -> CheckpointText:
        """The text on which checkpoints are measured at `scale`."""
        text = self.scales[scale].text or self.text
        assert text is not None, "a setting with checkpoints has a text"
        return text

    def is_paper_data(self, source: str) -> bool:
        """Whether the paper trained on this source of data; also true where the paper has no such setting."""
        return self.paper_data is None or source in self.paper_data


# ---------------------------------------------------------------------------------------------------
# Plots


class Axis(Frozen):
    """One plotted quantity."""

    metric: str
    """A metric of `reproduce.metrics.table`, or a sum or difference `a + b - c` of metrics."""
    scale: Literal["linear", "log"] = "linear"
    form: Form = "eq1"
    """Whether kurtosis is shown as in Eq (1), or minus one as in the authors' plots."""
    cumulative: bool = False
    """Whether values are summed over the steps so far."""
    label: str | None = None


Facet = Literal["run", "layer", "metric", "setting"]
Layers = Literal["all", "blocks", "mean"] | list[int | Literal["unembed"]]
"""All probed layers, the blocks without the input of the unembedding, the mean of the blocks, or a list of blocks
counted from 1."""


class LinePlot(Frozen):
    """Curves over training, in a grid of panels."""

    kind: Literal["lines"] = "lines"
    x: Axis = Axis(metric="step")
    y: list[Axis] = Field(min_length=1)
    layers: Layers | None = None
    """The layers shown; None for metrics that have no layers, such as a loss."""
    panels: list[Facet] = []
    """What the panels differ in. None gives one panel, one facet a row that wraps, two give rows and columns."""
    series: Facet = "run"
    sweep: bool = False
    """Whether the runs sweep one number in order, so that their colours go from dark to light."""
    x_max: dict[Scale, Annotated[int, Field(ge=0)]] = {}

    @model_validator(mode="after")
    def _consistent(self) -> LinePlot:
        if self.sweep and self.series != "run":
            raise ValueError(f"sweep goes with series run, not {self.series}")
        return self


class Column(Frozen):
    """A column of a table, which shows a reduced metric or a value of the run's configuration."""

    title: str
    metric: str | None = None
    layer: int | str | None = None
    over: Literal["init", "final", "peak", "min", "mean"] = "final"
    form: Form = "eq1"
    config: str | None = None
    """Dotted path into the run's configuration, such as `model.block.post_qk`."""
    published: str | None = None
    """Key in `published.<run>` of the number that the paper prints, which is shown beside ours."""
    digits: int = 2


class TablePlot(Frozen):
    """A table with one row for each run."""

    kind: Literal["table"] = "table"
    columns: list[Column] = Field(min_length=1)


class MethodsPlot(Frozen):
    """What each way to quantise costs each model: perplexity against kurtosis, and a table with bits and FLOPs.

    A point stands for a run of the figure and a row of its quantisation; the rows of one family share a panel.
    """

    kind: Literal["methods"] = "methods"
    rows: list[RowName] = Field(min_length=1)
    """Rows of `reproduce.quantise.rows`, which the quantisations of all runs must ask for."""


class DiagramPlot(Frozen):
    """A drawing made from a model's configuration."""

    kind: Literal["diagram"] = "diagram"
    block: str
    """Name of the block variant to draw."""
    shows: Literal["variant", "norm-positions"] = "variant"


Plot = Annotated[LinePlot | TablePlot | MethodsPlot | DiagramPlot, Field(discriminator="kind")]

# ---------------------------------------------------------------------------------------------------
# Claims

Over = Literal["init", "final", "change", "peak", "min", "mean", "each", "some", "most", "argpeak"]
Comparator = Literal["gt", "ge", "lt", "le", "eq", "approx", "within_factor", "decreasing", "increasing", "spearman_ge"]


class Quantity(Frozen):
    """A number that is read off traces, or one for each layer, step or run (`reproduce.claims.quantity`)."""

    metric: str
    """A metric of `reproduce.metrics.table`, a sum or difference, `rank_corr(a,b)` or `rank_at_max(a,b)`."""
    run: str | None = None
    runs: list[str] | None = None
    layer: (
        int | Literal["unembed", "each", "some", "most", "early", "late", "mean", "max", "argmax"] | list[int] | None
    ) = None
    blocks: bool | Literal["early", "late"] = False
    """Whether `each`, `some`, `most`, `max` and `argmax` leave out the input of the unembedding, or are about the first
    or the last third of the blocks alone."""
    over: Over | None = None
    after: float = Field(default=0.0, ge=0, lt=1)
    """Part of the steps that is left out at the start of a run, before the blocks have grown apart."""
    until: float = Field(default=1.0, gt=0, le=1)
    """Part of the steps after which all others are left out, for sentences about the start of a run."""
    reduce_runs: Literal["max", "min", "mean"] | None = None
    minus_run: str | None = None
    """A run whose same quantity is subtracted."""
    plus_metric: str | None = None
    """A metric that is added at each step."""
    per_metric: str | None = None
    """A metric by which the value is divided at each step. It is summed over the steps too if `cumulative` is set."""
    cumulative: bool = False
    """Whether values are summed over the steps so far before they are reduced."""
    abs: bool = False
    nan: Literal["counts_as_inf", "last_finite"] | None = None
    """How a failed run is read: as infinite from its failure on, or as it stood before. If None, it has no value."""
    attention: str | None = None
    """A condition of the run that the paper names and no trace records."""

    @model_validator(mode="after")
    def _consistent(self) -> Quantity:
        if (self.run is None) == (self.runs is None):
            raise ValueError("give run or runs")
        if self.blocks and self.layer not in ("each", "some", "most", "max", "argmax"):
            raise ValueError("blocks goes with layer each, some, most, max or argmax")
        if self.after >= self.until:
            raise ValueError("after leaves out all steps before until: choose a smaller one")
        return self

    @property
    def run_names(self) -> list[str]:
        return [self.run] if self.run is not None else list(self.runs or [])


Side = Quantity | bool | int | float | str | list[float]


class Bound(Frozen):
    """What a claim asks for at one scale, where the paper's own bound is for the paper's scale."""

    because: str
    right: Side | None = None
    factor: float | None = None
    plus: float | None = None
    tol: float | None = None
    rel_tol: float | None = None
    bound: float | None = None


class Claim(Frozen):
    """`left cmp factor * right + plus`, with what the paper says in our words."""

    id: str
    says: str
    left: Quantity
    cmp: Comparator
    right: Side | None = None
    factor: float = 1.0
    plus: float = 0.0
    tol: float = 0.0
    rel_tol: float = 0.0
    bound: float | None = None
    across: Literal["layer", "run", "layer_and_run", "step"] | None = None
    inversions_allowed: int = Field(default=0, ge=0)
    """Pairs of runs that may be out of the order of a trend, where the paper says "mostly"."""
    form: Literal["variance", "eq1", "either"] = "either"
    """Form of kurtosis that the statement is about. A claim of form `variance` is judged on kurtosis - 1."""
    eq1_because: str = ""
    """Why a claim judges a ratio or a factor on Eq (1), whose smallest value is 1, instead of on kurtosis - 1."""
    kind: Literal["finding", "identity"] = "finding"
    """An identity holds by algebra for every correct measurement, so it tests the metrics. It is counted apart."""
    note: str = ""
    source: str
    basis: Literal["stated", "quantified", "inferred", "project"]
    """The paper states the claim and its number, the number is ours, the claim is inferred, or it is the project's."""
    needs: list[str] = []
    """Runs of other figures that the claim reads."""
    at: dict[Scale, Bound] = {}
    scales: list[Scale] = list(SCALES)
    """Scales at which the claim is judged."""


# ---------------------------------------------------------------------------------------------------


class Experiment(Frozen):
    """One figure or table: of the paper, or of a user's own, which has no number and no section there."""

    id: Name
    v1: str | None = None
    """Its name in v1 of the paper, such as `Figure 6`; None if v1 does not have it."""
    v2: str | None = None
    title: str
    kind: Literal["training", "pretrained", "table", "diagram"] = "training"
    section: str = ""
    """The section of the paper that it belongs to."""
    setting: str | list[str] | None = None
    """The setting of its runs, or several: an id, or the path of a file as seen from the spec's own folder."""
    runs: list[str | RunRef | RunSpec] = []
    """Names of the setting's runs, runs that the figure defines itself, or paths of files that define one each."""
    plot: Plot
    claims: list[Claim] = []
    published: dict[str, Any] = {}
    """Numbers that the paper prints. They are only shown beside ours."""
    provenance: dict[str, str] = {}
    """Where choices of the figure come from, such as its layers, seeds, axes and runs."""
    notes: str = ""
    findings: dict[Scale, str] = {}
    """What the reference traces of a scale show where a claim fails or is decided early, and what was tried."""

    @property
    def paper_names(self) -> list[str]:
        """What the paper calls it, `v1 Figure 6` and `v2 Figure 10`; a version that lacks it is left out."""
        return [f"{version} {name}" for version, name in (("v1", self.v1), ("v2", self.v2)) if name]

    @property
    def settings(self) -> list[str]:
        """Ids of its settings; of a setting of a user's own the path of its file."""
        return [] if self.setting is None else [self.setting] if isinstance(self.setting, str) else self.setting
