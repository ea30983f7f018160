"""Figures, tables and drawings from sealed traces.

    render(resolved, loaded, verdicts, out_dir)     the files of one experiment
    FORMATS                                         image formats it can write

Matplotlib is imported when something is rendered, and used without pyplot: no global state, no display.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reproduce.plots.export import FORMATS
    from reproduce.plots.rendering import render

__all__ = ["FORMATS", "render"]

_HOMES = {"FORMATS": "export", "render": "rendering"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
