"""The table of optimisers: true to what is built, valid in a spec, and all that a new optimiser needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from pydantic import ValidationError

from reproduce.config import OptimizerConfig
from reproduce.keys import NUMERICS_VERSION
from reproduce.optim import OPTIMIZERS, build_optimizer
from reproduce.optim.records import GROUP_RULES, Role
from reproduce.specs.problems import explain
from tests.runs import write_text_folder

from .toys import NAMES, Weight, configuration, drive, gradients


def test_the_names_of_the_table_are_those_a_spec_may_give() -> None:
    assert tuple(OPTIMIZERS) == NAMES
    with pytest.raises(ValidationError) as caught:
        OptimizerConfig.model_validate({"name": "sopa", "lr": 1.0})
    (problem,) = explain(caught.value, OptimizerConfig)
    assert problem.text == "expected adamw, sgd, adafactor, soap or adafactor-rotated, got 'sopa'"
    assert problem.nearest == "soap"


def test_every_record_has_its_numerics_version_in_the_keys() -> None:
    assert {name: NUMERICS_VERSION[name] for name in OPTIMIZERS} == dict.fromkeys(NAMES, 1)


def test_every_role_has_a_rule() -> None:
    assert tuple(GROUP_RULES) == get_args(Role)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_record_says_it_reads_are_fields_of_the_configuration(name: str) -> None:
    reads = OPTIMIZERS[name].reads
    assert set(reads) <= OptimizerConfig.model_fields.keys() - {"name", "lr", "weight_decay"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(), (5,), (4, 6), (3, 2, 2, 2)])
def test_state_is_what_is_built(name: str, shape: tuple[int, ...]) -> None:
    limit = {"max_precond_dim": 5} if "max_precond_dim" in OPTIMIZERS[name].reads else {}
    config, model = configuration(name, **limit), Weight(*shape)
    optimizer = build_optimizer(config, model)
    drive(optimizer, model.weight, gradients(*shape, count=2))
    kept = [value for key, value in optimizer.state[model.weight].items() if torch.is_tensor(value) and key != "step"]
    assert OPTIMIZERS[name].state_size(shape, config) == sum(tensor.numel() for tensor in kept)


@pytest.mark.parametrize("name", NAMES)
def test_an_elementwise_optimiser_does_to_a_part_what_it_does_to_the_whole(name: str) -> None:
    """The first half of the rows alone, with the first half of each gradient, as FSDP2 cuts them."""
    whole, part = Weight(6, 4), Weight(6, 4)
    part.weight.data = part.weight.data[:3].clone()
    sequence = gradients(6, 4, count=5)
    moved = drive(build_optimizer(configuration(name), whole), whole.weight, sequence)[-1][:3]
    cut = drive(build_optimizer(configuration(name), part), part.weight, [gradient[:3] for gradient in sequence])[-1]
    assert torch.equal(moved, cut) == OPTIMIZERS[name].elementwise


def test_the_table_needs_no_torch() -> None:
    code = "import sys, reproduce.optim, reproduce.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_module_and_a_row_are_all_that_a_new_optimiser_needs(tmp_path: Path) -> None:
    text = write_text_folder(tmp_path / "text")
    clone = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.optim.sign_momentum", str(text), str(tmp_path / "home")],
        cwd=clone,
        env=os.environ | {"OFE_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(clone)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["step"], found["failed_step"]) == (20, None)
    assert found["state"] == found["weights"]  # `ofe plan` counts its one moment
    # Its own rule makes the rate of matrices a tenth, and each of their weights moves by it; the others move less.
    matrix, embedding = found["moved"]["blocks.0.mlp.up.weight"], found["moved"]["token_embedding.weight"]
    assert matrix == pytest.approx(1e-4, rel=1e-3)
    assert 0 < embedding != pytest.approx(1e-4, rel=1e-3)
