"""What two processes do for the tests: started by torchrun with a folder, in which they leave traces and findings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from reproduce.environment import Mode
from reproduce.errors import OfeError
from reproduce.parallel import group
from tests.parallel.toys import SOAP, image_config, toy_config, train

MODES: tuple[Mode, ...] = ("ddp", "fsdp")


def exchanges() -> dict[str, Any]:
    """Every exchange once, with values that differ between the two."""
    mine = torch.arange(3.0) + 10 * group.rank()
    return {
        "total": group.total(mine).tolist(),
        "untouched": mine.tolist(),
        "added": group.added(0.5 + group.rank()),
        "concatenation": group.concatenation(mine[: 1 + 2 * group.rank()]).tolist(),
        "nothing": group.concatenation(mine[: 2 * (1 - group.rank())]).tolist(),
        "anyone": group.anyone(group.rank() == 1, False),
        "from_chief": group.from_chief({"rank": group.rank()}),
        "gathered": group.gathered({"rank": group.rank()}),
        "first": [group.first_to_fail(), group.first_to_fail()],
    }


def refusals(folder: Path) -> dict[str, str]:
    """What cannot be spread over two devices says so."""
    said = {}
    for name, changes in (("soap", {"optimizer": {"name": "soap"}}), ("odd", {"batch_size": 5})):
        try:
            train(folder / name, toy_config(**changes), mode="fsdp")
        except OfeError as error:
            said[name] = error.message
    return said


def initial_weights(folder: Path) -> dict[str, float]:
    """Largest difference of each parameter of a sharded model from the seed's own, before any step."""
    training = train(folder, toy_config(), mode="fsdp", stop_at=0)
    assert all(isinstance(parameter, DTensor) for parameter in training.task.model.parameters())
    whole = torch.load(folder.parent / "initial.pt")
    found = {
        name: float((parameter.detach().full_tensor() - whole[name]).abs().max())
        for name, parameter in training.task.model.named_parameters()
    }
    tied = training.task.model.unembedding.weight is training.task.model.token_embedding.weight
    return found | {"tied": float(tied)}


def main(out: Path) -> None:
    with group.joined():
        found = {"exchanges": exchanges(), "refusals": refusals(out), "initial": initial_weights(out / "initial")}
        for mode in MODES:
            train(out / mode, toy_config(), mode=mode, micro_batch=2)
            train(out / f"{mode}-lean", toy_config(), mode=mode, recompute=True)
            train(out / f"{mode}-half", toy_config(), mode=mode, stop_at=3, stop_on=1)
            train(out / f"one-to-{mode}", toy_config(), mode=mode)
        train(out / "updates", toy_config(probe={"moment_updates_layer": 2}, precision="bf16"), mode="fsdp")
        train(out / "bf16", toy_config(precision="bf16"), mode="fsdp")
        train(out / "sgd", toy_config(optimizer={"name": "sgd"}), mode="fsdp")
        train(out / "soap-ddp", toy_config(optimizer=SOAP), mode="ddp")
        train(out / "fsdp-to-ddp", toy_config(), mode="fsdp", stop_at=3)
        train(out / "fsdp-to-ddp", toy_config(), mode="ddp")
        train(out / "ddp-to-fsdp", toy_config(), mode="ddp", stop_at=3)
        train(out / "ddp-to-fsdp", toy_config(), mode="fsdp", stop_at=5)
        train(out / "ddp-to-fsdp", toy_config(), mode="fsdp")
        for images in (21, 17):
            train(out / f"images-{images}", image_config(), images=images, mode="ddp", micro_batch=2)
        train(out / "images-fsdp", image_config(), images=17, mode="fsdp")
        (out / f"found-{group.rank()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
