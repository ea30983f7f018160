"""What `ofe measure` found, as JSON, as a table on one screen, as a CSV file and as a picture."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reproduce.cli.console import Ui

if TYPE_CHECKING:
    import pandas as pd

    from reproduce.specs.runs import ResolvedRun
    from reproduce.store.runs import RunFolder

SHOWN = {
    "kurtosis": "kurtosis",
    "mmr_mean": "MMR",
    "mmr_max": "max",
    "activation_rms": "RMS",
    "input_correlation_mean": "corr.",
}
"""Metrics in the table of one model -> their titles. The output of `--json` has all metrics.

The mean and the maximum of MMR stand beside one another, and "corr." is the mean input correlation.
"""
IN_ONE_COLUMN = ("mmr_max", "activation_rms")
"""Metrics whose value without the first positions is left to `--json`, so that the table fits 80 columns."""
SHOWN_OF_SEVERAL = ("kurtosis", "mmr_mean")
"""Metrics in the table of several models."""
WORST = 3
"""Neurons of each layer that `--json` names."""
SHOWN_NEURONS = 2
"""Neurons that are described below the table."""
SHOWN_TOKENS = 3
"""Tokens that are shown of each of them."""

Reading = dict[str, Any]


def reading_of(job: ResolvedRun, folder: RunFolder) -> Reading:
    """The result of one measurement as `ofe measure --json` gives it."""
    from reproduce.config import TextData

    config: Any = job.config
    provenance = folder.provenance()
    layers = _layers(folder.read_trace(), "stream" if config.text is not None else config.point)
    if config.text is not None:
        positions = config.text.seq_len
    else:
        data = job.data
        positions = data.seq_len if isinstance(data, TextData) else 1
    about: Reading = {
        "model": job.slug if job.parent is None else job.parent.slug,
        "revision": None if job.training is not None else config.parent.revision,
        "tokens": config.examples * positions,
        "skip_first": config.skip_first,
        "layers": layers,
        "neurons": provenance.get("neurons") or _neurons(folder),
        "int8": provenance.get("int8"),
        "key": job.key,
    }
    if unused := provenance.get("model", {}).get("unused_tensors"):
        about["unused_tensors"] = unused
    if job.training is not None:
        about |= {"step": config.parent.step, "examples": config.examples}
        about["same_trace"] = provenance.get("parent", {}).get("same_trace", True)
    else:
        about |= {"model": config.parent.name, "commit": config.parent.fingerprint}
        about |= {} if config.parent.step is None else {"step": config.parent.step}
    return about


def _layers(trace: pd.DataFrame, stream: str) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    columns = {"probe": "all", "skipped": "skipped"}
    for split, name, layer, value in zip(trace["split"], trace["metric"], trace["layer"], trace["value"], strict=True):
        point, _, metric = name.rpartition("/")
        entry = found.setdefault((point, layer), {"point": point or stream, "layer": layer, "all": {}, "skipped": {}})
        entry[columns[split]][metric] = value if abs(value) < float("inf") else str(value)
    return [found[place] for place in sorted(found, key=lambda place: (place[0], *_order(place[1])))]


def _order(layer: str) -> tuple[bool, int]:
    return (layer == "unembed", 0 if layer == "unembed" else int(layer))


def _neurons(folder: RunFolder) -> list[dict[str, Any]]:
    """The worst neurons of a run that was measured on examples of its own. On which of them they fire is not kept."""
    table, worst = folder.read_moments(), []
    for layer, moments in zip(table["layer"], table["second_moment"], strict=True):
        order = sorted(range(len(moments)), key=lambda neuron: -moments[neuron])[:WORST]
        total = float(sum(moments))
        worst += [
            {"layer": layer, "neuron": neuron, "share": float(moments[neuron]) / total, "tokens": []}
            for neuron in order
        ]
    return worst


# ---------------------------------------------------------------------------------------------------
# On a screen


def print_readings(ui: Ui, readings: Sequence[Reading]) -> None:
    """Print one table for all readings, and below it what it means."""
    if len(readings) == 1:
        (reading,) = readings
        ui.line(_title(reading))
        _print_table(ui, readings, tuple(SHOWN))
        for line in (*_neuron_lines(reading), *_int8_lines(reading)):
            ui.prose(line)
    else:
        _print_table(ui, readings, SHOWN_OF_SEVERAL)
        for reading in readings:
            for line in _int8_lines(reading):
                ui.line(f"{_name(reading)}: {line}")
    for reading in readings:
        for line in _without_values(reading):
            ui.tell(line)
        if unused := reading.get("unused_tensors"):
            ui.tell(
                f"{_name(reading)}: its weights have more blocks than its config.json names: {len(unused)} tensors are "
                f"left out, such as {unused[0]}"
            )
    skipped = max(reading["skip_first"] for reading in readings)
    later = f"; later: without the first {'position' if skipped == 1 else f'{skipped} positions'}" if skipped else ""
    ui.tell(f"layer: input of the block{later}; --json has more")


def _title(reading: Reading) -> str:
    at = f" at step {reading['step']}" if reading.get("step") is not None and not reading["revision"] else ""
    on = f"{reading['examples']} held-out examples" if _own(reading) else f"{reading['tokens']:,} tokens"
    return f"{_name(reading)}{at}, measured on {on}"


def _own(reading: Reading) -> bool:
    return "examples" in reading and reading["int8"] is None


def _name(reading: Reading) -> str:
    return f"{reading['model']}{'@' + reading['revision'] if reading.get('revision') else ''}"


def _print_table(ui: Ui, readings: Sequence[Reading], metrics: Sequence[str]) -> None:
    from rich.table import Table

    several, paired = len(readings) > 1, any(layer["skipped"] for one in readings for layer in one["layers"])
    points = len({layer["point"] for one in readings for layer in one["layers"]}) > 1
    steps = several and any(reading.get("step") is not None and not reading["revision"] for reading in readings)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for title, wanted in (("model", several), ("step", steps), ("point", points)):
        if wanted:
            table.add_column(title, overflow="fold")
    table.add_column("layer", no_wrap=True)
    for metric in metrics:
        table.add_column(SHOWN[metric], justify="right", no_wrap=True)
        if paired and metric not in IN_ONE_COLUMN:
            table.add_column("later", justify="right", no_wrap=True)
    for title in ("neuron", "share"):
        table.add_column(title, justify="right", no_wrap=True)
    for reading in readings:
        worst = {neuron["layer"]: neuron for neuron in reversed(reading["neurons"])}
        for layer in reading["layers"]:
            cells = [layer["layer"]]
            for metric in metrics:
                cells.append(_number(layer["all"].get(metric)))
                if paired and metric not in IN_ONE_COLUMN:
                    cells.append(_number(layer["skipped"].get(metric)))
            neuron = worst.get(layer["layer"]) if layer["point"] in ("stream", "residual", "attention-input") else None
            cells += [str(neuron["neuron"]), f"{float(neuron['share']):.0%}"] if neuron else ["", ""]
            before = [_name(reading)] * several + [str(reading.get("step", ""))] * steps + [layer["point"]] * points
            table.add_row(*before, *cells)
    ui.out.print(table)


def _number(value: float | str | None) -> str:
    """Three digits and no exponent where that is short."""
    if value is None:
        return ""
    number = float(value)
    return f"{number:.0f}" if 100 <= abs(number) < 1e5 else f"{number:.3g}"


def _neuron_lines(reading: Reading) -> Iterator[str]:
    """What the worst neurons are, where they are the first, and on which tokens they fire."""
    finite = [neuron for neuron in reading["neurons"] if math.isfinite(float(neuron["share"]))]
    first = [neuron for neuron in finite if neuron is _first(reading, neuron["layer"])]
    worst: dict[int, dict[str, Any]] = {}
    for neuron in sorted(first, key=lambda neuron: -neuron["share"]):
        worst.setdefault(neuron["neuron"], neuron)
    for neuron in list(worst.values())[:SHOWN_NEURONS]:
        layers = [one["layer"] for one in first if one["neuron"] == neuron["neuron"]]
        yield (
            f"neuron {neuron['neuron']}: {neuron['share']:.0%} of {_layer(neuron['layer'])},"
            f" the first in {_spans(layers, [one['layer'] for one in first])}"
        )
        if neuron["tokens"]:
            tokens = _different(neuron["tokens"])
            places = {token["position"] for token in tokens}
            if len(places) == 1:
                fires = [repr(token["text"]) for token in tokens]
                largest = float(tokens[0]["value"])
                yield f"  it fires at position {places.pop()}, up to {largest:.3g}, on {', '.join(fires)}"
            else:
                fires = [
                    f"{token['text']!r} at position {token['position']} ({float(token['value']):.3g})"
                    for token in tokens
                ]
                yield f"  it fires on {', '.join(fires)}"


def _layer(layer: str) -> str:
    return layer if layer == "unembed" else f"layer {layer}"


def _different(tokens: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first tokens that differ in text or position."""
    different: dict[tuple[str, int], dict[str, Any]] = {}
    for token in tokens:
        different.setdefault((token["text"], token["position"]), token)
    return list(different.values())[:SHOWN_TOKENS]


def _first(reading: Reading, layer: str) -> dict[str, Any]:
    return next(neuron for neuron in reading["neurons"] if neuron["layer"] == layer)


def _spans(layers: Sequence[str], every: Sequence[str]) -> str:
    """Layers as spans of neighbours: `layers 4 to 29 and unembed`."""
    spans: list[list[str]] = []
    for layer in layers:
        if spans and every.index(layer) == every.index(spans[-1][-1]) + 1:
            spans[-1].append(layer)
        else:
            spans.append([layer])
    said = [span[0] if len(span) == 1 else f"{span[0]} to {span[-1]}" for span in spans]
    return said[0] if layers == ["unembed"] else f"layer{'s' if len(layers) > 1 else ''} {', '.join(said)}"


def _int8_lines(reading: Reading) -> Iterator[str]:
    if (int8 := reading["int8"]) is not None:
        whole, each = float(int8["per_tensor_db"]), float(int8["per_token_db"])
        if math.isfinite(whole) and math.isfinite(each):
            yield (
                f"int8 of {_layer(int8['layer'])}: {whole:.0f} dB of signal to noise with one scale,"
                f" {each:.0f} dB with one a token"
            )


def _without_values(reading: Reading) -> Iterator[str]:
    """From which layer on a model has no kurtosis, if there is such a layer."""
    found = [one["layer"] for one in reading["layers"] if not math.isfinite(float(one["all"].get("kurtosis", 0)))]
    if found:
        yield (
            f"{_name(reading)} has no kurtosis in {_layer(found[0])}{' and others' if len(found) > 1 else ''}: "
            "activations there are infinite, not a number, or all zero"
        )


# ---------------------------------------------------------------------------------------------------
# Files


def write_csv(path: Path, readings: Sequence[Reading]) -> None:
    """Write every value: columns model, revision, step, point, layer, positions (all or skipped), metric, value."""
    from reproduce.store.atomic import write_text
    from reproduce.store.home import writing_output

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "revision", "step", "point", "layer", "positions", "metric", "value"])
    for reading in readings:
        about = [reading["model"], reading.get("revision") or "", reading.get("step", "")]
        for layer in reading["layers"]:
            for column in ("all", "skipped"):
                for metric, value in layer[column].items():
                    writer.writerow([*about, layer["point"], layer["layer"], column, metric, value])
    with writing_output(path, "--csv"):
        write_text(path, text.getvalue())


def write_plot(path: Path, readings: Sequence[Reading]) -> None:
    """Draw kurtosis over layers, with and without the first positions.

    Raises:
        OfeError: the name of the file ends in no image format (exit code 2).
    """
    from reproduce.choices import image_format
    from reproduce.plots.measured import draw_readings
    from reproduce.store.atomic import write_bytes
    from reproduce.store.home import writing_output

    picture = draw_readings(readings, image_format(path))
    with writing_output(path, "--plot"):
        write_bytes(path, picture)
