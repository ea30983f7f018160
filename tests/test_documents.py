"""What the documents say of commands, files and variables is so."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml

from reproduce.claims.ruling import Ruling
from reproduce.cli.app import app
from reproduce.report.cost import machines, measured_cost
from reproduce.specs.schema import SCALES
from reproduce.store.reference import read_index, reference_root
from reproduce.store.runs import RunFolder

CLONE = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "REPRODUCING.md", "CONTRIBUTING.md", "CHANGELOG.md")
README = (CLONE / "README.md").read_text(encoding="utf-8")
DOCS = {page.stem: page.read_text(encoding="utf-8") for page in (CLONE / "docs").glob("*.md")}
NOT_OURS = ("http://", "https://", "#")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    text = (CLONE / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        assert target.startswith(NOT_OURS) or (CLONE / target).exists(), target
    headings = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)", text, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_the_numbers_of_the_readme_are_those_of_the_traces_behind_its_picture() -> None:
    assert "](figures/laptop/fig4.png)" in README
    shipped = read_index("laptop", reference_root()).values()
    folders = {one["name"]: RunFolder(reference_root() / "laptop" / "traces" / one["folder"]) for one in shipped}
    said = " ".join(README.split())
    made = []
    for name in ("lg1.2b-preln", "lg1.2b-op"):
        trace = folders[name].read_trace()
        values = {(split, metric): rows for (split, metric), rows in trace.groupby(["split", "metric"])["value"]}
        assert f"at {values['probe', 'kurtosis'].max():.1f}" in said
        assert f"{values['eval', 'loss'].iloc[-1]:.2f}" in said
        made.append(folders[name].provenance())
    assert f"took {measured_cost(made)} on an {machines(made)}" in said
    assert f'title="{measured_cost(made)} on an {made[0]["device"]}"' in DOCS["index"]
    record = json.loads((reference_root() / "laptop" / "fig4.json").read_text())["verdicts"]
    counts = [
        sum(one["verdict"] == name for one in record) for name in ("reproduced", "direction only", "not reproduced")
    ]
    assert counts == [6, 1, 1], "the README tells these in words"
    demo = [*made, folders["lg1.2b-preln-beta0.1"].provenance()]
    assert f"Figures 4 and 5, trained anew: {measured_cost(demo)} on that machine" in said


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_exist(name: str) -> None:
    makefile = (CLONE / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    said = re.findall(r"(?:^ {4}|`)make ([a-z0-9-]+)", (CLONE / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert set(said) <= targets


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_and_their_options_exist(name: str) -> None:
    commands = typer.main.get_group(app).commands
    for line in re.findall(r"(?:^ {4}|`)ofe ([^`#\n]+)", (CLONE / name).read_text(encoding="utf-8"), re.MULTILINE):
        name, *words = line.split()
        command: Any = commands[name]
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("name", ["docs/own.md", "CONTRIBUTING.md"])
def test_places_exist(name: str) -> None:
    said = re.findall(r"`((?:reproduce|tests|experiments)/[\w/.]*)`", (CLONE / name).read_text(encoding="utf-8"))
    assert said
    made_by_an_installer = {"reproduce/_shared/figures/"}
    for place in set(said) - made_by_an_installer:
        assert (CLONE / place).exists(), place


def test_the_docs_name_every_variable_that_is_read() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (CLONE / "reproduce").rglob("*.py"))
    read = set(re.findall(r"OFE_[A-Z_]+", sources))
    assert set(re.findall(r"^\| `(OFE_[A-Z_]+)` \|", DOCS["reliability"], re.MULTILINE)) == read


def test_the_docs_name_every_scale_and_verdict() -> None:
    for words, page in ((SCALES, "scales"), (get_args(Ruling), "verdicts")):
        for word in words:
            assert f"\n| `{word}` |" in DOCS[page]


def test_the_readme_is_a_screen_and_a_half() -> None:
    before_citation = README.partition("## Citing")[0]
    assert len(before_citation.splitlines()) <= 90


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((CLONE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert yaml.safe_load((CLONE / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    assert f"\n## {version} " in (CLONE / "CHANGELOG.md").read_text(encoding="utf-8")
