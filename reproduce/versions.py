"""Versions of installed packages, as records of what a number was computed with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

NOT_INSTALLED = "not installed"
"""What a record holds for a package that was found without being installed, such as a clone on PYTHONPATH."""


def installed_version(package: str) -> str:
    """The version of `package` by its installed metadata, or `NOT_INSTALLED`."""
    try:
        return version(package)
    except PackageNotFoundError:
        return NOT_INSTALLED
