"""What stops a library on the way to the hub is told in words, with the variables that decide the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reproduce.data.hub import reaching, without_patterns
from reproduce.errors import OfeError


@pytest.mark.parametrize(
    "error",
    [
        ImportError("Using SOCKS proxy, but the 'socksio' package is not installed. Make sure to install it."),
        ValueError("unknown scheme for proxy URL"),
        RuntimeError("Could not determine home directory."),
    ],
)
def test_an_error_of_the_way_to_the_hub_names_its_variables(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@127.0.0.1:1")
    with pytest.raises(OfeError) as caught, reaching("a/b", "a copy", offline=False):
        raise error
    assert caught.value.message == f"the Hugging Face hub cannot be asked for a/b: {error}"
    assert "ALL_PROXY" in str(caught.value.hint)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"


def test_a_network_that_is_down_is_told_with_the_proxy_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    with pytest.raises(OfeError, match="cannot be reached") as caught, reaching("a/b", "a copy", offline=False):
        raise ConnectionError("refused")
    assert "HTTPS_PROXY" in str(caught.value.hint)


def test_plain_names_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a b{c}~%20#").mkdir()
    assert without_patterns(tmp_path / "a b{c}~%20#") == tmp_path / "a b{c}~%20#"


def test_names_that_mean_something_get_plain_links(tmp_path: Path) -> None:
    odd = tmp_path / "x[1]"
    (odd / "sub").mkdir(parents=True)
    for name in ("a::b.jsonl", "a_b.jsonl", "sub/c*.jsonl", os.fsdecode(b"caf\xe9.jsonl")):
        (odd / name).write_text(name, encoding="utf-8", errors="surrogateescape")
    links = without_patterns(odd)
    assert links.name == "x_1_"
    found = sorted(path.read_text(encoding="utf-8", errors="surrogateescape") for path in links.rglob("*.jsonl"))
    assert found == sorted(["a::b.jsonl", "a_b.jsonl", "sub/c*.jsonl", os.fsdecode(b"caf\xe9.jsonl")])
    assert not any(set("*?[]").intersection(path.name) or "::" in path.name for path in links.rglob("*"))
