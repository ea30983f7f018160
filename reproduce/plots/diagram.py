"""A transformer block drawn from its own configuration (`DiagramPlot`).

Every mark follows from a field of `BlockConfig`, so that another variant gives another drawing. A named variant leaves
the residual gains, the MLP input scale and the final norm to each setting. What it does not set is drawn dotted and
called by its symbol.

    stream ─┬───────────────────────────(+)─[Post]─┬──────────────────────────────(+)─[Post]── final norm
            └ n_qk ─ W_Q, W_K ─ n_post ─ softmax     └ n_mlp ─ α ─ W_1 ─ φ ─ W_2 ─ β ┘
            └ n_v ── W_V ─────────────── A V ─ W_P ─ β
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from reproduce.config import BlockConfig
from reproduce.errors import SpecError
from reproduce.models.variants import VARIANTS
from reproduce.plots.badges import Badge
from reproduce.plots.canvas import Canvas, Look
from reproduce.plots.captions import words
from reproduce.plots.names import value_label
from reproduce.plots.sheet import Words, body_width, sheet
from reproduce.plots.theme import QUIET
from reproduce.specs.schema import DiagramPlot, Experiment

if TYPE_CHECKING:
    from reproduce.claims import Verdict

_STREAM, _LOW, _V, _K, _Q = 0.55, 1.25, 2.0, 2.8, 3.5
"""Heights of the residual stream, of the norms above it, and of the rows of V, K and Q, in units of the drawing."""
_HEIGHT = 4.1
_INCH = 0.8
"""Length in inches of one unit of the drawing."""


def draw_diagram(experiment: Experiment, plot: DiagramPlot, verdicts: Sequence[Verdict] = ()) -> Figure:
    """The drawing of a named block; call inside `theme()`.

    Raises:
        SpecError: no block has that name.
    """
    if plot.block not in VARIANTS:
        raise SpecError(f"{experiment.id}: no block {plot.block}", hint=f"plot.block is one of {', '.join(VARIANTS)}")
    block = BlockConfig.model_validate(VARIANTS[plot.block])
    badges = [Badge("drawing, no data"), Badge(f"block {plot.block}")]
    around = words(experiment, verdicts, badges, _caption(plot, block))
    return draw_block(block, around, positions=plot.shows == "norm-positions")


def draw_block(block: BlockConfig, around: Words, *, positions: bool = False) -> Figure:
    """A picture of `block`; call inside `theme()`.

    Args:
        around: what stands around the picture.
        positions: show every place where a norm may stand, also the empty ones, and leave out the gains.
    """
    drawing = _Drawing(block, positions)
    figure, body = sheet(around, drawing.width * _INCH, _HEIGHT * _INCH)
    ax = body.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    units = body_width(figure) / _INCH
    ax.set_xlim((drawing.width - units) / 2, (drawing.width + units) / 2)
    ax.set_ylim(0, _HEIGHT)
    drawing.draw(Canvas(ax, 7.5))
    return figure


def _caption(plot: DiagramPlot, block: BlockConfig) -> str:
    """What coloured, dashed and dotted marks mean, as far as the drawing has them."""
    named = {"Pre-QK": block.pre_qk, "Pre-V": block.pre_v, "Post-QK": block.post_qk, "Pre-MLP": block.pre_mlp}
    if plot.shows == "norm-positions":
        present = ", ".join(f"{name} ({value_label(kind)})" for name, kind in named.items() if kind != "none")
        return (
            f"The four places for a norm in a block. Coloured: what the block {plot.block} has ({present or 'none'})."
        )
    said = []
    if _removes(block):
        said.append("Dashed: the norms of a Pre-Norm block that this one does without.")
    if {"attn_gain", "mlp_gain", "mlp_input_scale", "final_norm"} - block.model_fields_set:
        norm = "" if _removes(block) else ", the norm before the unembedding"
        said.append(f"Dotted: what each setting chooses (residual gains β, input scale α{norm}).")
    return " ".join(said)


def _removes(block: BlockConfig) -> bool:
    """Whether the block lacks a norm that a Pre-Norm block has; Post-Norm moves its norms instead."""
    return block.post_norm == "none" and "none" in (block.pre_qk, block.pre_v, block.pre_mlp)


class _Drawing:
    """Where each part of a block stands, from left to right, and how it looks.

    The constructor fixes the x coordinates, because the width of the drawing must be known before there is a page.
    """

    def __init__(self, block: BlockConfig, positions: bool) -> None:
        self.block = block
        self.positions = positions
        self.split = positions or block.pre_qk != block.pre_v
        """Whether Pre-QK and Pre-V are drawn apart; where they are equal they are drawn as one Pre-Norm."""
        post = 0.95 if block.post_norm != "none" else 0.0
        self.tap = 0.85
        self.project = self.tap + (2.05 if self.split else 1.0)
        regulated = positions or block.post_qk != "none"
        self.softmax = self.project + (2.35 if regulated else 1.35)
        self.out = self.softmax + 1.15
        self.sum = self.out + 0.85
        self.mlp = self.sum + post + (0.7 if post else 1.0)
        self.mlp_sum = self.mlp + 3.85
        self.end = self.mlp_sum + post + 0.45
        self.width = self.end + 2.35

    def draw(self, on: Canvas) -> None:
        frame = FancyBboxPatch(
            (self.tap - 0.6, 0.12),
            self.end - self.tap + 0.6,
            _HEIGHT - 0.2,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor="#fbfbfb",
            edgecolor="#d0d0d0",
            linewidth=0.8,
            zorder=0,
        )
        on.ax.add_patch(frame)
        on.words((self.end - 0.15, _HEIGHT - 0.3), "one of L blocks", colour=QUIET, align="right")
        on.words((self.tap - 0.45, _STREAM - 0.25), "residual stream", colour=QUIET, align="left")
        on.path([(0.0, _STREAM), (self.end + 1.25, _STREAM)], thick=True)
        self._attention(on)
        self._mlp(on)
        self._final(on)

    # -----------------------------------------------------------------------------------------------

    def _attention(self, on: Canvas) -> None:
        """The attention branch: norms, the rows of Q, K and V, softmax, output projection, gain and sum."""
        block = self.block
        on.path([(self.tap, _STREAM), (self.tap, _Q), (self.project, _Q)])
        for row in (_K, _V):
            on.path([(self.tap, row), (self.project, row)])
        if self.split:
            x = self.tap + 0.95
            self._norm(on, (x, (_Q + _K) / 2), 1.15, "Pre-QK", block.pre_qk)
            self._norm(on, (x, _V), 0.5, "Pre-V", block.pre_v)
        elif block.post_norm == "none":
            self._norm(on, (self.tap, _LOW), 0.5, "Pre-Norm", block.pre_qk)
        for row, name in ((_Q, "$W_Q$"), (_K, "$W_K$"), (_V, "$W_V$")):
            on.box((self.project, row), 0.6, 0.45, name, "linear")
            on.path([(self.project + 0.3, row), (self.softmax - (0.62 if row != _V else 0.3), row)])
        if self.positions or block.post_qk != "none":
            for row in (_Q, _K):
                self._norm(on, (self.project + 1.05, row), 0.5, "Post-QK", block.post_qk)
        middle = (_Q + _K) / 2
        on.box((self.softmax, middle), 1.25, 1.15, "", "function")
        on.words((self.softmax, middle + 0.3), "clipped softmax" if block.softmax_gamma else "softmax")
        logits = r"$q\,k^\top / \sqrt{d_h}$"
        if block.tanh_cap is None:
            on.words((self.softmax, middle - 0.15), logits)
        else:
            on.words((self.softmax, middle), f"{block.tanh_cap:g} tanh(z / {block.tanh_cap:g})")
            on.words((self.softmax, middle - 0.32), f"z = {logits}", scale=0.9)
        on.words((self.out + 0.3, _Q), "attention", bold=True)
        if block.post_qk == "none" and block.tanh_cap is None and not self.positions:
            on.words((self.softmax, _Q + 0.38), "entropy not regulated", colour=QUIET, scale=0.9)
        on.path([(self.softmax, _K - 0.22), (self.softmax, _V + 0.3)])
        mixed = f"{block.attn_alpha:g} I + {block.attn_beta:g} A" if block.attn_alpha else "A"
        on.words((self.softmax + 0.1, (_K + _V) / 2 - 0.05), mixed, align="left")
        on.circle((self.softmax, _V), "A V", 0.27, "function")
        if block.gate is not None:
            on.words((self.softmax, _V - 0.42), r"$\times\ \sigma(w_h^\top x_h + b_h)$ gate", scale=0.9)
        on.box((self.out, _V), 0.6, 0.45, "$W_P$", "linear")
        on.path([(self.softmax + 0.27, _V), (self.out - 0.3, _V)])
        on.path([(self.out + 0.3, _V), (self.sum, _V), (self.sum, _STREAM + 0.17)])
        self._gain(on, self.sum, "attn_gain", "attn")
        self._add(on, self.sum)

    def _mlp(self, on: Canvas) -> None:
        """The MLP branch: norm, input scale, both matrices with the activation between them, gain and sum."""
        block = self.block
        x = self.mlp
        on.path([(x, _STREAM), (x, _V), (self.mlp_sum, _V), (self.mlp_sum, _STREAM + 0.17)])
        if self.positions or block.post_norm == "none":
            self._norm(on, (x, _LOW), 0.5, "Pre-MLP", block.pre_mlp)
        given = "mlp_input_scale" in block.model_fields_set
        if not self.positions and not (given and block.mlp_input_scale == 1.0):
            scale = f" = {block.mlp_input_scale:g}" if isinstance(block.mlp_input_scale, float) and given else ""
            on.circle((x + 0.6, _V), "× α", 0.22, "plain" if given else "optional")
            on.words((x + 0.6, _V + 0.4), f"input scale α{scale}", colour=QUIET, scale=0.9)
        on.box((x + 1.4, _V), 0.6, 0.45, "$W_1$", "linear")
        on.circle((x + 2.2, _V), "φ", 0.22, "function")
        on.box((x + 3.0, _V), 0.6, 0.45, "$W_2$", "linear")
        on.words((x + 2.2, _V + 0.75), "MLP", bold=True)
        self._gain(on, self.mlp_sum, "mlp_gain", "mlp")
        self._add(on, self.mlp_sum)

    def _final(self, on: Canvas) -> None:
        """The norm between the last block and the unembedding, and the unembedding."""
        x = self.end + 0.65
        if "final_norm" not in self.block.model_fields_set:
            if not self.positions and _removes(self.block):
                on.box((x, _STREAM), 0.9, 0.5, "final norm\nremoved", "removed")
            elif not self.positions and self.block.post_norm == "none":
                on.box((x, _STREAM), 0.85, 0.5, "final\nnorm", "optional")
        elif self.block.final_norm != "none":
            self._norm(on, (x, _STREAM), 0.5, "final", self.block.final_norm)
        on.box((self.end + 1.72, _STREAM), 0.95, 0.45, "unembed", "linear")

    # -----------------------------------------------------------------------------------------------

    def _norm(self, on: Canvas, centre: tuple[float, float], height: float, name: str, kind: str) -> None:
        """A norm of some kind. Where the block has none, the box says that it is removed or, with positions, free."""
        look: Look = "norm" if kind != "none" else "plain" if self.positions else "removed"
        kind = value_label(kind) if kind != "none" else "norm" if self.positions else "removed"
        on.box(centre, 0.9, height, f"{name}\n{kind}", look)

    def _gain(self, on: Canvas, x: float, field: str, branch: str) -> None:
        """The gain "× β" above the sum. It is left out where it is fixed at 1, and where only norms are shown."""
        value = getattr(self.block, field)
        given = field in self.block.model_fields_set
        fixed = self.block.gains == "fixed"
        if self.positions or (given and fixed and value == 1.0):
            return
        on.circle((x, _LOW), "× β", 0.22, "plain" if given else "optional")
        trained = "fixed" if fixed else f"trained {self.block.gains}"
        symbol = rf"$\beta_\mathrm{{{branch}}}$"
        on.words((x - 0.3, _LOW), f"{symbol} = {value:g}\n{trained}" if given else symbol, align="right", colour=QUIET)

    def _add(self, on: Canvas, x: float) -> None:
        """The sum that joins a branch to the residual stream, with the norm after it in a Post-Norm block."""
        on.circle((x, _STREAM), "+", 0.17)
        if self.block.post_norm != "none":
            self._norm(on, (x + 0.8, _STREAM), 0.5, "Post-Norm", self.block.post_norm)
