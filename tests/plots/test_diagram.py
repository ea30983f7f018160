from __future__ import annotations

from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.transforms import Bbox

from reproduce.config import BlockConfig
from reproduce.errors import SpecError
from reproduce.models.variants import VARIANTS
from reproduce.plots.diagram import draw_block, draw_diagram
from reproduce.plots.sheet import Words
from reproduce.plots.theme import theme
from reproduce.specs.schema import DiagramPlot

from .synthetic import case


def drawing(block: str, shows: str = "variant") -> Figure:
    one = case({"kind": "diagram", "block": block, "shows": shows}, [], id="fig3", title="The OP block")
    plot = one.resolved.experiment.plot
    assert isinstance(plot, DiagramPlot)
    with theme():
        return draw_diagram(one.resolved.experiment, plot, one.verdicts)


def block_drawing(**fields: Any) -> Figure:
    with theme():
        return draw_block(BlockConfig.model_validate(fields), Words("t", "s", [], "c"))


def marks(figure: Figure) -> list[str]:
    """What is written inside the drawing, each on one line."""
    return [" ".join(text.get_text().split()) for sub in figure.subfigs for ax in sub.axes for text in ax.texts]


def dashed(figure: Figure) -> int:
    patches = [p for sub in figure.subfigs for p in sub.findobj(FancyBboxPatch) if p.get_linestyle() == "--"]
    return len(patches)


def test_pre_ln_has_its_norms_and_op_has_lost_them() -> None:
    pre, op = marks(drawing("pre-ln")), marks(drawing("op"))
    assert {"Pre-Norm LN", "Pre-MLP LN"} <= set(pre)
    assert not any("removed" in mark for mark in pre)
    assert {"Pre-Norm removed", "Pre-MLP removed"} <= set(op)
    assert op.count("Post-QK RMS") == 2
    assert "entropy not regulated" in pre
    assert "entropy not regulated" not in op


def test_removed_norms_are_dashed_and_explained() -> None:
    assert dashed(drawing("op")) == 3
    assert dashed(drawing("pre-ln")) == 0
    said = " ".join(text.get_text() for text in drawing("op").texts)
    assert "Dashed: the norms of a Pre-Norm block that this one does without." in said
    assert "Dashed" not in " ".join(text.get_text() for text in drawing("pre-ln").texts)


def test_post_ln_moves_its_norms_onto_the_stream() -> None:
    post = marks(drawing("post-ln"))
    assert post.count("Post-Norm LN") == 2
    assert not any("removed" in mark or "Pre-" in mark for mark in post)


def test_every_variant_is_a_drawing_of_its_own() -> None:
    drawn = {block: tuple(sorted(marks(drawing(block)))) for block in VARIANTS}
    assert len(set(drawn.values())) == len(VARIANTS)


def test_all_four_norm_positions_are_named() -> None:
    figure = drawing("op", "norm-positions")
    assert {"Pre-QK norm", "Pre-V norm", "Post-QK RMS", "Pre-MLP norm"} <= set(marks(figure))
    said = " ".join(text.get_text() for text in figure.texts)
    assert "what the block op has (Post-QK (RMS))" in said
    assert not any("β" in mark for mark in marks(figure)), "only norms are shown"


def test_what_settings_choose_stays_a_symbol() -> None:
    op = marks(drawing("op"))
    assert {"× α", "× β", "input scale α", "final norm removed"} <= set(op)
    assert not any("=" in mark for mark in op)


def test_what_the_configuration_gives_is_a_value() -> None:
    op = marks(block_drawing(post_qk="rms", attn_gain=0.3, mlp_gain=0.2, mlp_input_scale=1.804, final_norm="ln"))
    assert [mark for mark in op if mark.endswith("fixed")] == [
        r"$\beta_\mathrm{attn}$ = 0.3 fixed",
        r"$\beta_\mathrm{mlp}$ = 0.2 fixed",
    ]
    assert {"input scale α = 1.804", "final LN"} <= set(op)


@pytest.mark.parametrize("kind", ["scalar", "vector"])
def test_trained_gains_say_their_kind(kind: str) -> None:
    fields = {"attn_gain": 0.1, "mlp_gain": 0.1, "gains": kind}
    assert sum(mark.endswith(f"= 0.1 trained {kind}") for mark in marks(block_drawing(**fields))) == 2


def test_what_is_given_as_nothing_is_not_drawn() -> None:
    plain = marks(
        block_drawing(**VARIANTS["pre-ln"], attn_gain=1.0, mlp_gain=1.0, mlp_input_scale=1.0, final_norm="none")
    )
    assert not any("β" in mark or "α" in mark or "final" in mark for mark in plain)


def test_logit_caps_and_value_skipinit() -> None:
    figure = marks(block_drawing(tanh_cap=30.0, attn_alpha=1.0, attn_beta=0.2))
    assert "30 tanh(z / 30)" in figure
    assert "1 I + 0.2 A" in figure
    assert "entropy not regulated" not in figure


def test_gates_and_clipped_softmax_are_named() -> None:
    figure = marks(block_drawing(gate=0.25, softmax_gamma=-0.1))
    assert "clipped softmax" in figure
    assert any(mark.endswith("gate") for mark in figure)


def test_pre_qk_and_pre_v_stand_apart_where_they_differ() -> None:
    figure = marks(block_drawing(pre_qk="none", pre_v="rms", post_qk="rms"))
    assert {"Pre-QK removed", "Pre-V RMS", "Pre-MLP removed"} <= set(figure)
    assert not any(mark.startswith("Pre-Norm") for mark in figure)


def test_an_unknown_block_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SpecError, match="fig3: no block op2") as caught:
        drawing("op2")
    assert "pre-ln" in (caught.value.hint or "")


@pytest.mark.parametrize("block", sorted(VARIANTS))
@pytest.mark.parametrize("shows", ["variant", "norm-positions"])
def test_no_words_overlap(block: str, shows: str) -> None:
    figure = drawing(block, shows)
    with theme():
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
        [ax] = [ax for sub in figure.subfigs for ax in sub.axes]
        boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in ax.texts if text.get_text()]
    for i, (one, a) in enumerate(boxes):
        shrunk = Bbox.from_extents(a.x0 + 1, a.y0 + 2, a.x1 - 1, a.y1 - 2)
        assert not [other for other, b in boxes[i + 1 :] if shrunk.overlaps(b)], one
