"""The model on its devices: whole on one, whole on each (DDP), or cut up between them (FSDP2).

    ddp     every device holds weights, gradients and optimiser state; gradients are averaged while they are computed
    fsdp    every device holds 1/N of each tensor, cut along its first axis; a block's matrices are put together when
            they are needed and dropped again, in the forward and in the backward pass

All work with the model goes through one module, `Call`, whose hooks see the forward pass whatever method is called.

FSDP2 keeps to what autocast means. The matrices of a block's linear layers are gathered in the type of the products,
to which autocast would round them anyway, their gradients are summed in float32, and the master weights stay float32.
Everything else (embeddings, norms, gains, a tied unembedding) is gathered once a step in float32. A run that measures
in float32 between steps (`probe.moment_updates_layer`) gathers all in float32.

Initialisation: the chief draws the whole model from the seed, on the host, as a single process does. Under FSDP2 the
others build it on the meta device, without memory; group by group it is sent to all, cut, and dropped, so that no
device ever holds more than its shards and one group.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from reproduce.config import Precision, RunConfig
from reproduce.environment import Mode
from reproduce.errors import OfeError
from reproduce.optim.records import OPTIMIZERS
from reproduce.parallel import group

T = TypeVar("T")

PRODUCT_TYPE: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class Call(nn.Module):
    """A module whose forward pass is any piece of work with `model`.

    DDP and FSDP2 act through hooks on the forward pass of a module. Work that goes through here triggers them whichever
    methods of the model it calls.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], T]) -> T:
        return work()


@dataclass(frozen=True)
class ShardGroup:
    """Parameters that are gathered and dropped together."""

    name: str
    modules: list[nn.Module]
    parameters: list[nn.Parameter]
    product_type: bool
    """Whether they are gathered in the type of the products."""

    def shards(self, count: int) -> list[int]:
        """How many of its numbers each of `count` devices holds."""
        return [sum(_shard_size(parameter, count, rank) for parameter in self.parameters) for rank in range(count)]


def shard_groups(model: nn.Module) -> list[ShardGroup]:
    """What FSDP2 gathers together: the matrices of each block, and last, under the name "root", all the rest.

    Blocks are the entries of `model.blocks`.
    """
    groups, seen = [], set[nn.Parameter]()
    for index, block in enumerate(getattr(model, "blocks", ())):
        linears: list[nn.Module] = [module for module in block.modules() if isinstance(module, nn.Linear)]
        parameters = [parameter for linear in linears for parameter in linear.parameters()]
        seen.update(parameters)
        groups.append(ShardGroup(f"blocks.{index}", linears, parameters, product_type=True))
    rest = [parameter for parameter in model.parameters() if parameter not in seen]
    return [*groups, ShardGroup("root", [model], rest, product_type=False)]


def recompute_blocks(model: nn.Module) -> None:
    """Keep only the input of each block for the backward pass, which computes the rest of the block once more."""
    for block in getattr(model, "blocks", ()):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


class DistributedModel:
    """The model of a run as this process holds it: whole, or its shard of what the processes hold together.

    Args:
        model: as the seed gives it, on the host; under fsdp it may be on the meta device except on the chief.
        mode: None for a process without a group. A group of one process may have a mode too.

    Raises:
        OfeError: the optimiser or the batch cannot be divided among so many devices.
    """

    def __init__(
        self, model: nn.Module, config: RunConfig, device: torch.device, mode: Mode | None, *, recompute: bool = False
    ) -> None:
        assert mode is not None or group.size() == 1
        _check(config, mode)
        self.model, self.mode = model, mode
        self.root: nn.Module = Call(model)
        self._trained: nn.Module = self.root
        if recompute:
            recompute_blocks(model)
        if mode == "fsdp":
            self._shard(config, device)
            return
        model.to(device)
        if mode == "ddp":
            self._trained = DistributedDataParallel(self.root, gradient_as_bucket_view=True)

    def _shard(self, config: RunConfig, device: torch.device) -> None:
        # Linear layers return views, and no module here changes one in place, which is what the warning is about.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        mesh = init_device_mesh(device.type, (group.size(),))
        products = PRODUCT_TYPE[config.precision] if config.probe.moment_updates_layer is None else torch.float32
        for part in shard_groups(self.model):
            for parameter in part.parameters:
                _send(parameter, device)
            modules = [self.root] if part.name == "root" else part.modules
            dtype = products if part.product_type else torch.float32
            policy = MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False)
            fully_shard(modules, mesh=mesh, mp_policy=policy)

    def look(self, work: Callable[[], T]) -> T:
        """Run `work`, which uses the model without training it.

        It may use the model several times if every process of the group uses it as often.
        """
        return self.root(work)

    def train(self, work: Callable[[], Tensor]) -> Tensor:
        """Run `work`, which returns the loss that is going to be differentiated."""
        return self._trained(work)

    def accumulating(self, more: bool) -> AbstractContextManager[None]:
        """A context for the forward and backward pass of one micro-batch, which `more` of the same batch may follow.

        Under DDP the gradients of all but the last are only added up locally, and exchanged once. Under FSDP2 they are
        exchanged each time: unreduced gradients would take as much memory as the whole model.
        """
        if more and isinstance(self._trained, DistributedDataParallel):
            return self._trained.no_sync()
        return nullcontext()

    def sum_gradients(self) -> None:
        """Make the mean over devices, which DDP and FSDP2 leave, the sum: each has differentiated its part of the loss.

        The other way, a loss of its own mean, makes every gradient N times larger while it is in float16.
        """
        if self.mode is not None:
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad.mul_(group.size())

    def clip(self, largest: float) -> Tensor:
        """Scale all gradients down together where their norm is above `largest`, and return the norm before that.

        It is not a number yet, because a GPU has to finish its work before it can give one.
        """
        norm = torch.nn.utils.clip_grad_norm_(list(self.model.parameters()), largest)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _check(config: RunConfig, mode: Mode | None) -> None:
    if config.batch_size % group.size():
        raise OfeError(
            f"a batch of {config.batch_size} examples cannot be divided among {group.size()} devices",
            hint="use a number of devices that divides it",
            exit_code=2,
        )
    if mode == "fsdp" and not OPTIMIZERS[config.optimizer.name].elementwise:
        raise OfeError(
            f"{config.optimizer.name} needs whole matrices, which fsdp cuts into parts",
            hint="set OFE_PARALLEL=ddp",
            exit_code=2,
        )


def _send(parameter: nn.Parameter, device: torch.device) -> None:
    """Put the chief's values of `parameter` on `device` everywhere, under the same name and ties."""
    on_meta = parameter.device.type == "meta"
    values = torch.empty_like(parameter, device=device) if on_meta else parameter.detach().to(device)
    dist.broadcast(values, src=0)
    torch.utils.swap_tensors(parameter, nn.Parameter(values))


def _shard_size(parameter: Tensor, count: int, rank: int) -> int:
    """How many numbers of `parameter` the device `rank` of `count` holds.

    FSDP2 gives each device ceil(rows / count) rows until none are left, so the last devices may have fewer or none.
    """
    rows = len(parameter)
    each = math.ceil(rows / count)
    return min(max(rows - rank * each, 0), each) * parameter[0].numel()
