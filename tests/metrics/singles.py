"""Each metric of a stream as its own function gives it, by the name that the table has for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from reproduce.metrics.correlation import (
    eq5_residual,
    feature_correlation_rms,
    input_correlation_mean,
    input_correlation_rms,
)
from reproduce.metrics.kurtosis import kurtosis, kurtosis_centred
from reproduce.metrics.mmr import mmr, mmr_infinite
from reproduce.metrics.scale import activation_rms

SINGLE: dict[str, Callable[[Tensor], Tensor]] = {
    "kurtosis": kurtosis,
    "kurtosis_centred": kurtosis_centred,
    "mmr_mean": partial(mmr, aggregate="mean"),
    "mmr_median": partial(mmr, aggregate="median"),
    "mmr_max": partial(mmr, aggregate="max"),
    "mmr_infinite": mmr_infinite,
    "input_correlation_mean": input_correlation_mean,
    "input_correlation_rms": input_correlation_rms,
    "feature_correlation_rms": feature_correlation_rms,
    "activation_rms": activation_rms,
    "eq5_residual": eq5_residual,
}
