"""The trace of a run in training."""

from __future__ import annotations

import errno
import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reproduce.errors import OfeError
from reproduce.store.layout import LIVE_MOMENTS, LIVE_TRACE
from reproduce.store.trace import Row, TraceWriter, layer_order, read_live, read_moments, read_rows


def test_records_come_back_in_long_form_and_in_order(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as trace:
        trace.record(0, "train", {"loss": 6.1})
        trace.record(0, "probe", {"kurtosis": {"10": 3.0, "unembed": 4.0, "2": 2.0}})
    assert read_rows(tmp_path) == [
        Row(0, "probe", "kurtosis", "2", 2.0),
        Row(0, "probe", "kurtosis", "10", 3.0),
        Row(0, "probe", "kurtosis", "unembed", 4.0),
        Row(0, "train", "loss", "", 6.1),
    ]


def test_values_keep_every_bit_and_need_not_be_finite(tmp_path: Path) -> None:
    values = [0.1 + 0.2, 5e-324, -0.0, math.inf, -math.inf, math.nan, float(np.float32(0.1))]
    with TraceWriter(tmp_path) as trace:
        for step, value in enumerate(values):
            trace.record(step, "train", {"loss": value})
        trace.moments(0, "1", values)
    frame = read_live(tmp_path)
    np.testing.assert_array_equal(frame["value"], values)
    np.testing.assert_array_equal(np.signbit(frame["value"]), np.signbit(values))
    np.testing.assert_array_equal(read_moments(tmp_path)[0].second_moment, values)


def test_numpy_numbers_are_written_as_numbers(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as trace:
        trace.record(1, "train", {"loss": np.float32(2.5), "kurtosis": {"1": np.float64(1.5)}})
        trace.moments(1, "1", np.ones(2, np.float32))
    assert [row.value for row in read_rows(tmp_path)] == [1.5, 2.5]


def test_every_record_is_visible_at_once(tmp_path: Path) -> None:
    trace = TraceWriter(tmp_path)
    for step in range(3):
        trace.record(step, "train", {"loss": 1.0})
        assert len(read_live(tmp_path)) == step + 1, "a killed process would have lost this record"
    trace.close()


def test_resuming_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    def steps(trace: TraceWriter, first: int, last: int) -> None:
        for step in range(first, last):
            trace.record(step, "train", {"loss": 1 / (step + 1)})
            trace.moments(step, "1", [1.0 + step])

    with TraceWriter(tmp_path) as trace:
        steps(trace, 0, 5)
        position = trace.position()
        steps(trace, 5, 8)
    interrupted = {name: (tmp_path / name).stat().st_size for name in (LIVE_TRACE, LIVE_MOMENTS)}
    assert position == {name: position[name] for name in interrupted}
    assert all(position[name] < interrupted[name] for name in interrupted)
    with TraceWriter.resume(tmp_path, position) as trace:
        steps(trace, 5, 10)
        assert trace.position() == {name: (tmp_path / name).stat().st_size for name in interrupted}

    whole = tmp_path / "uninterrupted"
    whole.mkdir()
    with TraceWriter(whole) as trace:
        steps(trace, 0, 10)
    for name in interrupted:
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_a_run_without_a_checkpoint_begins_again(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as trace:
        trace.record(0, "train", {"loss": 9.0})
    with TraceWriter(tmp_path) as trace:
        trace.record(0, "train", {"loss": 1.0})
    assert [row.value for row in read_rows(tmp_path)] == [1.0]


def test_a_trace_that_lost_records_is_not_continued(tmp_path: Path) -> None:
    with TraceWriter(tmp_path) as trace:
        trace.record(0, "train", {"loss": 9.0})
        position = trace.position()
    (tmp_path / LIVE_TRACE).write_bytes(b"")
    with pytest.raises(OfeError, match=r"trace\.jsonl is shorter") as caught:
        TraceWriter.resume(tmp_path, position)
    assert str(tmp_path) in str(caught.value.hint)


@pytest.mark.parametrize("torn", [b'{"step": 1, "split": "tr', b"\x00\x00", b""])
def test_a_line_still_being_written_is_left_out(tmp_path: Path, torn: bytes) -> None:
    with TraceWriter(tmp_path) as trace:
        trace.record(0, "train", {"loss": 9.0})
    with (tmp_path / LIVE_TRACE).open("ab") as file:
        file.write(torn)
    assert list(read_live(tmp_path)["value"]) == [9.0]


def test_damage_before_the_last_line_is_an_error(tmp_path: Path) -> None:
    (tmp_path / LIVE_TRACE).write_text('{"step": 0,\n{"step": 1, "split": "train", "values": {}}\n')
    with pytest.raises(OfeError, match="line 1"):
        read_live(tmp_path)


def test_a_run_that_has_not_begun_has_an_empty_frame(tmp_path: Path) -> None:
    frame = read_live(tmp_path)
    assert list(frame.columns) == list(Row._fields)
    assert frame.empty
    assert frame["value"].dtype == float


def test_a_full_disk_is_explained_and_the_trace_stays_readable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class FullDisk(io.FileIO):
        """Takes half of a line, then nothing."""

        room = 10

        def write(self, data: Any, /) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken, self.room = super().write(data[: self.room]), 0
            return taken

    with TraceWriter(tmp_path) as trace:
        trace.record(0, "train", {"loss": 9.0})
        position = trace.position()
    monkeypatch.setattr(Path, "open", lambda path, *_, **__: FullDisk(path, "ab"))
    trace = TraceWriter.resume(tmp_path, position)
    with pytest.raises(OfeError, match="no space"):
        trace.record(1, "train", {"loss": 8.0})
    trace.close()
    monkeypatch.undo()
    assert [row.step for row in read_rows(tmp_path)] == [0]
    with TraceWriter.resume(tmp_path, position) as trace:
        trace.record(1, "train", {"loss": 8.0})
    assert [row.step for row in read_rows(tmp_path)] == [0, 1]


def test_layers_sort_by_depth() -> None:
    assert sorted(["unembed", "10", "", "2"], key=layer_order) == ["", "2", "10", "unembed"]
