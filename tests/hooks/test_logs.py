"""What a probe logs is read back by `ofe plot --add`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from reproduce.hooks import outlier_probe
from reproduce.store.foreign import HOOK_POINTS, read_foreign_trace
from tests.checkpoints.tiny import build, inputs


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_the_log_of_a_probe_is_read_back(tmp_path: Path, form: str) -> None:
    model = build("Llama")
    probe = outlier_probe(model, points=HOOK_POINTS, correlations=True)
    lines, kurtosis = [], {}
    for step in range(2):
        model(**inputs("Llama", seed=step))
        kurtosis |= {(step, layer): value for layer, value in probe.reading().by_layer("kurtosis").items()}
        lines.append({"step": step, **(probe.step() or {})})
    probe.close()
    assert {name.split("/")[1] for name in lines[0] if name.count("/") == 3} == set(HOOK_POINTS)
    file = tmp_path / f"log.{form}"
    if form == "jsonl":
        file.write_text("\n".join(map(json.dumps, lines)))
    else:
        with file.open("w", newline="") as stream:
            rows = csv.DictWriter(stream, lines[0])
            rows.writeheader()
            rows.writerows(lines)

    trace, unknown, _ = read_foreign_trace(file)

    of_kurtosis = trace[trace["metric"] == "kurtosis"]
    found = dict(zip(zip(of_kurtosis["step"], of_kurtosis["layer"], strict=True), of_kurtosis["value"], strict=True))
    assert found == pytest.approx(kurtosis)
    assert unknown == []
