"""Traces that other programs wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reproduce.errors import OfeError
from reproduce.store.foreign import read_foreign_trace

ROWS = [(0, "probe", "kurtosis", "2", 1.5), (100, "probe", "kurtosis", "2", 20.0), (100, "eval", "loss", "", 3.25)]


def read(path: Path, text: str) -> tuple[list[tuple[object, ...]], list[str]]:
    path.write_text(text)
    frame, unknown, _ = read_foreign_trace(path)
    return [tuple(row) for row in frame.itertuples(index=False)], unknown


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "step,layer,kurtosis,eval_loss\n0,2,1.5,\n100,2,20,\n100,,,3.25\n"),
        ("t.csv", "step,split,metric,layer,value\n0,probe,kurtosis,2,1.5\n100,probe,kurtosis,2,20\n"
                  "100,eval,loss,,3.25\n"),
        ("t.csv", "\ufeffstep,metric,layer,value\n0,kurtosis,2.0,1.5\n1e2,kurtosis,2,20\n100,eval_loss,,3.25\n"),
        ("t.jsonl", '{"step": 0, "layer": 2, "kurtosis": 1.5}\n\n{"step": 100, "layer": "2", "kurtosis": 20}\n'
                    '{"step": 100, "eval_loss": 3.25}\n'),
        ("t.csv", "step,layer,kurtosis,eval_loss\n0,2,1.5,\n100,2,7,\n100,2,20,\n100,,,3.25\n"),  # the last one counts
    ],
)  # fmt: skip
def test_all_forms_give_the_same_rows(tmp_path: Path, name: str, text: str) -> None:
    assert read(tmp_path / name, text) == (ROWS, [])


def test_of_the_csv_of_measure_the_rows_that_figures_show_are_read(tmp_path: Path) -> None:
    head = "model,revision,step,point,layer,positions,metric,value\n"
    rows = "m,,5,residual,2,all,kurtosis,9\nm,,5,residual,2,skipped,kurtosis,3\nm,,5,mlp-input,2,all,kurtosis,7\n"
    assert read(tmp_path / "t.csv", head + rows) == ([(5, "probe", "kurtosis", "2", 9.0)], [])


HOOKS = {"outliers/kurtosis/2": 1.5, "outliers/kurtosis_skipped/2": 1.2, "outliers/attn_out/kurtosis/2": 9.0}
"""What a probe returns and a callback logs at a step."""
LATER = {"outliers/kurtosis/2": 20.0, "outliers/kurtosis/unembed": 2.0}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.jsonl", json.dumps({"step": 0, **HOOKS}) + "\n" + json.dumps({"step": 100, **LATER})),
        ("wandb.jsonl", json.dumps({"_step": 0, **HOOKS}) + "\n" + json.dumps({"_step": 100, **LATER})),
        ("log.csv", "step,outliers/kurtosis/2,outliers/kurtosis_skipped/2,outliers/kurtosis/unembed\n"
                    "0,1.5,1.2,\n100,20,,2\n"),
        ("wandb.csv", "_step,train/outliers/kurtosis/2,train/outliers/kurtosis/unembed\n0,1.5,\n100,20,2\n"),
        ("trainer_state.json", json.dumps({"log_history": [{"step": 0, **HOOKS}, {"step": 100, **LATER}]}, indent=2)),
    ],
)  # fmt: skip
def test_the_log_of_the_hooks_is_read(tmp_path: Path, name: str, text: str) -> None:
    rows, unknown = read(tmp_path / name, text)
    assert sorted(rows) == [
        (0, "probe", "kurtosis", "2", 1.5),
        (100, "probe", "kurtosis", "2", 20.0),
        (100, "probe", "kurtosis", "unembed", 2.0),
    ]
    assert unknown == []


def test_what_else_a_trainer_logs_is_named_and_left_out(tmp_path: Path) -> None:
    history = [{"step": 5, "epoch": 0.1, "total_flos": 2.0, "outliers/kurtosis/1": 3.0}, {"train_runtime": 9.0}]
    rows, unknown = read(tmp_path / "trainer_state.json", json.dumps({"log_history": history}))
    assert rows == [(5, "probe", "kurtosis", "1", 3.0)]
    assert unknown == ["epoch", "total_flos"]


def test_what_is_no_metric_is_named_and_left_out(tmp_path: Path) -> None:
    assert read(tmp_path / "t.csv", "step,layer,kurtosis,mood\n0,unembed,2,good\n") == (
        [(0, "probe", "kurtosis", "unembed", 2.0)],
        ["mood"],
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "kurtosis\n1\n", "t.csv:1 has no column step"),
        ("t.csv", "", "t.csv:1 has no column step"),
        ("t.csv", "step,kurtosis\n1.5,2\n", "t.csv:2: expected a step, which is a whole number from 0, got '1.5'"),
        ("t.csv", "step,kurtosis\n0,2\n5,much\n", "t.csv:3: expected a number for kurtosis, got 'much'"),
        ("t.csv", "step,layer,kurtosis\n0,-1,2\n", "t.csv:2: expected a layer, got '-1'"),
        ("t.csv", "step,kurtosis\n0,2,3\n", "t.csv:2 has more cells"),
        ("t.csv", "step,kurtosi\n0,2\n", "holds no metric"),
        ("t.jsonl", '{"step": 0, "kurtosis": 2}\n[1]\n', "t.jsonl:2 is no JSON object with a step"),
        ("t.jsonl", "[" * 100_000, "t.jsonl:1 is no JSON object with a step"),
        ("t.jsonl", '{"step": 0, "kurtosis": ' + "[" * 100_000 + "}", "t.jsonl:1 is no JSON object with a step"),
        ("t.csv", "step,kurtosis\n0," + "9" * 200_000 + "\n", "t.csv:2 is no line of a CSV: field larger"),
        ("t.csv", "step,layer,kurtosis\n0,\u00b2,2\n", "t.csv:2: expected a layer, got '\u00b2'"),
        ("t.csv", "step,layer,kurtosis\n0,\u0663,2\n", "t.csv:2: expected a layer, got '\u0663'"),
        ("t.csv", "step,layer,kurtosis\n0,99999999999999999999,2\n", "t.csv:2: expected a layer"),
        ("t.csv", "step,kurtosis\n1e300,2\n", "t.csv:2: expected a step"),
        ("t.csv", "step,kurtosis,kurtosis\n0,2,700\n", "t.csv:1 names the column kurtosis twice"),
        ("t.csv", "step,kurtosis\n1_0,2\n", "t.csv:2: expected a step"),
        ("t.csv", "step,kurtosis\n10,1_000\n", "t.csv:2: expected a number for kurtosis, got '1_000'"),
        ("t.csv", "step,kurtosis\n", "t.csv holds no values"),
        ("t.jsonl", '{"step": true, "kurtosis": 2}', "t.jsonl:1: expected a step"),
        ("t.jsonl", '{"step": 1, "kurtosis": false}', "t.jsonl:1: expected a number for kurtosis, got False"),
        ("t.jsonl", '{"step": 1, "kurtosis": [2]}', "t.jsonl:1: expected a number for kurtosis, got [2]"),
        ("t.jsonl", '{"step": 1, "kurtosis": ' + "9" * 400 + "}", "t.jsonl:1: expected a number for kurtosis, got 999"),
        ("t.jsonl", '{"step": ' + "9" * 400 + ', "kurtosis": 2}', "t.jsonl:1: expected a step"),
        ("trainer_state.json", '{"log_history": [{"step": 1, "outliers/kurtosis/\u00b2": 2}]}', "holds no metric"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(OfeError) as error:
        read(tmp_path / name, text)
    assert message in error.value.message
    assert error.value.exit_code == 2


def test_values_that_a_later_line_replaces_are_counted(tmp_path: Path) -> None:
    """As in a file of two runs, of which one alone would be drawn."""
    text = "run,step,metric,layer,value\na,0,kurtosis,2,7\nb,0,kurtosis,2,1.5\nc,0,kurtosis,2,1.5\nb,5,mmr_mean,2,3\n"
    (tmp_path / "t.csv").write_text(text)
    rows, _, repeated = read_foreign_trace(tmp_path / "t.csv")
    assert rows["value"].tolist() == [1.5, 3.0]
    assert repeated == 1


def test_a_line_of_json_may_have_other_line_ends_in_its_texts(tmp_path: Path) -> None:
    text = '{"step": 0, "layer": 2, "kurtosis": 1.5, "note": "a\u2028b"}\n'
    assert read(tmp_path / "t.jsonl", text) == (ROWS[:1], ["note"])


def test_blanks_around_names_and_cells_count_for_nothing(tmp_path: Path) -> None:
    text = "step, layer, kurtosis\r0, 2, 1.5\r\r100, 2, 20\r"
    assert read(tmp_path / "t.csv", text) == ([row for row in ROWS if row[1] == "probe"], [])


def test_a_metric_of_another_split_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(OfeError) as error:
        read(tmp_path / "t.csv", "step,split,metric,value\n0,eval,kurtosis,2\n")
    assert error.value.hint == "kurtosis is of another split than its line says"


def test_a_name_close_to_a_metric_is_suggested(tmp_path: Path) -> None:
    with pytest.raises(OfeError) as error:
        read(tmp_path / "t.csv", "step,kurtosi\n0,2\n")
    assert error.value.hint == "kurtosi is perhaps kurtosis"


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OfeError, match=r"cannot read .*: No such file"):
        read_foreign_trace(tmp_path / "nothing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OfeError, match="is not text in UTF-8"):
        read_foreign_trace(tmp_path / "binary.csv")
