"""Pictures of quantisations."""

from __future__ import annotations

import pytest

from reproduce.plots.quantised import draw_quantisations


def reading(name: str, kurtosis: float | None, tensor: float) -> dict[str, object]:
    rows = [("tensor", "per tensor", tensor), ("token", "activations per token", 1.01), ("keys-64", "keys", None)]
    return {
        "model": name,
        "ppl": 10.0,
        "kurtosis": {"mean": kurtosis, "layers": {}},
        "published": [{"bits": 8, "ppl": 10.0 * tensor}],
        "rows": [{"row": row, "label": label, "ratio": ratio} for row, label, ratio in rows],
    }


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_equal_readings_give_equal_pictures(kind: str) -> None:
    readings = [reading("one", 2.0, 1.02), reading("two", 300.0, 5e4)]
    assert draw_quantisations(readings, kind) == draw_quantisations(readings, kind)


def test_rows_and_models_are_named() -> None:
    one = draw_quantisations([reading("one", None, 1.5)], "svg").decode()
    assert one.count("<!-- per tensor -->") == 1
    assert "published protocol, W8A8" in one
    assert "<!-- keys -->" not in one, "a row that does not apply has no place"
    both = draw_quantisations([reading("one", 2.0, 1.5), reading("two", 300.0, 2.0)], "svg").decode()
    assert "mean kurtosis" in both
    assert "mean kurtosis" not in one
