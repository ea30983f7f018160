"""Devices by name, for planning on another machine than this one: published rates, and what training gets of them.

    device      memory    bf16, dense    fp32 (not TF32)   source
    h100        80 GB     989 TFLOP/s    67 TFLOP/s        Nvidia, "H100 Tensor Core GPU" data sheet, H100 SXM
    h100-pcie   80 GB     756 TFLOP/s    51 TFLOP/s        the same, H100 PCIe
    h200        141 GB    989 TFLOP/s    67 TFLOP/s        Nvidia, "H200 Tensor Core GPU" data sheet, H200 SXM
    a100        80 GB     312 TFLOP/s    19.5 TFLOP/s      Nvidia, "A100 Tensor Core GPU" data sheet, A100 80GB
    a100-40gb   40 GB     312 TFLOP/s    19.5 TFLOP/s      Nvidia, "Ampere Architecture In-Depth", A100 40GB
    l4          24 GB     121 TFLOP/s    30.3 TFLOP/s      Nvidia, "L4 Tensor Core GPU" data sheet
    cpu         64 GB     4 TFLOP/s      2 TFLOP/s         16 cores, 2 GHz, two AVX-512 units each: 64 FLOP a cycle

The data sheets of the H100, the H200 and the L4 state rates of bf16 with sparsity (1,979, 1,513 and 242 TFLOP/s), of
which dense matrices get half. That of the A100 states both. A rate is that of the device's tensor cores in bf16 and of
its other cores in fp32.

A training gets `EFFICIENCY` of such a rate, and a step takes at least `OVERHEAD_S`. Both are assumptions and no
measurement: models of this size reach between a fifth and a half of a device. N devices are N times as fast as one,
less `SCALING_LOSS` at each doubling. `ofe plan --measure` on the machine itself is better than all of this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from reproduce.errors import OfeError
from reproduce.machine import Gpu, Machine
from reproduce.plan.calibration import Calibration, Rate

EFFICIENCY = 0.3
"""Share of the published rate that a training gets."""
OVERHEAD_S = {"cuda": 0.02, "cpu": 0.005}
"""Least time of a step: kernels are launched one by one."""
STARTUP_S = 15.0
SCALING_LOSS = 0.05
"""Share of the speed that is lost to communication at each doubling of the devices."""


@dataclass(frozen=True)
class NamedDevice:
    """The published facts of a device."""

    name: str
    memory_bytes: int
    bf16_flop_per_s: float
    fp32_flop_per_s: float
    cores: int = 0
    """Cores of a processor; 0 for an accelerator."""


DEVICES: dict[str, NamedDevice] = {
    "h100": NamedDevice("NVIDIA H100", 80 * 10**9, 989e12, 67e12),
    "h100-pcie": NamedDevice("NVIDIA H100 PCIe", 80 * 10**9, 756e12, 51e12),
    "h200": NamedDevice("NVIDIA H200", 141 * 10**9, 989e12, 67e12),
    "a100": NamedDevice("NVIDIA A100", 80 * 10**9, 312e12, 19.5e12),
    "a100-40gb": NamedDevice("NVIDIA A100 40GB", 40 * 10**9, 312e12, 19.5e12),
    "l4": NamedDevice("NVIDIA L4", 24 * 10**9, 121e12, 30.3e12),
    "cpu": NamedDevice("a processor of 16 cores", 64 * 10**9, 4e12, 2e12, cores=16),
}


def named_device(name: str) -> NamedDevice:
    """The device called `name`.

    Raises:
        OfeError: there is none (exit code 2).
    """
    if name not in DEVICES:
        hint = f"choose one of {', '.join(DEVICES)}"
        raise OfeError(f"no device is called {name!r}", hint=hint, exit_code=2)
    return DEVICES[name]


def machine_of(device: NamedDevice, count: int) -> Machine:
    """A machine with `count` such devices and nothing else to do."""
    gpus = () if device.cores else (Gpu(device.name, device.memory_bytes),) * count
    cores = device.cores * count or 16
    memory = device.memory_bytes * count if device.cores else 10**12
    return Machine(
        device.name, cores, memory, bf16=True, gpus=gpus, os="", asked_device="cpu" if device.cores else None
    )


def rates_of(device: NamedDevice, threads: int) -> Calibration:
    """The rates of `device`, for runs of `threads` threads each where it is a processor."""
    kind = "cpu" if device.cores else "cuda"
    share = EFFICIENCY * (min(1.0, threads / device.cores) if device.cores else 1.0)
    rates = {}
    for precision, peak in (
        ("bf16", device.bf16_flop_per_s),
        ("fp16", device.bf16_flop_per_s),
        ("fp32", device.fp32_flop_per_s),
    ):
        speed = share * peak
        # Preconditioners are computed in float32.
        rate = Rate(((speed * OVERHEAD_S[kind], OVERHEAD_S[kind]),), share * device.fp32_flop_per_s, STARTUP_S)
        rates[f"{kind}/{precision}/{threads}"] = rate
    return Calibration(rates, basis="published rates")


def speed_of(devices: int) -> float:
    """How many times as fast as one device `devices` of them are reckoned to be."""
    return float(devices * (1 - SCALING_LOSS) ** math.log2(devices))


def assumptions(device: NamedDevice, devices: int) -> str:
    """What an estimate for `device` rests on, in words for the user."""
    loss = f", less {SCALING_LOSS:.0%} at each doubling of the devices" if devices > 1 else ""
    return (
        f"{device.name}: {EFFICIENCY:.0%} of its published {device.bf16_flop_per_s / 1e12:g} TFLOP/s in bf16 "
        f"and {device.fp32_flop_per_s / 1e12:g} in fp32 are assumed{loss}"
    )
