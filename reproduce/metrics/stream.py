"""All metrics of one residual stream at once, as a probe records them.

All of them but kurtosis_centred are of the stream as it is, which is how the paper defines them. The authors' code
centres every input over its neurons before it computes anything, so that its max-median ratios, correlations and RMS
differ from these by what the mean of each input adds.
"""

from __future__ import annotations

from torch import Tensor

from reproduce.metrics.inputs import upcast
from reproduce.metrics.mmr import aggregate_ratios, infinite_ratios, row_ratios
from reproduce.metrics.sums import StreamSums


def measure_stream(x: Tensor) -> dict[str, Tensor]:
    """Every metric of the stream `x` (..., d) by name, each () and the same as its own function gives.

    The metrics share one Gram matrix (2 n d^2 FLOPs, which is most of the cost) and one selection of medians (O(nd)).
    """
    metrics = stream_metrics(StreamSums.of(x), row_ratios(x))
    return {name: value.to(upcast(x).dtype) for name, value in metrics.items()}


def stream_metrics(sums: StreamSums, ratios: Tensor) -> dict[str, Tensor]:
    """Every metric of a stream from its sums and the max-median ratios (n,) of its inputs, in float64.

    Both may be those of a batch that was seen in parts. The names are those of `reproduce.metrics.table`.
    """
    return {
        # from the second moments of the neurons
        "kurtosis": sums.kurtosis,
        "kurtosis_centred": sums.kurtosis_centred,
        # from the ratios of single inputs
        "mmr_mean": aggregate_ratios(ratios, "mean"),
        "mmr_median": aggregate_ratios(ratios, "median"),
        "mmr_max": aggregate_ratios(ratios, "max"),
        "mmr_infinite": infinite_ratios(ratios),
        # from the Gram matrix, and from all of the above
        "input_correlation_mean": sums.input_correlation_mean,
        "input_correlation_rms": sums.input_correlation_rms,
        "feature_correlation_rms": sums.feature_correlation_rms,
        "activation_rms": sums.activation_rms,
        "eq5_residual": sums.eq5_residual,
    }
