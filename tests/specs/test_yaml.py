from __future__ import annotations

import math
from typing import Any

import pytest

from reproduce.errors import SpecError
from reproduce.specs.yaml import dotted, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E+2", 100.0),
        ("-1.5e-7", -1.5e-7),
        (".5", 0.5),
        ("4.", 4.0),
        ("12", 12),
        ("+3", 3),
        ("-0", 0),
        ("012", 12),
        ("0x1F", 31),
        ("0o17", 15),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-05-29", "2024-05-29"),
        ("'1e-3'", "1e-3"),
        ("!!str 12", "12"),
        ("e3", "e3"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    data = parse(f"x: {text}").data
    assert data == {"x": value}
    assert type(data["x"]) is type(value)


def test_not_a_number_is_one() -> None:
    assert math.isnan(parse("x: .nan").data["x"])


def test_keys_are_strings_whatever_they_look_like() -> None:
    assert parse("1: a\non: b\n~: c").data == {"1": "a", "on": "b", "~": "c"}


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join(10 * [f'*a{level - 1}'])}]\n" for level in range(1, 9)
)


def test_a_short_text_of_very_many_values_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^<text>:5:\d+: more than 100,000 values$"):
        parse(BOMB)
    assert len(parse("".join(BOMB.splitlines(keepends=True)[:4])).data["a3"]) == 10


@pytest.mark.parametrize("escape", ["\\e[31m", "\\0", "\\r", "\\x7f", "\\x9b"])
def test_what_a_terminal_would_obey_is_refused(escape: str) -> None:
    with pytest.raises(SpecError, match=r"^<text>:1:4: x: a control character"):
        parse(f'x: "{escape}"')
    assert parse('x: "a\\n\\tb"').data == {"x": "a\n\tb"}


def test_anchors_repeat_a_value_without_sharing_it() -> None:
    data = parse("a: &it {x: [1]}\nb: *it").data
    assert data == {"a": {"x": [1]}, "b": {"x": [1]}}
    assert data["a"]["x"] is not data["b"]["x"]


def test_positions_of_keys_and_values() -> None:
    document = parse("a: 1\nruns:\n  - {name: x, steps:   5}\n  - name: é\n    at: *b\n".replace("*b", "{smoke: {}}"))
    assert document.position(()) == (1, 1)
    assert document.position(("a",)) == (1, 4)
    assert document.position(("a",), key=True) == (1, 1)
    assert document.position(("runs", 0, "steps")) == (3, 24)
    assert document.position(("runs", 0, "steps"), key=True) == (3, 15)
    assert document.position(("runs", 1)) == (4, 5)
    assert document.position(("runs", 1, "at", "smoke")) == (5, 17)


def test_position_of_what_is_missing_is_that_of_what_it_would_be_in() -> None:
    document = parse("a: 1\nb:\n  c: {d: 1}\n")
    assert document.position(("b", "c", "nothing", "more")) == (3, 6)
    assert document.position(("b", 7)) == (3, 3)
    assert parse("").position(("x",)) == (1, 1)


def test_message_names_file_position_and_field() -> None:
    assert parse("a: [1, 2]", "f.yaml").message(("a", 1), "too big") == "f.yaml:1:8: a[1]: too big"
    assert parse("", "f.yaml").message((), "expected a mapping") == "f.yaml:1:1: expected a mapping"


def test_dotted() -> None:
    assert dotted(("runs", 2, "model", "width")) == "runs[2].model.width"
    assert dotted(()) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {lr: 1, lr: 2}", "f.yaml:2:12: b.lr: key given twice"),
        ("a: 1\n1: x\n'1': y", "f.yaml:3:1: 1: key given twice"),
        ("a: !foo x", "f.yaml:1:4: a: tag !foo is not supported"),
        ("a: !!python/name:os.system x", "f.yaml:1:4: a: tag !!python/name:os.system is not supported"),
        ("a: [!!int x]", "f.yaml:1:5: a[0]: 'x' is not a 64-bit number"),
        ("a: 9223372036854775808", "f.yaml:1:4: a: '9223372036854775808' is not a 64-bit number"),
        ("? [1]\n: 2", "f.yaml:1:3: a key must be a plain word"),
        ("a: &it [*it]", "f.yaml:1:1: nested too deeply, or an anchor contains itself"),
        ("a: *it", "f.yaml:1:4: found undefined alias"),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: expected a single document in the stream, but found another document"),
        ("a: 1\nb: \x01", "f.yaml:2:4: a character that YAML does not allow (control characters are not allowed)"),
    ],
)
def test_errors_name_the_place(text: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text, "f.yaml")
    assert caught.value.message == message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text", ["a: [1", "\ta: 1", "a: b: c", "a: 'open", "x: " + "[" * 5000, "[" * 300_000, "- " * 300_000]
)
def test_broken_yaml_is_an_error_with_a_position(text: str) -> None:
    with pytest.raises(SpecError, match=r"^f\.yaml:\d+:\d+: "):
        parse(text, "f.yaml")
