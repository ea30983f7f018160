"""A process on its own, and what a launcher may leave out or get wrong."""

from __future__ import annotations

import pytest
import torch

from reproduce.errors import OfeError
from reproduce.parallel import group

PLACES = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in group.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("size", [None, "", "1"])
def test_a_process_without_a_group_is_alone(size: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if size is not None:
        monkeypatch.setenv("WORLD_SIZE", size)
    with group.joined():
        assert (group.size(), group.rank(), group.chief()) == (1, 0, True)
        assert group.total(torch.tensor(3.0)) == 3
        assert group.from_chief("mine") == "mine"


def joining(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> OfeError:
    for name, value in places.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OfeError) as caught, group.joined():
        pass
    assert caught.value.exit_code == 2
    return caught.value


@pytest.mark.parametrize("value", [None, ""])
def test_a_place_that_is_left_out_is_named(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {name: told for name, told in PLACES.items() if name not in ("LOCAL_RANK", "MASTER_ADDR")}
    if value is not None:
        places |= dict.fromkeys(("LOCAL_RANK", "MASTER_ADDR"), value)
    assert joining(places, monkeypatch).message == "WORLD_SIZE is set, LOCAL_RANK and MASTER_ADDR not"


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT"])
def test_a_place_that_is_no_number_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert joining(PLACES | {name: "two"}, monkeypatch).message == f"{name} is 'two'"
