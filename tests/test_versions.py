from __future__ import annotations

from importlib.metadata import version

from reproduce.versions import installed_version


def test_a_package_without_metadata_has_no_version_and_is_no_error() -> None:
    """A clone that is found by PYTHONPATH alone is not installed: its first run on a GPU failed when it was sealed."""
    assert installed_version("torch") == version("torch")
    assert installed_version("no-such-package-anywhere") == "not installed"
