"""What a user chooses by name: the scale of the runs and the formats of the pictures.

The command line, the specs and the plots all read these names. This module imports nothing but the errors, so that
`ofe --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from reproduce.errors import OfeError

Scale = Literal["smoke", "laptop", "workstation", "paper"]
SCALES: tuple[Scale, ...] = get_args(Scale)
"""All scales, from the smallest to the paper's own."""
DEFAULT_SCALE: Scale = "laptop"
"""The scale of a command that names none, and of a figure in REPRODUCING.md that has no reference traces."""

IMAGE_FORMATS = ("png", "svg", "pdf")


def check_image_formats(names: Iterable[str]) -> None:
    """Refuse a format in which no picture can be written.

    Raises:
        OfeError: one of `names` is not in `IMAGE_FORMATS` (exit code 2).
    """
    for name in names:
        if name not in IMAGE_FORMATS:
            hint = f"choose from {', '.join(IMAGE_FORMATS)}"
            raise OfeError(f"unknown figure format {name!r}", hint=hint, exit_code=2)


def image_format(path: Path) -> str:
    """The format of the picture that `path` names by its ending.

    Raises:
        OfeError: it ends in none (exit code 2).
    """
    kind = path.suffix.removeprefix(".").lower()
    if kind not in IMAGE_FORMATS:
        raise OfeError(f"{path} ends in no image format", hint=f"end it in .{' or .'.join(IMAGE_FORMATS)}", exit_code=2)
    return kind
