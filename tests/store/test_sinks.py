"""A run's records in other places: all of them, once, in the order of their steps."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from reproduce.specs.runs import ResolvedRun
from reproduce.store.runs import RunFolder, Store
from reproduce.store.seal import seal
from reproduce.store.sinks import CsvSink, follow, replay
from reproduce.store.trace import TraceWriter, read_live
from tests.store.conftest import PROVENANCE

MakeRun = Callable[..., ResolvedRun]


def as_csv(folder: RunFolder) -> str:
    text = io.StringIO()
    replay(folder, CsvSink(text))
    return text.getvalue()


def test_csv_holds_the_whole_trace_live_or_sealed(
    store: Store, make_run: MakeRun, train: Callable[[Path], None]
) -> None:
    folder = store.create(make_run())
    train(folder.path)
    live, text = read_live(folder.path), as_csv(folder)
    back = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values={"value": ["nan"]})
    back["layer"] = back["layer"].astype(str)
    pd.testing.assert_frame_equal(
        back.sort_values(["step", "split", "metric", "layer"], ignore_index=True),
        live.sort_values(["step", "split", "metric", "layer"], ignore_index=True),
        check_dtype=False,
        check_exact=True,
    )
    seal(folder.path, PROVENANCE)
    assert as_csv(folder) == text


def test_following_writes_each_record_once_while_a_run_grows_resumes_and_is_sealed(
    store: Store, make_run: MakeRun
) -> None:
    folder, text = store.create(make_run()), io.StringIO()
    with TraceWriter(folder.path) as writer:
        writer.record(0, "train", {"loss": 6.0})
        position = writer.position()
        writer.record(1, "train", {"loss": 5.0})
    steps = iter(["resume", "more of a step", "seal"])

    def sleep() -> None:
        step = next(steps)
        if step == "resume":
            with TraceWriter.resume(folder.path, position) as writer:
                writer.record(1, "train", {"loss": 5.0})
                writer.record(1, "probe", {"m2_update_linear": {"2": 0.5}})
        elif step == "more of a step":
            end = {**position, "trace.jsonl": (folder.path / "trace.jsonl").stat().st_size}
            with TraceWriter.resume(folder.path, end) as writer:
                writer.record(1, "probe", {"kurtosis": {"1": 1.5}})
        else:
            lock.__exit__(None, None, None)
            seal(folder.path, PROVENANCE)

    lock = folder.lock()
    lock.__enter__()
    follow(folder, CsvSink(text), sleep=sleep)
    assert text.getvalue().splitlines() == [
        "step,split,metric,layer,value",
        "0,train,loss,,6.0",
        "1,train,loss,,5.0",
        "1,probe,m2_update_linear,2,0.5",
        "1,probe,kurtosis,1,1.5",
    ]
