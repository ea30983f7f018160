"""Kurtosis in several conventions, computed from the second moments that are kept with a trace.

    s_j^2 = mean over inputs of X_aj^2, one number for each neuron j of d neurons (moments.parquet)

    eq1         mean_j s_j^4 / (mean_j s_j^2)^2                  Eq (1) of the paper, in [1, d]
    variance    Var_j(s_j^2 / mean_k s_k^2) = eq1 - 1             what the authors plot
    sample      the same variance, divided by d - 1 and not d     torch.var's default, in the authors' code (*)
    neurons     d / eq1                                           number of neurons that carry the second moment
    share       max_j s_j^2 / sum_k s_k^2                         share of the largest neuron in the second moment

(*) The authors' code first centres each input over its neurons. That kurtosis cannot be computed from the moments of
the raw stream, and is recorded as the metric `kurtosis_centred`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

Convention = Callable[[np.ndarray], float]


def eq1(moments: np.ndarray) -> float:
    """Eq (1) from the mean squares (d,) of the neurons. It is NaN if all activations are 0."""
    mean = moments.mean()
    return float(np.mean((moments / mean) ** 2)) if mean > 0 else float("nan")


CONVENTIONS: dict[str, Convention] = {
    "eq1": eq1,
    "variance": lambda moments: eq1(moments) - 1,
    "sample": lambda moments: (eq1(moments) - 1) * len(moments) / (len(moments) - 1) if len(moments) > 1 else np.nan,
    "neurons": lambda moments: len(moments) / eq1(moments),
    "share": lambda moments: float(moments.max() / moments.sum()) if moments.sum() > 0 else np.nan,
}


def recompute(moments: pd.DataFrame, convention: str) -> pd.DataFrame:
    """The kurtosis in `convention`, for each step and layer whose moments are kept.

    Args:
        moments: columns step, layer and second_moment, as `RunFolder.read_moments` gives them.
        convention: a name in `CONVENTIONS`.

    Returns:
        Columns step, layer, value and neuron. `neuron` is the index, from 0, of the neuron with the largest moment.
    """
    of = CONVENTIONS[convention]
    vectors = [np.asarray(vector, dtype=np.float64) for vector in moments["second_moment"]]
    return pd.DataFrame(
        {
            "step": moments["step"],
            "layer": moments["layer"],
            "value": [of(vector) for vector in vectors],
            "neuron": [int(vector.argmax()) for vector in vectors],
        }
    )
