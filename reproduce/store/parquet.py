"""The sealed form of a trace: Parquet files whose bytes depend on the numbers alone.

    trace.parquet     step int32, split string, metric string, layer string, value float64
    moments.parquet   step int32, layer string, second_moment list<float32>

Names are dictionary-encoded. The bytes of the values are split into streams before zstd compresses them, which suits
numbers that were float32 before. All options of the writer are pinned, and nothing else is stored: no index, no
metadata of pandas, no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from reproduce.store.layout import damaged
from reproduce.store.regular import open_regular
from reproduce.store.trace import Moment, Row

if TYPE_CHECKING:
    import pandas as pd

TRACE_SCHEMA = pa.schema(
    [
        pa.field("step", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("layer", pa.string(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)
MOMENTS_SCHEMA = pa.schema(
    [
        pa.field("step", pa.int32(), nullable=False),
        pa.field("layer", pa.string(), nullable=False),
        pa.field("second_moment", pa.list_(pa.field("element", pa.float32(), nullable=False)), nullable=False),
    ]
)


def trace_bytes(rows: Sequence[Row]) -> bytes:
    """The content of trace.parquet with `rows` in the given order."""
    return _encode(rows, TRACE_SCHEMA, names=["step", "split", "metric", "layer"], numbers=["value"])


def moments_bytes(moments: Sequence[Moment]) -> bytes:
    """The content of moments.parquet with `moments` in the given order."""
    return _encode(moments, MOMENTS_SCHEMA, names=["step", "layer"], numbers=["second_moment.list.element"])


def _encode(records: Sequence[Any], schema: pa.Schema, *, names: list[str], numbers: list[str]) -> bytes:
    columns = [pa.array([getattr(record, field.name) for record in records], type=field.type) for field in schema]
    sink = pa.BufferOutputStream()
    # Defaults of pyarrow change between its versions, and each of these options changes the bytes.
    pq.write_table(
        pa.Table.from_arrays(columns, schema=schema),
        sink,
        version="2.6",
        data_page_version="1.0",
        row_group_size=1 << 20,
        data_page_size=1 << 20,
        compression="zstd",
        compression_level=9,
        use_dictionary=names,
        use_byte_stream_split=numbers,
        write_statistics=False,
        store_schema=False,
    )
    return sink.getvalue().to_pybytes()


def read_trace(path: Path) -> pd.DataFrame:
    """trace.parquet as a frame with columns step, split, metric, layer, value.

    Raises:
        OfeError: the file is missing, damaged or holds something else.
    """
    return _decode(path, TRACE_SCHEMA).to_pandas()


def read_moments(path: Path) -> pd.DataFrame:
    """moments.parquet as a frame with columns step, layer and second_moment, a float32 array of shape (width,).

    Raises:
        OfeError: the file is missing, damaged or holds something else.
    """
    return _decode(path, MOMENTS_SCHEMA).to_pandas()


def _decode(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        # Opened by Python: where the locale is C, pyarrow takes no name that is not ASCII.
        with open_regular(path) as opened, pq.ParquetFile(opened) as file:
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, "cannot be read") from error
    if table.schema.names != schema.names:
        raise damaged(path, f"has columns {', '.join(table.schema.names)}, not {', '.join(schema.names)}")
    return table
