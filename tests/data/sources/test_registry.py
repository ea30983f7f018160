from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from reproduce.data import SOURCES, find_source
from reproduce.errors import SpecError


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_can_be_built(name: str) -> None:
    source = SOURCES[name]
    module, _, factory = source.factory.partition(":")
    assert source.name == name
    assert callable(getattr(importlib.import_module(module), factory))
    assert source.takes_path or not source.needs_path


def test_an_unknown_source_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="no source of text is called 'python-stdlb'") as caught:
        find_source("python-stdlb", "text")
    assert caught.value.hint == "did you mean python-stdlib"


def test_a_source_unlike_any_other_lists_all() -> None:
    with pytest.raises(SpecError) as caught:
        find_source("zzz", "text")
    names = ", ".join(name for name, source in SOURCES.items() if source.kind == "text")
    assert caught.value.hint == f"choose one of {names}"


def test_importing_the_package_is_cheap() -> None:
    code = (
        "import sys, reproduce.data as d; d.SOURCES\n"
        "print(sorted({'numpy', 'tokenizers', 'datasets', 'pyarrow', 'torch', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_nothing_in_the_package_needs_torch() -> None:
    code = (
        "import importlib, pkgutil, sys, reproduce.data as d\n"
        "for module in pkgutil.iter_modules(d.__path__): importlib.import_module('reproduce.data.' + module.name)\n"
        "assert len(sys.modules) > 100 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
