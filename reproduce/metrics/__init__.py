"""The paper's metrics as functions of tensors, outside of autograd and in float32 or better.

A residual stream is a float tensor (..., d) whose leading axes are all inputs. Each metric returns a tensor without
axes; `measure_stream` gives all those of a stream for little more than the dearest of them costs.
"""

from reproduce.metrics.correlation import (
    eq5_residual,
    feature_correlation_rms,
    input_correlation_mean,
    input_correlation_rms,
)
from reproduce.metrics.entropy import attention_entropy, attention_entropy_from_logits
from reproduce.metrics.kurtosis import kurtosis, kurtosis_centred
from reproduce.metrics.mmr import mmr, mmr_infinite, row_ratios
from reproduce.metrics.moment_updates import moment_updates
from reproduce.metrics.scale import activation_rms, second_moments
from reproduce.metrics.stream import measure_stream, stream_metrics
from reproduce.metrics.sums import StreamSums

__all__ = [
    "StreamSums",
    "activation_rms",
    "attention_entropy",
    "attention_entropy_from_logits",
    "eq5_residual",
    "feature_correlation_rms",
    "input_correlation_mean",
    "input_correlation_rms",
    "kurtosis",
    "kurtosis_centred",
    "measure_stream",
    "mmr",
    "mmr_infinite",
    "moment_updates",
    "row_ratios",
    "second_moments",
    "stream_metrics",
]
