"""The shipped file says how many other runs satisfy each claim, and is that of the present specs and traces."""

from __future__ import annotations

from pathlib import Path

import pytest

from reproduce.errors import OfeError
from reproduce.report.discrimination import FILE, share_words, shares, shipped_shares
from reproduce.specs.load import list_experiments
from reproduce.store.reference import reference_root


def test_the_shipped_file_is_that_of_the_present_specs_and_traces() -> None:
    """One setting of many: `make figures` writes the file for all of them."""
    now = shares("laptop", reference_root(), ["languini-1.2b"])
    shipped = shipped_shares("laptop")
    assert now.keys() >= {"fig4", "fig5", "fig6", "fig12", "fig24"}
    assert {figure: shipped[figure] for figure in now} == now, "run `make figures`"


def test_the_shipped_file_knows_every_figure_and_no_claim_that_is_gone() -> None:
    claims = {one.id: {claim.id for claim in one.claims} for one in list_experiments()}
    for figure, of_figure in shipped_shares("laptop").items():
        assert of_figure.keys() <= claims[figure], f"{figure}: run `make figures`"


def test_where_nothing_ships_there_are_no_shares_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert shipped_shares("laptop", tmp_path) == {}
    (tmp_path / "laptop").mkdir()
    (tmp_path / "laptop" / FILE).write_text("{")
    with pytest.raises(OfeError, match=r"discrimination\.json"):
        shipped_shares("laptop", tmp_path)


def test_a_share_is_shown_where_there_is_another_run() -> None:
    assert (share_words([5, 45]), share_words([0, 0]), share_words(None)) == ("5 of 45", "", "")
