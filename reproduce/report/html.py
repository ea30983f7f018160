"""The page of `ofe report`: one file that holds all it needs and asks no server for anything.

Every text goes through the template's escaping. The curves are compressed JSON, which takes a quarter of the bytes, in
a script element that browsers do not run. The page's policy forbids requests, so that not even a mistake could make
one.
"""

from __future__ import annotations

import base64
import json
import zlib
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
    recipes = {place: rows for item in items for place, rows in item.recipes.items()}
    return environment.get_template("page.html.j2").render(
        items=abouts,
        charts=packed(charts),
        recipes=recipes,
        titles={place: title for about in abouts for place, title in about["recipes"].items()},
        style=Markup(_asset("uplot/uPlot.min.css") + _asset("page.css")),
        uplot=Markup(_asset("uplot/uPlot.iife.min.js")),
        script=Markup(_asset("page.js")),
        version=installed_version("ofe"),
        scales=list(dict.fromkeys(about["scale"] for about in abouts if about["scale"])),
        settings=list(dict.fromkeys(name for about in abouts for name in about["settings"])),
        charted=set(charts),
    )


def packed(value: Any) -> str:
    """JSON, compressed by zlib, in base64, as the page's script reads it. No letter of it has a meaning in HTML."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _asset(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")
