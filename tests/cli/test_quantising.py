"""quantise: what it costs to quantise a run, in a table, as JSON and as a picture."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from reproduce.quantise.rows import ROWS

Ofe = Callable[..., Result]
Reproduced = tuple[Path, subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def own(reproduced: Reproduced, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the home in which the figure has been reproduced."""
    return Path(shutil.copytree(reproduced[0], tmp_path_factory.mktemp("copy") / "own"))


def test_a_run_is_quantised_and_kept_like_other_runs(ofe: Ofe, own: Path, tmp_path: Path) -> None:
    command = ("quantise", "toy-ln-laptop-s0", "--rows", "token,tensor,keys-64", "--seeds", "2", "--tensors", "2")
    first = ofe(*command, "--json", "--plot", str(tmp_path / "rows.png"), home=own)
    assert first.exit_code == 0, first.stderr
    (reading,) = json.loads(first.stdout)
    assert list(reading) == [
        "model", "revision", "step", "key", "tokens", "weights", "activations", "loss", "ppl", "kurtosis", "published",
        "rows", "tensors",
    ]  # fmt: skip
    assert [row["row"] for row in reading["rows"]] == ["tensor", "token", "keys-64"], "in the order of the table"
    assert reading["rows"][0]["ratio"] == reading["rows"][0]["ppl"] / reading["ppl"]
    assert "no multiple of 64" in reading["rows"][2]["refused"]
    (published,) = reading["published"]
    assert (published["bits"], len(published["seeds"])) == (8, 2)
    assert Image.open(tmp_path / "rows.png").width > 500

    again = ofe(*command, home=own)
    assert "running" not in again.stderr, "it is cached"
    assert again.stdout.startswith("toy-ln-laptop-s0: ")
    for said in ("published protocol, W8A8, 2 calibration sets", "per tensor", "per token, weights per output", "SQNR"):
        assert said in again.stdout
    assert "keys of 4.125 bits, blocks of 64: does not apply, its heads have" in again.stderr
    slugs = [row["slug"] for row in json.loads(ofe("status", "--json", home=own).stdout)]
    assert "toy-ln-laptop-s0-quantised-at-20" in slugs
    assert ofe("cache", "verify", home=own).exit_code == 0


def test_unequal_widths_leave_the_published_protocol_out(ofe: Ofe, own: Path) -> None:
    result = ofe("quantise", "toy-ln-laptop-s0", "--activations", "6", "--rows", "tensor", "--json", home=own)
    (reading,) = json.loads(result.stdout)
    assert (reading["weights"], reading["activations"], reading["published"]) == (8, 6, [])


def test_rows_are_listed(ofe: Ofe) -> None:
    result = ofe("quantise", "anything", "--rows", "?")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ROWS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nope",), "no model nope"),
        (("toy-ln-laptop-s0", "--rows", "smothquant"), "there is no row smothquant"),
        (("toy-ln-laptop-s0", "--rows", ","), "names no row"),
        (("toy-ln-laptop-s0", "--step", "21"), "ends at step 20, before step 21"),
        (("toy-ln-laptop-s0", "--dataset", "python-prose"), "is a run, which is quantised on its own text"),
        (("toy-ln-laptop-s0", "--rows", "tensor", "--plot", "x.txt"), "ends in no image format"),
    ],
)
def test_what_cannot_be_quantised_is_bad_usage(ofe: Ofe, own: Path, arguments: tuple[str, ...], says: str) -> None:
    result = ofe("quantise", *arguments, home=own)
    assert result.exit_code == 2
    assert says in result.stderr
    assert "hint:" in result.stderr
