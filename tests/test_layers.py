"""The order of the house: no module imports one that comes later, and rooms that only read and plan do without torch.

`ORDER` is the order that CONTRIBUTING.md speaks of. It holds for every import, wherever it stands:

    at the top of a module    what is imported is needed as soon as the module is;
    inside a function         putting the import off only saves time, it makes nothing independent;
    under TYPE_CHECKING       whoever knows a type depends on the module that defines it.

That a room does without torch is asked of imports at the top alone: a function may load it when it is called.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

CLONE = Path(__file__).parents[1]

ORDER = """
errors
units choices versions      how amounts are written, and the names that a user chooses from
environment         variables that a user may set
machine             what this computer has
config job_config optim.records quantise.rows      what a run is, and the optimisers and quantisations that it may name
cadence             at which of its steps a run is measured
processes           how processes are started and stopped
metrics.table       what each metric is called and what it is of
keys                the hash of what a run is
store.json_text store.regular store.home store.atomic store.layout store.lock    how files are read and written, where
metrics             the table of metrics, and each as a function of tensors
models
optim
parallel            one run on several devices
data
checkpoints.anchors    two real checkpoints in packages of the Python index
specs               from YAML to runs
store               run folders, traces, and the frame that they are read into
checkpoints.files checkpoints.identity      which checkpoint a user means, and what the cache knows it by
checkpoints.structure checkpoints.points checkpoints.fused    the blocks of any module, and places in them
measuring           the metrics of a model
quantise            numbers on grids, and how much a model loses by them
hooks               outlier features in a module of a user's own
plan                what runs cost on this machine
training
checkpoints         a model from wherever it lies
jobs                a run in a process of its own, and many of them
bench               how fast trainings are on this machine
claims
plots
report
cli
__main__
"""
"""One room a line, the earliest first: the names of its packages or modules, then what it is. Within a room everything
may import everything. A module that a line names belongs there and not to the room of its package."""

WITHOUT_TORCH = ("specs", "store", "plan", "claims", "plots", "report")


class Import(NamedTuple):
    module: str
    """Where the import stands, without the package's own name."""
    line: int
    imported: str
    """What is imported: `store.runs` of the package, `torch.nn` of others."""
    top: bool
    """Whether it is carried out as soon as the module is imported."""
    ours: bool
    """Whether it is of this package."""


def rooms(order: str) -> dict[str, int]:
    """The place of each name in `order`."""
    lines = [line for line in order.splitlines() if line]
    named = [line.partition("  ")[0].split() for line in lines]
    return {name: place for place, names in enumerate(named) for name in names}


def place_of(module: str, order: dict[str, int]) -> int | None:
    """The place of the room that `module` belongs to, by the longest name that it starts with."""
    parts = module.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((order[name] for name in names if name in order), None)


def modules(package: Path) -> dict[str, Path]:
    """Every module of `package` by its dotted name within it; the package itself is left out."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def imports(package: Path) -> Iterator[Import]:
    """Every import that stands anywhere in `package`."""
    known = modules(package)
    for module, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        put_off = _put_off(tree)
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: imports name their module in full"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                own = name.removeprefix(f"{package.name}.")
                if own != name and own not in known:  # a name in a module
                    own = own.rpartition(".")[0]
                if own:
                    yield Import(module, node.lineno, own, node not in put_off, own != name)


def _put_off(tree: ast.Module) -> set[ast.AST]:
    """All that is not carried out on import: the bodies of functions and what stands under TYPE_CHECKING."""
    bodies = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return {node for body in bodies for node in ast.walk(body)}


def out_of_order(package: Path, order: str = ORDER) -> list[str]:
    """`file:line: a imports b, which comes later` for each such import, and each module that has no room."""
    places, wrong = rooms(order), []
    for module, path in modules(package).items():
        if place_of(module, places) is None:
            wrong.append(f"{path.relative_to(package.parent)}:1: {module} has no room")
    for one in imports(package):
        here, there = place_of(one.module, places), place_of(one.imported, places)
        if not one.ours or here is None or there is None:
            continue
        if there > here:
            file = modules(package)[one.module].relative_to(package.parent)
            wrong.append(f"{file}:{one.line}: {one.module} imports {one.imported}, which comes later")
    return wrong


def test_nothing_imports_what_comes_later() -> None:
    assert out_of_order(CLONE / "reproduce") == []


def test_the_order_names_nothing_that_is_not_there() -> None:
    known = modules(CLONE / "reproduce")
    assert [name for name in rooms(ORDER) if name not in known] == []


def test_rooms_that_read_and_plan_do_not_import_torch_at_the_top() -> None:
    wrong = [
        f"{one.module}:{one.line}"
        for one in imports(CLONE / "reproduce")
        if one.top and one.module.partition(".")[0] in WITHOUT_TORCH and one.imported.partition(".")[0] == "torch"
    ]
    assert wrong == []


def test_nor_does_anything_that_they_import() -> None:
    light = [name for name in modules(CLONE / "reproduce") if name.partition(".")[0] in WITHOUT_TORCH]
    code = f"""
import importlib, sys
for name in {light}:
    importlib.import_module("reproduce." + name)
    if "torch" in sys.modules:
        sys.exit(name + " loads torch")
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CLONE)
    assert (answer.returncode, answer.stderr) == (0, "")


# ---------------------------------------------------------------------------------------------------
# The test itself


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A package with an early room, a late one, and a module of the late one's package that is early."""
    package = tmp_path / "house"
    for name in ("early", "late"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    for name in ("early/one.py", "late/two.py", "late/base.py", "__init__.py"):
        (package / name).write_text("VALUE = 1\n")
    return package


HOUSE = """
early late.base    comes first
late
"""


@pytest.mark.parametrize(
    ("text", "imported"),
    [
        ("import house.late.two\n", "late.two"),
        ("from house.late.two import VALUE\n", "late.two"),
        ("from house.late import two\n", "late.two"),
        ("from house import late\n", "late"),
        ("\ndef f():\n    from house.late.two import VALUE\n", "late.two"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.late.two import VALUE\n", "late.two"),
    ],
)
def test_an_import_of_something_later_is_named_by_file_and_line(house: Path, text: str, imported: str) -> None:
    (house / "early" / "one.py").write_text(text)
    line = len(text.splitlines())
    assert out_of_order(house, HOUSE) == [f"house/early/one.py:{line}: early.one imports {imported}, which comes later"]


@pytest.mark.parametrize("text", ["from house.late.base import VALUE\n", "from house.late import base\n"])
def test_a_module_may_be_earlier_than_its_package(house: Path, text: str) -> None:
    (house / "early" / "one.py").write_text(text)
    (house / "late" / "two.py").write_text("import house.early.one\nfrom house.late import base\n")
    assert out_of_order(house, HOUSE) == []


def test_a_module_without_a_room_is_named(house: Path) -> None:
    (house / "new.py").touch()
    assert out_of_order(house, HOUSE) == ["house/new.py:1: new has no room"]


def test_what_is_put_off_is_told_from_what_is_not(house: Path) -> None:
    (house / "early" / "one.py").write_text("import a\ntry:\n    import b\nexcept ImportError:\n    import c\n")
    (house / "late" / "two.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import d\nclass K:\n    import e\n    def f(self):\n"
        "        import g\n"
    )
    tops = {one.imported: one.top for one in imports(house)}
    assert tops == {"a": True, "b": True, "c": True, "typing.TYPE_CHECKING": True, "d": False, "e": True, "g": False}
