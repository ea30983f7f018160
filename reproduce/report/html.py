"""The page of `ofe report`: one file that holds all it needs and asks no server for anything.

Every text goes through the template's escaping. The curves are JSON in a script element that browsers do not run, with
the characters escaped that could end it. The page's policy forbids requests, so that not even a mistake could make one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from reproduce.report.items import Item
from reproduce.versions import installed_version

PAGE = Path(__file__).parent / "page"
"""The template, style and script of the page, and uPlot, which draws the curves (MIT licence, `page/uplot/LICENSE`)."""


def page(items: Sequence[Item]) -> str:
    """The text of the page."""
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    charts = {item.about["anchor"]: item.charts for item in items if item.charts}
    abouts = [item.about for item in items]
    return environment.get_template("page.html.j2").render(
        items=abouts,
        charts=script_json(charts),
        style=Markup(_asset("uplot/uPlot.min.css") + _asset("page.css")),
        uplot=Markup(_asset("uplot/uPlot.iife.min.js")),
        script=Markup(_asset("page.js")),
        version=installed_version("ofe"),
        scales=list(dict.fromkeys(about["scale"] for about in abouts if about["scale"])),
        settings=list(dict.fromkeys(name for about in abouts for name in about["settings"])),
        charted=set(charts),
    )


def script_json(value: Any) -> Markup:
    """JSON that may stand in a script element whatever texts it holds: no `<`, `>` or `&` is left in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _asset(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")
