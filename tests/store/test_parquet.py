"""The sealed form of a trace."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from reproduce.errors import OfeError
from reproduce.store.parquet import moments_bytes, read_moments, read_trace, trace_bytes
from reproduce.store.trace import Moment, Row

ROWS = [
    Row(0, "probe", "kurtosis", "1", 0.1 + 0.2),
    Row(0, "probe", "kurtosis", "unembed", math.inf),
    Row(0, "train", "loss", "", math.nan),
    Row(100, "train", "loss", "", -math.inf),
]


def test_a_trace_comes_back_exactly(tmp_path: Path) -> None:
    (tmp_path / "trace.parquet").write_bytes(trace_bytes(ROWS))
    frame = read_trace(tmp_path / "trace.parquet")
    assert list(frame.columns) == list(Row._fields)
    assert frame["step"].dtype == np.int32
    assert list(frame["layer"]) == ["1", "unembed", "", ""]
    np.testing.assert_array_equal(frame["value"], [row.value for row in ROWS])
    assert not frame["value"].isna().to_numpy()[[0, 1, 3]].any()


def test_a_trace_is_read_below_a_folder_whose_name_the_locale_cannot_write(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "trace.parquet").write_bytes(trace_bytes(ROWS))
    assert len(read_trace(folder / "trace.parquet")) == len(ROWS)


def test_moments_come_back_in_single_precision(tmp_path: Path) -> None:
    moments = [Moment(0, "1", [0.1, math.inf, math.nan]), Moment(0, "2", [1.0])]
    (tmp_path / "moments.parquet").write_bytes(moments_bytes(moments))
    frame = read_moments(tmp_path / "moments.parquet")
    assert list(frame["layer"]) == ["1", "2"]
    assert frame["second_moment"][0].dtype == np.float32
    np.testing.assert_array_equal(frame["second_moment"][0], np.float32([0.1, math.inf, math.nan]))


def test_a_run_without_records_is_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / "trace.parquet").write_bytes(trace_bytes([]))
    (tmp_path / "moments.parquet").write_bytes(moments_bytes([]))
    assert read_trace(tmp_path / "trace.parquet").empty
    assert read_moments(tmp_path / "moments.parquet").empty


def test_nothing_but_the_numbers_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    path.write_bytes(trace_bytes(ROWS))
    metadata = pq.read_metadata(path)
    assert metadata.metadata is None
    assert {metadata.row_group(0).column(i).compression for i in range(metadata.num_columns)} == {"ZSTD"}


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_a_truncated_file_is_named(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "trace.parquet"
    path.write_bytes(trace_bytes(ROWS)[:cut])
    with pytest.raises(OfeError, match=r"trace\.parquet cannot be read") as caught:
        read_trace(path)
    assert str(tmp_path) in str(caught.value.hint)


def test_another_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    path.write_bytes(moments_bytes([Moment(0, "1", [0.1])]))
    with pytest.raises(OfeError, match="has columns step, layer, second_moment"):
        read_trace(path)
