"""The commands in docs/: short ones are carried out in order, long ones are read by the parser.

A block of `sh` is carried out, line by line, in one folder a page with an empty home. A block with a title, which says
how long it takes or what it needs, is only parsed.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner

from reproduce.cli.app import app
from reproduce.config import TransformerConfig
from reproduce.models.transformer import Transformer

CLONE = Path(__file__).parents[1]
PAGES = sorted((CLONE / "docs").glob("*.md"))
_BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One block of code."""

    language: str
    title: str
    lines: list[str]


def blocks(page: Path) -> list[Block]:
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(language, title, text.splitlines()) for language, title, text in found]


def command(line: str) -> list[str]:
    return shlex.split(line, comments=True)


def test_every_page_is_in_the_navigation_and_links_lead_somewhere() -> None:
    nav = yaml.safe_load((CLONE / "mkdocs.yml").read_text())["nav"]
    assert sorted(name for entry in nav for name in entry.values()) == [page.name for page in PAGES]
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).is_file(), (page.name, target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_is_understood(page: Path) -> None:
    group = typer.main.get_group(app)
    for block in blocks(page):
        assert block.language in ("sh", "yaml", "python"), block
        for line in block.lines:
            words = command(line) if block.language == "sh" else []
            words = words[: words.index("||")] if "||" in words else words
            words = words[: words.index(">")] if ">" in words else words
            if words[:1] != ["ofe"]:
                continue
            one: Any = group
            arguments = words[1:]
            while hasattr(one, "commands"):
                one = one.commands[arguments.pop(0)]
            one.make_context("ofe", arguments, resilient_parsing=False)


def _short(page: Path) -> list[str]:
    return [line for block in blocks(page) if block.language == "sh" and not block.title for line in block.lines]


def _carry_out(line: str) -> tuple[int, str]:
    """The exit code of a line and what it says on stderr. Commands of ofe run in this process, for speed."""
    words = command(line)
    if words[0] != "ofe":
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
        return done.returncode, done.stderr
    may_fail = words[-2:] == ["||", "true"]
    words = words[1:-2] if may_fail else words[1:]
    words, file = (words[:-2], Path(words[-1])) if ">" in words else (words, None)
    result = CliRunner().invoke(app, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if file is not None:
        file.write_text(result.stdout)
    return 0 if may_fail else result.exit_code, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if _short(page)], ids=lambda page: page.stem)
def test_short_commands_do_what_they_say(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-texts").mkdir()
    (tmp_path / "my-texts" / "a.txt").write_text("some words of mine\n" * 500)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OFE_DEVICE", "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for line in _short(page):
        code, told = _carry_out(line)
        assert code == 0, (line, told)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.stem
)
def test_examples_in_python_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small model, and stand-ins for what belongs to the reader's own training."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = TransformerConfig(layers=2, width=32, heads=2)
    logged: list[Any] = []
    given = {
        "model": Transformer(config, 300, 16),
        "batch": torch.randint(300, (2, 16)),
        "wandb": SimpleNamespace(log=logged.append),
        "trainer": SimpleNamespace(log=logged.append, add_callback=logged.append),
    }
    for block in blocks(page):
        if block.language == "python":
            exec("\n".join(block.lines), given)
    assert logged, "the examples show where values go"


def test_specs_in_the_docs_are_valid_yaml() -> None:
    for page in PAGES:
        for block in blocks(page):
            if block.language == "yaml":
                assert isinstance(yaml.safe_load("\n".join(block.lines)), dict)
