"""The rooms of `reproduce.data`: no two modules need each other, and no module is only a few lines."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import reproduce.data

ROOT = Path(reproduce.data.__file__).parent
MODULES = {
    ".".join(("reproduce.data", *path.relative_to(ROOT).with_suffix("").parts)): path
    for path in ROOT.rglob("*.py")
    if path.name != "__init__.py"
}


def _imported(path: Path) -> set[str]:
    """Modules of `reproduce.data` that a module imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found & set(MODULES)


def test_no_two_modules_import_each_other() -> None:
    imports = {name: _imported(path) for name, path in MODULES.items()}
    assert "reproduce.data.text.shards" in imports["reproduce.data.text.prepare"]
    assert len(list(TopologicalSorter(imports).static_order())) == len(MODULES)


def test_no_module_is_shorter_than_thirty_lines() -> None:
    short = {name for name, path in MODULES.items() if len(path.read_text(encoding="utf-8").splitlines()) < 30}
    assert short <= {"reproduce.data.progress"}, "fold them into the module that they serve"
