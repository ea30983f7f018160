"""What `ofe quantise` found, as JSON, as tables on one screen, and as a picture."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.cli.console import Ui

if TYPE_CHECKING:
    from reproduce.specs.runs import ResolvedRun
    from reproduce.store.runs import RunFolder

SHOWN_TENSORS = 5
"""Tensors that are named below the table."""

Reading = dict[str, Any]


def reading_of(job: ResolvedRun, folder: RunFolder) -> Reading:
    """The result of one quantisation as `ofe quantise --json` gives it."""
    from reproduce.quantise.rows import ROWS

    config: Any = job.config
    trace, said = folder.read_trace(), _numbers(folder.provenance()["quantised"])
    loss = float(trace[(trace["split"] == "eval") & (trace["metric"] == "loss")]["value"].iloc[0])
    streams = trace[(trace["split"] == "probe") & (trace["metric"] == "kurtosis")]
    kurtosis = dict(zip(streams["layer"], map(float, streams["value"]), strict=True))
    blocks = [value for layer, value in kurtosis.items() if layer != "unembed"]
    order = list(ROWS)
    text: Any = job.data
    float_ppl = said["ppl"]
    return {
        "model": config.parent.name if job.parent is None else job.parent.slug,
        "revision": config.parent.revision if job.parent is None else None,
        "step": config.parent.step,
        "key": job.key,
        "tokens": config.examples * text.seq_len,
        "weights": config.weights,
        "activations": config.activations,
        "loss": loss,
        "ppl": float_ppl,
        "kurtosis": {"mean": statistics.fmean(blocks) if blocks else None, "layers": kurtosis},
        "published": [
            {
                "bits": int(bits),
                "quantisers": said["quantisers"],
                "ppl": statistics.fmean(found),
                "ppl_std": statistics.stdev(found) if len(found) > 1 else None,
                "seeds": found,
            }
            for bits, found in said["widths"].items()
        ],
        "rows": [
            {
                "row": name,
                "label": ROWS[name].label,
                "family": ROWS[name].family,
                "ppl": values.get("ppl"),
                "ratio": values["ppl"] / float_ppl if "ppl" in values else None,
                "weight_bits": values.get("weight_bits"),
                "flops_per_token": values.get("flops"),
                "note": values.get("note", ""),
                "refused": values.get("refused"),
            }
            for name, values in sorted(said["rows"].items(), key=lambda item: order.index(item[0]))
        ],
        "tensors": said["tensors"],
    }


def _numbers(value: Any) -> Any:
    """What was read of a provenance, in which texts stand for numbers that are not finite, with the numbers again."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def print_readings(ui: Ui, readings: Sequence[Reading]) -> None:
    """A table for each model: perplexity by row, and the tensors that lose most."""
    for number, reading in enumerate(readings):
        if number:
            ui.line("")
        _print(ui, reading)


def _print(ui: Ui, reading: Reading) -> None:
    mean = reading["kurtosis"]["mean"]
    about = f"{reading['model']}: {reading['tokens']:,} held-out tokens"
    ui.line(about + (f", mean kurtosis {mean:.3g}" if mean is not None else ""))
    rows = [["float", "32", _number(reading["ppl"]), ""]]
    for published in reading["published"]:
        bits, spread = published["bits"], published["ppl_std"]
        shown = _number(published["ppl"]) + (f" ± {spread:.2g}" if spread is not None else "")
        label = f"published protocol, W{bits}A{bits}, {len(published['seeds'])} calibration sets"
        rows.append([label, str(bits), shown, _ratio(published["ppl"] / reading["ppl"])])
    for row in reading["rows"]:
        if row["refused"] is None:
            rows.append([row["label"], f"{row['weight_bits']:.3g}", _number(row["ppl"]), _ratio(row["ratio"])])
    ui.table([f"W{reading['weights']}A{reading['activations']}", "weight bits", "perplexity", "x float"], rows)
    for row in reading["rows"]:
        if row["refused"] is not None:
            ui.tell(f"{row['label']}: does not apply, {row['refused']}")
        elif row["note"]:
            ui.tell(f"{row['label']}: {row['note']}")
    worst = [one for one in reading["tensors"] if one["kl"] is not None]
    if worst:
        ui.line("")
        ui.line("tensors that lose most, each quantised alone with one scale")
        shown_tensors = sorted(worst, key=lambda one: -one["kl"])[:SHOWN_TENSORS]
        ui.table(
            ["layer", "tensor", "SQNR", "KL of logits"],
            [[one["layer"], one["tensor"], f"{one['sqnr_db']:.1f} dB", f"{one['kl']:.2g}"] for one in shown_tensors],
        )


def _number(value: float) -> str:
    return f"{value:,.2f}" if value < 1e6 else f"{value:.2g}"


def _ratio(value: float) -> str:
    return f"{value:,.3f}" if value < 100 else f"{value:.3g}"


def plot_readings(path: Path, readings: Sequence[Reading]) -> None:
    """Write the picture of the readings to `path`, whose ending says the format.

    Raises:
        OfeError: there is no such format, or the file cannot be written.
    """
    from reproduce.choices import image_format
    from reproduce.plots.quantised import draw_quantisations
    from reproduce.store.atomic import write_bytes
    from reproduce.store.home import writing_output

    picture = draw_quantisations(readings, image_format(path))
    with writing_output(path, "--plot"):
        write_bytes(path, picture)
