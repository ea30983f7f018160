"""A probe on a module of your own, in ten lines:

    with outlier_probe(model) as probe:
        for batch in batches:
            model(batch)
    reading = probe.reading()
    reading.by_layer("kurtosis")                        {"1": 1.02, "2": 3.4, ..., "unembed": 2.1}
    reading.by_layer("kurtosis", "skipped")             the same without the first position of each sequence

In a training loop of your own, the probe is created once and measures every n-th step:

    probe = outlier_probe(model, every=100)
    for step, batch in enumerate(loader):
        loss = model(**batch).loss
        ...
        if (values := probe.step()) is not None:        {"outliers/kurtosis/1": 1.02, ...}
            wandb.log(values, step=step)

The blocks are found at the first forward pass, which is run once more for that, without gradients. A measured forward
pass keeps sums on the device; the device is waited for only when values are asked for, once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from reproduce.checkpoints.structure import Hooks, Structure, attach, find_structure
from reproduce.measuring.observer import OutlierObserver, OutlierReading


def outlier_probe(
    model: nn.Module,
    *,
    skip_first: int = 1,
    points: tuple[str, ...] = (),
    correlations: bool = False,
    every: int = 1,
    blocks: nn.Module | None = None,
) -> OutlierProbe:
    """A probe on `model`, which sees each of its forward passes until it is closed.

    Args:
        skip_first: positions at the start of each sequence that the second column leaves out.
        points: places inside each block that are measured too: attn_out, mlp_out, down_in, q, k.
        correlations: whether the RMS correlations are measured too.
        every: number of steps from one measured step to the next; see `OutlierProbe.step`.
        blocks: the list of blocks, where it cannot be found by structure.

    Raises:
        ValueError: `every` is below 1.
    """
    return OutlierProbe(model, skip_first, points, correlations, every, blocks)


class OutlierProbe:
    """Measures the forward passes of a module; `outlier_probe` creates it. It is also a context that closes it.

    In a group of processes each one measures its own batches.
    """

    def __init__(
        self,
        model: nn.Module,
        skip_first: int,
        points: tuple[str, ...],
        correlations: bool,
        every: int,
        blocks: nn.Module | None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every is a number of steps, 1 or more, not {every}")
        self.model, self.every, self.steps = model, every, 0
        self.structure: Structure | None = None
        """The blocks that were found, from the first forward pass on."""
        self._points, self._blocks = points, blocks
        self._observer = OutlierObserver(skip_first, correlations)
        self._finding = False
        # It runs before the hooks that `attach` installs during the first forward pass.
        self._first = model.register_forward_pre_hook(self._before, with_kwargs=True)
        self._hooks: Hooks | None = None

    @property
    def active(self) -> bool:
        """Whether the present step is measured."""
        return self.steps % self.every == 0

    def reading(self) -> OutlierReading:
        """What was measured since the last `reset`.

        Raises:
            ValueError: no forward pass was.
        """
        return self._observer.reading()

    def reset(self) -> None:
        """Forget what was measured."""
        self._observer.reset()

    def step(self, prefix: str = "outliers") -> dict[str, float] | None:
        """End a step: every value of it under a name for a logger, or None if the step was not measured.

        Steps 0, `every`, 2 `every`, ... are measured. All forward passes of a step count together.
        """
        values = None
        if self.active and self._observer.sums:
            values = self.reading().flat(prefix)
        self.reset()
        self.steps += 1
        return values

    def close(self) -> None:
        """Remove all hooks from the module. What was measured stays."""
        self._first.remove()
        if self._hooks is not None:
            self._hooks.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # -- hooks -------------------------------------------------------------------------------------

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._finding:
            return
        if self.structure is None and self.active:
            self._find(args, kwargs)
        mask = kwargs.get("attention_mask")
        self._observer.mask = mask if isinstance(mask, Tensor) and mask.ndim == 2 else None

    def _find(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._finding = True
        try:
            with _undisturbed(self.model):
                self.structure = find_structure(self.model, lambda: self.model(*args, **kwargs), blocks=self._blocks)
        finally:
            self._finding = False
        self._hooks = attach(self.model, self.structure, self._show, self._points)
        self._hooks.begin()  # the present pass has begun before they were there

    def _show(self, point: str, layer: str, x: Tensor) -> None:
        if self.active and not self._finding:
            self._observer(point, layer, x)


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """A context in which a forward pass changes neither the random numbers that follow nor running statistics."""
    devices = sorted(
        {parameter.device.index or 0 for parameter in model.parameters() if parameter.device.type == "cuda"}
    )
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng(devices):
        model.eval()
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training
