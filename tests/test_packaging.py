"""What is installed from a wheel works without the clone it was built from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools import find_packages

CLONE = Path(__file__).parents[1]
PROJECT = tomllib.loads((CLONE / "pyproject.toml").read_text(encoding="utf-8"))
LOCKED = {
    canonicalize_name(name): version
    for name, _, version in (line.partition("==") for line in (CLONE / "constraints.txt").read_text().splitlines())
    if version
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of this clone, unpacked as an installer would."""
    tmp = tmp_path_factory.mktemp("wheel")
    for name in ("reproduce", "experiments", "figures"):
        shutil.copytree(CLONE / name, tmp / "clone" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CLONE / name, tmp / "clone")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp)]
    subprocess.run([*command, str(tmp / "clone")], check=True, capture_output=True, stdin=subprocess.DEVNULL)
    (wheel,) = tmp.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp / "site")
    shutil.rmtree(tmp / "clone")
    return tmp / "site"


def run(site: Path, *arguments: str) -> str:
    """Standard output of Python with the unpacked wheel, away from the clone and whatever points at it."""
    home = os.environ["OFE_HOME"]
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(
        command, check=True, text=True, stdout=subprocess.PIPE, cwd=Path(home).parent, env=environment
    ).stdout


def test_every_package_is_listed() -> None:
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert [name for name in listed if "_shared" not in name] == sorted(
        find_packages(str(CLONE), include=["reproduce*"])
    )


def test_the_wheel_carries_specs_and_reference_traces(installed: Path) -> None:
    for folder, pattern in (("experiments", "**/*.yaml"), ("figures", "*/traces/**/*.*")):
        here = {path.relative_to(CLONE / folder) for path in (CLONE / folder).glob(pattern)}
        shared = installed / "reproduce/_shared" / folder
        assert {path.relative_to(shared) for path in shared.glob(pattern)} == here
    assert not (installed / "tests").exists()


def test_the_wheel_carries_the_parts_of_the_report(installed: Path) -> None:
    def parts(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    shipped = parts(installed / "reproduce/report/page")
    assert shipped == parts(CLONE / "reproduce/report/page")
    assert "uplot/LICENSE" in shipped


def test_the_installed_package_finds_its_specs(installed: Path) -> None:
    code = "import reproduce, reproduce.specs.load as load; print(reproduce.__file__, len(load.list_experiments()))"
    where, count = run(installed, "-c", code).split()
    assert Path(where).is_relative_to(installed)
    assert int(count) == len(list((CLONE / "experiments").glob("*.yaml")))


def test_the_installed_command_lists_every_figure(installed: Path) -> None:
    listed = json.loads(run(installed, "-m", "reproduce", "list", "--json"))
    assert {entry["id"] for entry in listed} == {path.stem for path in (CLONE / "experiments").glob("*.yaml")}


def test_what_the_project_needs_is_locked() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    needed = [*PROJECT["project"]["dependencies"], *extras["test"], *extras["lint"], *extras["mutants"]]
    for requirement in map(Requirement, needed):
        assert requirement.specifier.contains(LOCKED[canonicalize_name(requirement.name)]), requirement


def test_no_locked_version_is_of_one_machine() -> None:
    assert all("+" not in version and "/" not in version for version in LOCKED.values())
