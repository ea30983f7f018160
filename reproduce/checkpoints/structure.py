"""The blocks of a model, found by running it once and looking at what is called.

    structure = find_structure(model, lambda: model(tokens))
    structure.depth, structure.width          12, 768
    with observing(model, structure, show):   show(point, layer, tensor) on each forward pass
        model(tokens)

The blocks are the list of modules (`ModuleList`, or a `Sequential` of a user's own model) whose elements are called one
after another with a stream of one shape, (B, T, d), which each of them returns in that shape. Calls are counted and not
modules, since ALBERT calls one module once a layer. Lists inside a block, such as experts, are part of that block.

The stream is taken where it enters a block, and never from what a block returns: a block may return a tuple, and the
last hidden state that `transformers` returns is normed in some models and not in others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from reproduce.checkpoints.points import Place, find_places
from reproduce.errors import OfeError

Show = Callable[[str, str, Tensor], None]
"""Called as `show(point, layer, tensor)`. Layers count from "1", and "unembed" is the last one."""

LOOKED_FOR = (
    "a ModuleList or Sequential whose modules are called one after another, each with a stream of one shape "
    "(batch, positions, width) that it returns in the same shape"
)


@dataclass(frozen=True)
class Structure:
    """Where the residual stream of a model can be seen."""

    path: str
    """Name of the list of blocks in the model, such as `gpt_neox.layers`."""
    blocks: tuple[nn.Module, ...]
    """The blocks in the order in which they are called. A module that is called several times stands here once."""
    depth: int
    """Number of layers, which is the number of calls."""
    width: int
    """Width d of the stream."""
    head: nn.Module | None
    """The output embedding, whose input is the layer "unembed". None: that layer is the last hidden state."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of the stream: "1" to the depth, and "unembed"."""
        return (*(str(layer) for layer in range(1, self.depth + 1)), "unembed")


def stream_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The stream among the arguments of a block: the first one, that called `hidden_states`, or the first float one."""
    candidates = [*args[:1], kwargs.get("hidden_states"), *args[1:], *kwargs.values()]
    return next((one for one in candidates if _is_stream(one)), None)


def first_tensor(returned: Any) -> Tensor | None:
    """The tensor that a module returns, or the first of several."""
    if isinstance(returned, Tensor):
        return returned
    if isinstance(returned, Mapping):
        returned = tuple(returned.values())
    if isinstance(returned, tuple | list) and returned:
        return first_tensor(returned[0])
    return None


def _is_stream(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 3


# ---------------------------------------------------------------------------------------------------
# Finding


@dataclass
class _List:
    """What is seen of one list of modules during a forward pass."""

    path: str
    modules: tuple[nn.Module, ...]
    called: list[nn.Module] = field(default_factory=list)
    shapes: set[tuple[int, ...]] = field(default_factory=set)
    """Shapes of what goes into its modules and comes out of them."""
    odd: bool = False
    """Whether a call was given no stream, or returned none."""

    def saw_input(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream = stream_of(args, kwargs)
        self.called.append(module)
        self.odd |= stream is None
        if stream is not None:
            self.shapes.add(tuple(stream.shape))

    def saw_output(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        stream = first_tensor(output)
        self.odd |= not _is_stream(stream)
        if stream is not None:
            self.shapes.add(tuple(stream.shape))

    @property
    def is_stack(self) -> bool:
        return bool(self.called) and not self.odd and len(self.shapes) == 1

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for module in self.modules for parameter in module.parameters())


def find_structure(model: nn.Module, run: Callable[[], object], *, blocks: nn.Module | None = None) -> Structure:
    """The blocks of `model` and where its output embedding is.

    Args:
        run: runs the model once on a small batch. It is called without gradients, and once only.
        blocks: the list of blocks, where it cannot be found.

    Raises:
        OfeError: there is no such list in the model, or several that could be it. The message says what was looked for.
    """
    lists = [
        _List(path, tuple(module))
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential) and path and (blocks is None or module is blocks)
    ]
    handles = []
    for one in lists:
        for module in dict.fromkeys(one.modules):
            handles.append(module.register_forward_pre_hook(one.saw_input, with_kwargs=True))
            handles.append(module.register_forward_hook(one.saw_output))
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    found = _outermost([one for one in lists if one.is_stack])
    # A `Sequential` of plain layers passes a stream on too: in a model that also has a `ModuleList`, that is the stack.
    preferred = [one for one in found if isinstance(model.get_submodule(one.path), nn.ModuleList)]
    found = preferred or found
    if len(found) != 1:
        raise _not_found(model, found)
    (stack,) = found
    order = tuple(dict.fromkeys(stack.called))
    width = next(iter(stack.shapes))[-1]
    return Structure(stack.path, order, len(stack.called), width, _output_embedding(model))


def _outermost(lists: list[_List]) -> list[_List]:
    """The lists that are not part of another one."""
    return [one for one in lists if not any(one.path.startswith(f"{other.path}.") for other in lists)]


def _output_embedding(model: nn.Module) -> nn.Module | None:
    """The module that turns the last stream into logits: what `transformers` calls so, or `unembedding`, `lm_head`."""
    named = getattr(model, "get_output_embeddings", None)
    head = named() if callable(named) else None
    for name in ("unembedding", "lm_head"):
        head = head if head is not None else getattr(model, name, None)
    return head if isinstance(head, nn.Module) else None


def _not_found(model: nn.Module, found: list[_List]) -> OfeError:
    kind = type(model).__name__
    if found:
        return OfeError(
            f"the blocks of {kind} could be {' or '.join(one.path for one in found)}: {LOOKED_FOR}",
            hint="measure one part of the model in Python, with `outlier_probe(model, blocks=...)`",
        )
    return OfeError(
        f"the blocks of {kind} were not found, which are {LOOKED_FOR}",
        hint="name them in Python, with `outlier_probe(model, blocks=...)`",
    )


# ---------------------------------------------------------------------------------------------------
# Observing


@contextmanager
def observing(model: nn.Module, structure: Structure, show: Show, points: Sequence[str] = ()) -> Iterator[None]:
    """A context in which each forward pass of `model` shows its stream: `show("stream", layer, x)`, x (B, T, d).

    What a block computes again in a backward pass, under activation checkpointing, is not shown a second time.

    Args:
        show: is called in the middle of the forward pass, layer after layer, and must not change the tensor.
        points: places inside each block that are shown too, under their own names (`reproduce.checkpoints.points`).

    Raises:
        OfeError: the blocks have no such place.
    """
    hooks = attach(model, structure, show, points)
    try:
        yield
    finally:
        hooks.remove()


@dataclass
class Hooks:
    """The hooks of `observing` on one model."""

    handles: list[torch.utils.hooks.RemovableHandle]
    begin: Callable[[], None]
    """Says that a forward pass begins, to hooks that were installed by another hook of that pass."""

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self.handles:
            handle.remove()


def attach(model: nn.Module, structure: Structure, show: Show, points: Sequence[str] = ()) -> Hooks:
    """Install the hooks of `observing`.

    Raises:
        OfeError: the blocks have no such place.
    """
    layer = _Layer()
    places = find_places(structure.blocks, structure.width, points)

    def begin(*_: Any) -> None:
        layer.number, layer.inside = 0, True

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if layer.inside:
            layer.number += 1
            stream = stream_of(args, kwargs)
            assert stream is not None, "a block that was called with a stream is always"
            layer.shape = (stream.shape[0], stream.shape[1])
            show("stream", str(layer.number), stream)

    def enter_head(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        stream = stream_of(args, kwargs)
        if layer.inside and stream is not None:
            show("stream", "unembed", stream)

    def end(module: nn.Module, args: Any, output: Any) -> None:
        layer.inside = False
        last = first_tensor(output)
        if structure.head is None and last is not None:
            show("stream", "unembed", last)

    def inner(place: Place) -> Any:
        def shown(value: Any) -> None:
            stream = first_tensor(value)
            if layer.inside and stream is not None:
                if stream.ndim == 2:  # some models flatten sequences before the MLP
                    stream = stream.view(*layer.shape, -1)
                show(place.point, str(layer.number), stream if place.part is None else place.part(stream))

        if place.takes_input:
            return place.module.register_forward_pre_hook(lambda module, args: shown(args))
        return place.module.register_forward_hook(lambda module, args, output: shown(output))

    handles = [model.register_forward_pre_hook(begin), model.register_forward_hook(end)]
    handles += [block.register_forward_pre_hook(enter, with_kwargs=True) for block in structure.blocks]
    if structure.head is not None:
        handles.append(structure.head.register_forward_pre_hook(enter_head, with_kwargs=True))
    return Hooks(handles + [inner(place) for place in places], begin)


@dataclass
class _Layer:
    """How far the present forward pass is."""

    number: int = 0
    inside: bool = False
    """Whether a forward pass of the whole model is going on."""
    shape: tuple[int, int] = (0, 0)
    """Sequences and positions of the stream."""
