"""Breaks a module on purpose, one small change at a time, and tells which changes no test notices.

    python tests/mutants.py reproduce/metrics/kurtosis.py       all mutants of one module; folders work too
    python tests/mutants.py reproduce/claims --sample 40        at most 40 of each module, the same ones every time
    python tests/mutants.py reproduce/cadence.py:22             the mutants of one line
    make mutants OF=reproduce/metrics SAMPLE=40

cosmic-ray makes the mutants: an operator or comparison becomes another one, a number becomes one more or less, a
condition is negated, a loop ends early, a decorator is taken away. A change of what Python does not run, such as an
annotation, is not a mutant. Each mutant is tried in a copy of the tree, so that the working tree is never touched. The
test file of the same name comes first, and only if it passes, the other tests of its folder. Each trial is a fork of
one process that has imported torch already, which is faster than a new process. A mutant with which the tests take far
longer than without it counts as noticed. The exit code 1 says that some mutants survived, and `tests/mutants.md`
explains those that may.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import NamedTuple

CLONE = Path(__file__).resolve().parents[1]
PATIENCE = 5
"""How many times as long as without a change the tests may take with one before it counts as noticed."""
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


ELSEWHERE = {
    "reproduce/claims/robustness.py": "tests/claims/test_verdict.py",
    "reproduce/metrics/inputs.py": "tests/metrics/test_stream.py",
    "reproduce/training/weights.py": "tests/jobs/test_measure.py",
}
"""The test file that comes first for a module where it is not the one of the same name, or where there is none."""


class Mutant(NamedTuple):
    """A module with one change."""

    line: int
    kind: str
    """The name that cosmic-ray gives the change."""
    source: str
    """The whole module."""


def mutants(path: Path) -> list[Mutant]:
    """All mutants of the module at `path`."""
    from cosmic_ray.ast import ast_nodes, get_ast_from_path
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    source = path.read_text(encoding="utf-8")
    nodes, original = list(ast_nodes(get_ast_from_path(path))), what_runs(source)
    found = []
    for name in operator_names():
        kind = name.partition("/")[2]
        if kind not in OTHERS and kind.rpartition("Operator_")[2] not in SWAPS:
            continue
        operator = get_operator(name)()
        lines = [start[0] for node in nodes for start, _ in operator.mutation_positions(node)]
        for occurrence, line in enumerate(lines):
            changed = mutate_code(source.encode(), operator, occurrence)
            if changed is None:
                continue
            text = changed if isinstance(changed, str) else changed.decode()
            if what_runs(text) not in (None, original):
                found.append(Mutant(line, kind, text))
    return found


def what_runs(source: str) -> str | None:
    """What Python executes of a module, in a form in which two modules can be compared; None if it is no Python.

    Annotations, imports for the type checker alone, and the markers `*` and `/` between parameters are left out.
    """
    try:
        return ast.dump(_WhatRuns().visit(ast.parse(source)))
    except SyntaxError:
        return None


class _WhatRuns(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg(node.arg)

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        self.generic_visit(node)
        node.args, node.posonlyargs, node.kwonlyargs = node.posonlyargs + node.args + node.kwonlyargs, [], []
        node.defaults, node.kw_defaults = node.defaults + [one for one in node.kw_defaults if one], []
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        test = node.test.operand if isinstance(node.test, ast.UnaryOp) else node.test
        typing = isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"
        return None if typing else self.generic_visit(node)


def spread(found: list[Mutant], count: int | None) -> list[Mutant]:
    """At most `count` mutants, spread over the lines first and the kinds of change second; all of them for None."""
    if count is None or len(found) <= count:
        return found
    left, taken = list(found), []
    random.Random(0).shuffle(left)  # the same order every time
    lines: Counter[int] = Counter()
    kinds: Counter[str] = Counter()
    while len(taken) < count:
        rarest = min(left, key=lambda mutant: (lines[mutant.line], kinds[mutant.kind]))
        left.remove(rarest)
        taken.append(rarest)
        lines[rarest.line] += 1
        kinds[rarest.kind] += 1
    return sorted(taken)


def tests_of(module: Path) -> list[list[str]]:
    """What pytest is asked for in turn: the test file of the module where there is one, then the rest of its folder."""
    folder = Path("tests", *module.parts[1:-1])
    own = Path(ELSEWHERE.get(str(module), folder / f"test_{module.stem}.py"))
    if folder == Path("tests"):  # a module of no room; all tests would take too long
        return [[str(own)]]
    if not (CLONE / own).exists():
        return [[str(folder)]]
    return [[str(own)], [str(folder), f"--ignore={own}"]]


def passes(tree: Path, tests: list[str], log: Path, limit_s: float) -> bool:
    """Whether the tests pass in the copy at `tree` within `limit_s` seconds, run in a fork of this process."""
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
    deadline = time.monotonic() + limit_s
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) == 0
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False
        time.sleep(0.02)


def _test(tree: Path, tests: list[str], log: Path) -> int:
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
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
    return int(pytest.main([*quietly, "-m", "not slow", *tests]))


def copy(to: Path) -> None:
    """What the tests need of the tree; figures and specs, which are large and stay as they are, as links."""
    for name in ("reproduce", "tests"):
        shutil.copytree(CLONE / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("experiments", "figures", "pyproject.toml", "Makefile", "README.md"):
        (to / name).symlink_to(CLONE / name)


def limit(tests: list[str], tree: Path, log: Path) -> float:
    """Seconds after which the tests count as failed: far more than they take in the copy at `tree` as it is.

    Raises:
        SystemExit: the tests fail without any change.
    """
    began = time.monotonic()
    if not passes(tree, tests, log, limit_s=3600):
        print(log.read_text(), file=sys.stderr)
        raise SystemExit(f"error: {' '.join(tests)} fails without any change")
    return 10 + PATIENCE * (time.monotonic() - began)


def survivors(
    module: Path, stages: list[list[str]], found: list[Mutant], tree: Path, log: Path, limits: dict[str, float]
) -> int:
    """How many of the mutants `found` of `module` survive all `stages` of tests in the copy at `tree`; each is printed.

    Args:
        limits: the `limit` of each test file or folder.
    """
    source = (CLONE / module).read_text(encoding="utf-8")
    survived = 0
    for number, mutant in enumerate(found):
        (tree / module).write_text(mutant.source, encoding="utf-8")
        # Python would take the compiled form of an earlier mutant of the same size and second for this one's.
        os.utime(tree / module, (number, number))
        if all(passes(tree, tests, log, limits[tests[0]]) for tests in stages):
            survived += 1
            old, new = (text.splitlines()[mutant.line - 1].strip() for text in (source, mutant.source))
            print(f"  survived: {module}:{mutant.line} {mutant.kind}: {old} -> {new}", flush=True)
    (tree / module).write_text(source, encoding="utf-8")
    return survived


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("modules", nargs="+", help="modules, module:line or folders, from the top of the clone")
    parser.add_argument("--sample", type=int, metavar="N", help="try N mutants of a module, spread over all its lines")
    parser.add_argument("--own", action="store_true", help="ask only the module's own test file, not its folder")
    asked = parser.parse_args()
    modules: list[tuple[Path, str]] = []
    for name in asked.modules:
        path, _, line = name.partition(":")
        modules += [
            (found, line) for found in (sorted(Path(path).glob("*.py")) if Path(path).is_dir() else [Path(path)])
        ]
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() not in (CLONE, CLONE / "tests")]
    import torch

    # what tests import and takes long, once for all forks
    for heavy in (
        "pandas",
        "pyarrow",
        "pydantic",
        "scipy.stats",
        "hypothesis.extra.numpy",
        "pytorch_optimizer",
        "pytest",
    ):
        importlib.import_module(heavy)

    torch.use_deterministic_algorithms(False)  # the first call imports torch's compiler, which takes seconds
    torch.set_num_threads(1)
    total = 0
    limits: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        tree, log = Path(scratch).resolve() / "tree", Path(scratch) / "log"
        tree.mkdir()
        copy(tree)
        for module, line in modules:
            began = time.monotonic()
            found = [mutant for mutant in mutants(CLONE / module) if line in ("", str(mutant.line))]
            tried = spread(found, asked.sample)
            stages = tests_of(module)[: 1 if asked.own else None]
            for tests in stages:
                limits[tests[0]] = limits.get(tests[0]) or limit(tests, tree, log)
            survived = survivors(module, stages, tried, tree, log, limits)
            seconds = time.monotonic() - began
            print(f"{module}: {len(tried)} of {len(found)} mutants, {survived} survived ({seconds:.0f} s)", flush=True)
            total += survived
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
