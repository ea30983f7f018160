"""Broken specs, overrides and caches: one clear message, never a traceback, never a write outside the cache."""

from __future__ import annotations

import contextlib
import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from reproduce.cli.app import app
from reproduce.errors import OfeError
from reproduce.specs.load import load_experiment
from reproduce.specs.overrides import parse_overrides
from reproduce.specs.resolve import resolve
from reproduce.store.home import shared_folder
from tests.drills.amount import often

SPEC = (shared_folder("experiments") / "fig5.yaml").read_text(encoding="utf-8")
FUZZ = settings(
    max_examples=often(100),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
WORDS = st.sampled_from(
    [*"{}[]:,#&*!|>%@`'\"-? \n\t", "null", "true", "1e999", "-1", "0x", "<<", "&a", "*a", "!!python/object:os.system",
     "runs", "plot", "claims", "id", "setting", "../../x", "/etc/passwd", "é", "\u2028", "\x00", "99999999999999999999"]
)  # fmt: skip


@st.composite
def broken_specs(draw: st.DrawFn) -> str:
    """A real spec of which a few pieces were removed, doubled, replaced or added."""
    text = SPEC
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 60)))
        kind = draw(st.sampled_from(["remove", "double", "replace", "line"]))
        if kind == "line":
            lines = text.splitlines(keepends=True)
            del lines[draw(st.integers(0, max(0, len(lines) - 1))) :][:1]
            text = "".join(lines)
        else:
            piece = {"remove": "", "double": 2 * text[start:stop], "replace": draw(WORDS)}[kind]
            text = text[:start] + piece + text[stop:]
    return text


@pytest.mark.slow
@FUZZ
@given(text=broken_specs())
def test_a_broken_spec_is_told_in_words(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(OfeError):
        resolve(load_experiment(str(path)), "smoke", fingerprint=lambda data: "0" * 16)
    assert [one.name for one in tmp_path.iterdir()] == ["mine.yaml"]


@FUZZ
@given(key=st.one_of(st.text(max_size=20), st.sampled_from(["optimizer.lr", "data.path", "lr", "model", "steps"])),
       value=st.one_of(st.text(max_size=30), WORDS))  # fmt: skip
def test_a_broken_override_is_told_in_words(key: str, value: str) -> None:
    with contextlib.suppress(OfeError):
        parse_overrides([f"{key}={value}"])


COMMANDS = (("status",), ("list", "--scale", "smoke"), ("cache", "list"), ("cache", "verify"), ("doctor",),
            ("plan", "fig5", "--scale", "smoke"), ("cache", "prune", "--yes"),
            ("verify", "fig5", "--scale", "smoke"))  # fmt: skip
FILES = ("run.yaml", "progress.json", "keep.json", "weights.json", "SHA256SUMS", "provenance.json", "trace.parquet",
         "moments.parquet", "checkpoint.pt", "trace.jsonl", "heartbeat", "submitted.json", "lock")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(often(6)))
def test_a_broken_cache_stops_no_command_with_a_traceback(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run folders whose files are missing, cut, pipes, folders, links to nothing or to devices, or full of noise."""
    chance = random.Random(seed)
    home = tmp_path / "home"
    texts = [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"steps": "x"}',
        '{"step": [], "steps": {}}',
        "\x00\x01",
        "key: x\n",
        "a  b\n",
    ]
    texts += [json.dumps({"state": "failed", "error": 3, "step": None, "steps": None, "host": [], "pid": {}})]
    for number in range(12):
        name = chance.choice(["run-0123456789abcdef", "-", "a-b", "lg1.2b-op-smoke-s0-fa90eb442d74ec7e", "é é-x"])
        folder = home / "runs" / f"{number}{name}"
        folder.mkdir(parents=True)
        for file in chance.sample(FILES, chance.randrange(len(FILES))):
            kind = chance.randrange(7)
            if kind == 0:
                (folder / file).mkdir()
            elif kind == 1:
                (folder / file).symlink_to(chance.choice(["/nonexistent", file, "/etc", "/dev/null", "/dev/zero"]))
            elif kind == 2:
                os.mkfifo(folder / file)
            else:
                (folder / file).write_text(chance.choice(texts))
    (home / "runs" / "file-0123456789abcdef").write_text("no folder")
    outside = {path for path in tmp_path.rglob("*") if home not in path.parents and path != home}
    for command in COMMANDS:
        result = CliRunner().invoke(app, list(command), env={"OFE_HOME": str(home), "OFE_DEVICE": "cpu"})
        assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exception)
    assert {path for path in tmp_path.rglob("*") if home not in path.parents and path != home} == outside
