"""Breaks a module on purpose, one small change at a time, and tells which changes no test notices.

    python tests/mutants.py reproduce/metrics/kurtosis.py [more modules]      or: make mutants OF=reproduce/metrics

cosmic-ray makes the mutants: an operator or comparison that is another one, a number that is one more or less, a
condition that is negated, a loop that ends early, a decorator that is gone. Each is tried in a copy of the tree, so the
working tree is never touched, by the test file of the same name and, if that passes, by all of its folder. A process
that has imported torch already is forked for each, which is faster than a new one. Exit code 1 says that some survived;
`tests/mutants.md` explains those that may.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

CLONE = Path(__file__).resolve().parents[1]
LIMIT_S = 300
SWAPS = {
    *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_Mul", "Pow_Mul"),
    *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
    *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is", "In_NotIn", "NotIn_In"),
}
"""Which operator stands in for which: of the dozen that cosmic-ray offers, the likeliest mistakes."""
OTHERS = {
    *(
        "NumberReplacer",
        "ReplaceAndWithOr",
        "ReplaceOrWithAnd",
        "AddNot",
        "ReplaceTrueWithFalse",
        "ReplaceFalseWithTrue",
    ),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ZeroIterationForLoop", "RemoveDecorator"),
    *("ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not"),
}


def mutants(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, name of the change, and the whole source with it, for each mutant of the module at `path`."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    source = path.read_text(encoding="utf-8")
    for name in operator_names():
        short = name.partition("/")[2]
        swap = short.rpartition("Operator_")[2]
        if short not in OTHERS and swap not in SWAPS:
            continue
        operator = get_operator(name)()
        places = [
            start[0] for node in ast_nodes(get_ast_from_path(path)) for start, _ in operator.mutation_positions(node)
        ]
        for occurrence, line in enumerate(places):
            changed = mutate_code(source.encode(), operator, occurrence)
            if changed is not None:
                yield line, short, changed if isinstance(changed, str) else changed.decode()


def tests_of(module: Path) -> list[str]:
    """The test file of the module where there is one, and its folder."""
    folder = Path("tests", *module.parts[1:-1])
    own = folder / f"test_{module.stem}.py"
    return [str(path) for path in (own, folder) if (CLONE / path).exists()]


def passes(tree: Path, tests: str, log: Path) -> bool:
    """Whether the tests pass in the copy at `tree`, run in a fork of this process."""
    child = os.fork()
    if not child:
        code = 1
        try:
            code = _test(tree, tests, log)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # never back into what the parent was doing
    deadline = time.monotonic() + LIMIT_S
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.02)


def _test(tree: Path, tests: str, log: Path) -> int:
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    sys.dont_write_bytecode = True
    import pytest

    quietly = [
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
    ]
    return int(pytest.main([*quietly, "-m", "not slow", tests]))


def copy(to: Path) -> None:
    """What the tests need of the tree; figures and specs, which are large and stay as they are, as links."""
    for name in ("reproduce", "tests"):
        shutil.copytree(CLONE / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("experiments", "figures", "pyproject.toml", "Makefile", "README.md"):
        (to / name).symlink_to(CLONE / name)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="+", type=Path, help="modules or folders, from the top of the clone")
    parser.add_argument("--limit", type=int, default=None, help="stop after this many mutants of a module")
    asked = parser.parse_args()
    modules = [found for path in asked.modules for found in (sorted(path.glob("*.py")) if path.is_dir() else [path])]
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in (CLONE, CLONE / "tests")]
    import torch

    for heavy in (
        "pandas",
        "pyarrow",
        "pydantic",
        "scipy.stats",
        "hypothesis.extra.numpy",
        "pytorch_optimizer",
        "pytest",
    ):  # once for all forks
        importlib.import_module(heavy)

    torch.set_num_threads(1)
    survivors = 0
    with tempfile.TemporaryDirectory() as scratch:
        tree, log = Path(scratch).resolve() / "tree", Path(scratch) / "log"
        tree.mkdir()
        copy(tree)
        for module in modules:
            tests, source = tests_of(module), (CLONE / module).read_text(encoding="utf-8")
            if not all(passes(tree, path, log) for path in tests):
                print(log.read_text(), file=sys.stderr)
                print(f"error: the tests of {module} fail without any change", file=sys.stderr)
                return 2
            tried = survived = 0
            for line, name, changed in mutants(CLONE / module):
                if tried == asked.limit:
                    break
                tried += 1
                (tree / module).write_text(changed, encoding="utf-8")
                if all(passes(tree, path, log) for path in tests):
                    survived += 1
                    old, new = (code.splitlines()[line - 1].strip() for code in (source, changed))
                    print(f"  survived: {module}:{line} {name}: {old} -> {new}", flush=True)
            (tree / module).write_text(source, encoding="utf-8")
            print(f"{module}: {tried} mutants, {survived} survived", flush=True)
            survivors += survived
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
