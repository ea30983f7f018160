from __future__ import annotations

import pytest

from reproduce.environment import VARIABLES, Environment, environment, launched, threads
from reproduce.errors import OfeError


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "OMP_NUM_THREADS", "RANK"):
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


@pytest.mark.parametrize(("value", "count"), [("4", 4), ("4,2", 4), ("16, 1, 1", 16), (" 3 ", 3), ("", None)])
def test_threads_are_the_first_of_the_list(value: str, count: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads() is None
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads() == count


@pytest.mark.parametrize("value", ["0", "-2", "four", ",2", "1.5"])
def test_threads_that_are_none_are_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    with pytest.raises(OfeError, match="OMP_NUM_THREADS is") as caught:
        threads()
    assert caught.value.hint == "set it to a number of threads, or leave it unset"
    assert caught.value.exit_code == 2


def test_what_a_launcher_says_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched("RANK") is None
    for value, number in (("", None), ("0", 0), ("12", 12)):
        monkeypatch.setenv("RANK", value)
        assert launched("RANK") == number
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(OfeError, match="RANK is 'first'"):
        launched("RANK")
