"""A commented start for a figure of one's own: the spec of an existing figure without what only the paper's need."""

from __future__ import annotations

import re

from reproduce.specs.resolve import shown_runs
from reproduce.specs.schema import Experiment, RunRef, RunSpec

_HEAD = """\
# A figure of your own, begun from {source}. Only id, title, setting, runs and plot are needed.
#
#   ofe show {file}         reads it back, and names every mistake with its line
#   ofe plan {file}         says what it costs
#   ofe reproduce {file}    trains what is missing, draws it, judges its claims
#
id: {id}
title: {title}

# The recipe that the runs share: its model, data, optimiser and steps at each scale. It is the name of one that comes
# with ofe (`ofe list` groups the figures by it), or the path of a file of yours, such as ./my-setting.yaml.
setting: {setting}
"""
_RUNS = """\

# Each run is one training. A name means a run of the setting.
runs:
"""
_OWN = """\
  # A run of your own says what it changes of the setting and keeps the rest. Remove the leading # of these lines:
  # - name: {id}-run
  #   label: mine
  #   block: pre-ln              # or pre-rms, pre-srms, post-ln, op, ...
  #   optimizer: {{lr: 0.002}}
  # A file with these fields may stand here as well:  - ./my-run.yaml
"""
_PLOT = """\

# What is drawn: the metrics of `y`, and which of run, layer, metric and setting make the panels and the lines.
"""
_CLAIMS = """\

# What you expect. Every claim is judged when the figure is drawn; leave out those that you do not want.
"""


def start_of(experiment: Experiment, source: str, text: str, own_id: str, file: str) -> str:
    """The text of a new spec.

    Args:
        experiment: what it begins from.
        source, text: the name under which the user gave it, and the text of its file.
        own_id: id of the new figure.
        file: how the user calls the new file.
    """
    sections = _sections(text)
    given = experiment.setting
    setting = "null" if given is None else given if isinstance(given, str) else f"[{', '.join(given)}]"
    parts = [_HEAD.format(source=source, file=file, id=own_id, title=_quoted(experiment.title), setting=setting)]
    if experiment.kind != "training":
        parts.append(f"kind: {experiment.kind}\n")
    if experiment.runs:
        parts += [_RUNS, _run_lines(experiment, sections), _OWN.format(id=own_id)]
    parts += [_PLOT, sections["plot"]]
    if "claims" in sections:
        parts += [_CLAIMS, sections["claims"]]
    return "".join(parts)


def _run_lines(experiment: Experiment, sections: dict[str, str]) -> str:
    """The runs, one a line with its label behind it; as they stand where one is more than a name."""
    if any(isinstance(run, RunSpec | RunRef) for run in experiment.runs):
        body = sections["runs"].removeprefix("runs:").lstrip(" ")
        if body.startswith("\n"):
            return body.removeprefix("\n")
        return "".join(f"  - {line}\n" for line in _flow_items(body))
    labels = {run.name: run.label for _, run, _ in shown_runs(experiment)}
    width = max(len(str(run)) for run in experiment.runs)
    return "".join(f"  - {run:<{width}}  # {labels[str(run)]}\n" for run in experiment.runs)


def _flow_items(text: str) -> list[str]:
    """The entries of a list in square brackets, each as it is written."""
    inner = " ".join(text.split()).removeprefix("[").removesuffix("]")
    items, depth, item = [], 0, ""
    for letter in inner:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            items.append(item.strip())
            item = ""
        else:
            item += letter
    return [entry for entry in [*items, item.strip()] if entry]


def _sections(text: str) -> dict[str, str]:
    """The top-level keys of a spec, each with the lines that belong to it."""
    parts = re.split(r"^(?=[A-Za-z_]\w*:)", text, flags=re.MULTILINE)
    return {part.partition(":")[0]: part for part in parts if re.match(r"[A-Za-z_]\w*:", part)}


def _quoted(title: str) -> str:
    """A title that YAML reads as text whatever stands in it."""
    return '"' + title.replace("\\", "\\\\").replace('"', '\\"') + '"'
