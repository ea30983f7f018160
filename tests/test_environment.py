from __future__ import annotations

import pytest

from reproduce.environment import VARIABLES, Environment, environment
from reproduce.errors import OfeError


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_unset_and_empty_variables_leave_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    free = Environment(device=None, parallel=None, recompute=None, micro_batch=None, checkpoint_s=60.0)
    assert environment() == free
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    assert environment() == free


def test_what_is_set_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES, ("cuda", "fsdp", "0", "16", "2.5"), strict=True):
        monkeypatch.setenv(name, value)
    assert environment() == Environment("cuda", "fsdp", recompute=False, micro_batch=16, checkpoint_s=2.5)


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("OFE_DEVICE", "gpu", "set it to cpu or cuda, or leave it unset"),
        ("OFE_PARALLEL", "tp", "set it to ddp or fsdp, or leave it unset"),
        ("OFE_ACTIVATION_CHECKPOINTING", "yes", "set it to 0 or 1, or leave it unset"),
        *(("OFE_MICRO_BATCH", value, "set it to a number of examples") for value in ("0", "-4", "4.5", "all")),
        *(("OFE_CHECKPOINT_S", value, "set it to a number of seconds") for value in ("soon", "-1", "nan")),
    ],
)
def test_what_means_nothing_is_refused(name: str, value: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(OfeError) as caught:
        environment()
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (f"{name} is {value!r}", hint, 2)
