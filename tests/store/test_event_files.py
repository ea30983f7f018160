"""Traces in the forms that other tools read: W&B's JSON lines and TensorBoard's event files."""

from __future__ import annotations

import builtins
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from reproduce.errors import OfeError
from reproduce.store.event_files import EventFileSink
from reproduce.store.sinks import Sink, WandbSink

RECORDS: list[tuple[int, str, dict[str, Any]]] = [
    (0, "train", {"loss": 6.5}),
    (100, "probe", {"kurtosis": {"10": 3.0, "2": 1.5, "unembed": 2.0}}),
    (200, "train", {"loss": math.nan}),
]


def fill(sink: Sink) -> None:
    for record in RECORDS:
        sink.record(*record)
    sink.moments(0, "1", [1.0])
    sink.close()


def test_wandb_takes_each_line_as_it_is() -> None:
    text = io.StringIO()
    fill(WandbSink(text))
    assert [json.loads(line) for line in text.getvalue().splitlines()] == [
        {"_step": 0, "train/loss": 6.5},
        {"_step": 100, "probe/kurtosis/2": 1.5, "probe/kurtosis/10": 3.0, "probe/kurtosis/unembed": 2.0},
        {"_step": 200, "train/loss": "nan"},
    ]


@pytest.mark.filterwarnings("ignore")  # tensorboard's own
def test_tensorboard_reads_every_value_back(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fill(EventFileSink(tmp_path / "run"))
    read = EventAccumulator(str(tmp_path / "run"))
    read.Reload()
    tags = read.Tags()["scalars"]
    found = {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in tags}
    assert found.pop("train/loss")[0] == (0, 6.5)
    assert found == {
        "probe/kurtosis/2": [(100, 1.5)],
        "probe/kurtosis/10": [(100, 3.0)],
        "probe/kurtosis/unembed": [(100, 2.0)],
    }


def test_event_files_are_not_laid_over_others(tmp_path: Path) -> None:
    fill(EventFileSink(tmp_path))
    with pytest.raises(OfeError, match="holds event files already"):
        EventFileSink(tmp_path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def fail(name: str, *rest: Any) -> Any:
        if name.startswith("tensorboard"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(OfeError, match="event files need the package tensorboard") as error:
        EventFileSink(tmp_path)
    assert error.value.hint == "pip install tensorboard"
