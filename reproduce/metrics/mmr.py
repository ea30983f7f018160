"""Max-median ratio: how far the largest activation of an input stands above its typical one (v1 Eq 2, v2 Eq 2).

    r_a = max_j |X_aj| / median_j |X_aj|        in [1, inf]

Unlike kurtosis, the ratio compares neurons within an input and is aggregated over inputs afterwards. For even d the
median is the lower one of the two middle values, as in the authors' code. Where the median is 0, r_a is infinite, or 1
if the whole input is 0. It is NaN for an input that is not finite. The ratios of micro-batches are concatenated.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from reproduce.metrics.inputs import as_inputs, metric

Aggregate = Literal["mean", "median", "max"]


@metric
def mmr(x: Tensor, aggregate: Aggregate = "mean") -> Tensor:
    """Mean, lower median or maximum of the max-median ratio r_a over the inputs, (..., d) -> (), in O(nd).

    The mean leaves infinite ratios out, and is NaN where there are no others. Median and maximum count them.
    Source: v1 Eq 2; the mean in v1 Figs 10 and 12, the maximum in v1 Fig 16.
    """
    return aggregate_ratios(row_ratios(x), aggregate)


@metric
def mmr_infinite(x: Tensor) -> Tensor:
    """Number of inputs whose max-median ratio is infinite, (..., d) -> (), in O(nd). It is NaN if X is not finite."""
    return infinite_ratios(row_ratios(x))


@torch.no_grad()
def row_ratios(x: Tensor) -> Tensor:
    """Max-median ratio r_a of each input, (..., d) -> (n,), in O(nd)."""
    magnitude = as_inputs(x).abs()  # (n, d)
    largest = magnitude.amax(1)  # (n,)
    ratio = torch.where(largest == 0, 1, largest / lower_median(magnitude))
    return torch.where(largest.isfinite(), ratio, torch.nan)


def aggregate_ratios(ratios: Tensor, aggregate: Aggregate) -> Tensor:
    """The value of `mmr` from the ratios (n,) of the inputs, -> ()."""
    if aggregate == "mean":
        counted = ~ratios.isinf()  # NaN counts, so that one input that is not finite makes the mean NaN
        return torch.where(counted, ratios, 0).sum() / counted.sum()
    if aggregate == "median":
        return ratios.median()
    if aggregate == "max":
        return ratios.max()
    raise ValueError(f"aggregate is mean, median or max, not {aggregate!r}")


def infinite_ratios(ratios: Tensor) -> Tensor:
    """The value of `mmr_infinite` from the ratios (n,) of the inputs, -> ()."""
    return torch.where(ratios.isnan(), ratios, ratios.isinf()).sum()


def lower_median(magnitude: Tensor) -> Tensor:
    """Median of each row, (n, d) -> (n,), the lower one for even d. A row with NaN may give any value."""
    if magnitude.device.type != "cpu":
        return magnitude.median(1).values
    # NumPy selects in vector instructions, in a tenth of the time of torch.median and torch.kthvalue on the CPU.
    # Index of the lower median: 1 for d = 3 and d = 4.
    middle = (magnitude.shape[1] - 1) // 2
    return torch.from_numpy(np.partition(magnitude.numpy(), middle, axis=1)[:, middle])
