"""The event files that TensorBoard reads. They need the package `tensorboard`.

This module is apart from the other sinks because it needs a package that an installation may lack.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reproduce.errors import OfeError
from reproduce.store.sinks import Values, flat


class EventFileSink:
    """Writes every value as a scalar named `split/metric/layer`.

    TensorBoard has one chart for each name. The time of an event is its step in seconds, so that equal traces give
    equal events.

    Args:
        folder: the folder of one run, which TensorBoard shows under its name. It is created.

    Raises:
        OfeError: the package tensorboard is missing, or the folder holds event files already (exit code 2).
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            hint = "pip install tensorboard"
            raise OfeError("event files need the package tensorboard", hint=hint, exit_code=2) from None
        if any(folder.glob("events.out.tfevents.*")):  # TensorBoard would show both on top of one another
            hint = "remove it, or name another folder"
            raise OfeError(f"{folder} holds event files already", hint=hint, exit_code=2)
        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder))

    def record(self, step: int, split: str, values: Values) -> None:
        scalars = [self._summary.Value(tag=name, simple_value=value) for name, value in flat(split, values).items()]
        self._writer.add_event(self._event(step=step, wall_time=step, summary=self._summary(value=scalars)))

    def moments(self, step: int, layer: str, second_moment: Sequence[float]) -> None:
        pass

    def close(self) -> None:
        self._writer.close()
