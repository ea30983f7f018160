"""The shape of a spec: settings, runs, plots and claims as they stand in `experiments/`.

A figure or table is one `Experiment`. It names runs, which a `Setting` catalogues (or which it defines
itself), says how to plot them and what the paper claims about them. `reproduce.specs.load` reads the YAML,
`reproduce.specs.resolve` turns an experiment and a scale into runs. Nothing here imports torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from reproduce.choices import SCALES, Scale
from reproduce.config import Frozen

Source = Literal["stated-v1", "stated-v2", "code", "inferred"]
"""Where a value comes from: the text of v1 or v2, the authors' released code, or our own deduction."""
Origin = Source | tuple[Source, str]
"""A source, with a remark where one helps."""

# ---------------------------------------------------------------------------------------------------
# Runs and settings


class Deviation(Frozen):
    """What a run or a scale changes, laid over what stands beneath it. Nested keys merge, `block` names a variant."""

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

    name: str
    label: str
    """How legends and tables call it."""
    at: dict[Scale, ScaledDeviation] = {}
    """What a scale changes further."""
    source: Source | None = None
    """Provenance of the deviation, where it has one."""
    note: str = ""
    sources: dict[str, Origin] = {}
    """Provenance, by dotted path, of the values that have another than `source` and `note`."""


class RunRef(Frozen):
    """A run of the setting's catalogue, as a figure uses it."""

    name: str
    seeds: int = Field(default=1, ge=1)
    label: str | None = None


class ScaleSpec(ScaledDeviation):
    """What one scale changes in a setting."""

    seeds: int | None = Field(default=None, ge=1)
    """Most seeds of any run at this scale, where the paper's number is more than the scale affords."""


class Setting(Frozen):
    """A family of trainings that share a recipe; `base` is the paper's own, the scales say what they change."""

    id: str
    title: str
    paper_data: list[str]
    """Data sources that are the paper's own; any other is badged as a substitute."""
    base: Deviation
    sources: dict[str, Origin]
    """Provenance of every value of `base` and `blocks` by dotted path."""
    blocks: dict[str, dict[str, Any]] = {}
    """What this setting changes in a named block variant (the gains of OP, the final norm of Pre-LN)."""
    scales: dict[Scale, ScaleSpec]
    runs: list[RunSpec] = []
    notes: str = ""


# ---------------------------------------------------------------------------------------------------
# Plots


class Axis(Frozen):
    """One plotted quantity."""

    metric: str
    """Metric name, or `a + b` for a sum of two."""
    scale: Literal["linear", "log"] = "linear"
    form: Literal["eq1", "variance"] = "eq1"
    """Kurtosis as Eq (1), or minus one (what the authors plot)."""
    cumulative: bool = False
    """Summed over the steps so far."""
    label: str | None = None


Facet = Literal["run", "layer", "metric", "setting"]
Layers = Literal["all", "blocks", "mean"] | list[int | Literal["unembed"]]
"""all probes | the blocks' inputs without the unembedding's | their mean | a list of 1-based blocks."""


class LinePlot(Frozen):
    """Curves over training, in a grid of panels."""

    kind: Literal["lines"] = "lines"
    x: Axis = Axis(metric="step")
    y: list[Axis] = Field(min_length=1)
    layers: Layers | None = None
    """None for a metric that has no layer (loss, accuracy)."""
    panels: list[Facet] = []
    """Facets of the grid: none is one panel, one wraps, two are rows and columns."""
    series: Facet = "run"
    sweep: bool = False
    """The runs sweep one number, in order: colours go from dark to light instead of being as distinct as can be."""
    x_max: dict[Scale, int] = {}

    @model_validator(mode="after")
    def _consistent(self) -> LinePlot:
        if self.sweep and self.series != "run":
            raise ValueError(f"sweep goes with series run, not {self.series}")
        return self


class Column(Frozen):
    """A column of a table: a reduced metric, or a value of the run's configuration."""

    title: str
    metric: str | None = None
    layer: int | str | None = None
    over: Literal["init", "final", "peak", "min", "mean"] = "final"
    form: Literal["eq1", "variance"] = "eq1"
    config: str | None = None
    """Dotted path into the run's configuration, such as `model.block.post_qk`."""
    published: str | None = None
    """Key of the published value in `published.<run>`."""
    digits: int = 2


class TablePlot(Frozen):
    """One row a run."""

    kind: Literal["table"] = "table"
    columns: list[Column] = Field(min_length=1)


class DiagramPlot(Frozen):
    """A drawing made from a model's configuration."""

    kind: Literal["diagram"] = "diagram"
    block: str
    """Named block variant to draw, with the norms it removes."""
    shows: Literal["variant", "norm-positions"] = "variant"


Plot = Annotated[LinePlot | TablePlot | DiagramPlot, Field(discriminator="kind")]

# ---------------------------------------------------------------------------------------------------
# Claims

Over = Literal["init", "final", "peak", "min", "mean", "each", "some", "argpeak"]
Comparator = Literal["gt", "ge", "lt", "le", "eq", "approx", "within_factor", "decreasing", "increasing", "spearman_ge"]


class Quantity(Frozen):
    """A number (or one per layer, step or run) read off traces."""

    metric: str
    """A metric of the trace, `n_layers`, `failed`, `a - b`, `eq5_residual`, `rank_corr(a,b)` or `rank_at_max(a,b)`."""
    run: str | None = None
    runs: list[str] | None = None
    layer: int | Literal["unembed", "each", "some", "early", "late", "mean", "max", "argmax"] | list[int] | None = None
    blocks: bool = False
    """Leave out the input of the unembedding, which `each`, `some`, `max` and `argmax` take in otherwise."""
    over: Over | None = None
    after: float = Field(default=0.0, ge=0, lt=1)
    """Part of a run's steps that is left out at its start, where blocks have not grown apart yet."""
    reduce_runs: Literal["max", "min", "mean"] | None = None
    minus_run: str | None = None
    """Subtract the same quantity of this run."""
    plus_metric: str | None = None
    """Add this metric."""
    cumulative: bool = False
    """Sum over the steps so far, before reducing."""
    abs: bool = False
    nan: Literal["counts_as_inf", "last_finite"] | None = None
    """How a failed run is read: as infinite from its failure on, or as it stood before. Without it, it has no value."""
    attention: str | None = None
    """A condition of the run that the paper names and no trace records."""

    @model_validator(mode="after")
    def _consistent(self) -> Quantity:
        if (self.run is None) == (self.runs is None):
            raise ValueError("give run or runs")
        if self.blocks and self.layer not in ("each", "some", "max", "argmax"):
            raise ValueError("blocks goes with layer each, some, max or argmax")
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
    across: Literal["layer", "run", "layer_and_run"] | None = None
    inversions_allowed: int = Field(default=0, ge=0)
    """decreasing, increasing: pairs of runs that may be out of order, where the paper says "mostly"."""
    form: Literal["variance", "eq1", "either"] = "either"
    """Form of kurtosis the statement concerns: `variance` claims are judged on kurtosis - 1."""
    note: str = ""
    source: str
    basis: Literal["stated", "quantified", "inferred", "project"]
    """stated by the paper | its words, our number | follows or is guessed | this project's own check."""
    needs: list[str] = []
    """Runs of other figures that the claim reads."""
    at: dict[Scale, Bound] = {}
    scales: list[Scale] = list(SCALES)
    """Scales at which the claim is judged."""


# ---------------------------------------------------------------------------------------------------


class Experiment(Frozen):
    """One figure or table of the paper."""

    id: str
    v1: str | None
    v2: str | None
    title: str
    kind: Literal["training", "pretrained", "table", "diagram"]
    section: str
    setting: str | list[str] | None
    runs: list[str | RunRef | RunSpec] = []
    plot: Plot
    claims: list[Claim] = []
    published: dict[str, Any] = {}
    """Numbers printed in the paper, never used for anything but to stand beside ours."""
    provenance: dict[str, str] = {}
    """Where what the figure shows comes from: its layers, seeds and axes, and what it takes its runs to be."""
    notes: str = ""
    findings: dict[Scale, str] = {}
    """What the reference traces of a scale showed where a claim fails or is decided early, and what was tried."""

    @property
    def paper_names(self) -> list[str]:
        """What the paper calls it, `v1 Figure 6` and `v2 Figure 10`; a version that lacks it is left out."""
        return [f"{version} {name}" for version, name in (("v1", self.v1), ("v2", self.v2)) if name]

    @property
    def settings(self) -> list[str]:
        return [] if self.setting is None else [self.setting] if isinstance(self.setting, str) else self.setting
