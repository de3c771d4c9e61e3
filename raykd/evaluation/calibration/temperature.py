"""Temperature scaling: one divisor of the logits, fitted on held-out rows.

Guo et al. 2017, "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599,
section 4.2.

Shapes: N rows, C classes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import softmax

# Limits of the temperature. At a limit the rows do not determine it.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.01, 100.0


class Fit(NamedTuple):
    """A fitted temperature.

    Attributes:
        temperature: divisor of the logits; 1 if the rows do not determine it.
        error: its standard error; None if the rows do not determine it.
        problem: why they do not; None if they do.
    """

    temperature: float
    error: float | None
    problem: str | None


def fit_temperature(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Fit:
    """Minimize the mean negative log-likelihood over the temperature.

    The likelihood is concave in 1 / T, so its only maximum is where its slope is 0.

    Args:
        logits: (N, C), finite, N at least 1.
        labels: (N,) class indices.
    """
    # Relative to the largest logit, which changes no probability: rounding then cannot make the
    # slope of rows that are all right positive.
    shifted = logits - logits.max(axis=1, keepdims=True)
    of_labels = shifted[np.arange(len(labels)), labels]

    def slope(inverse: float) -> float:
        expected = (softmax(inverse * shifted, axis=1) * shifted).sum(axis=1)
        return float((expected - of_labels).mean())

    if not shifted.any():
        return Fit(1.0, None, "all classes are equally probable")
    lowest, highest = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    if slope(highest) <= 0:
        if (of_labels == 0).all():
            return Fit(1.0, None, "every row is answered right, so no temperature is too small")
        return Fit(1.0, None, f"the best temperature is below {MIN_TEMPERATURE:g}")
    if slope(lowest) >= 0:
        return Fit(
            1.0,
            None,
            f"the best temperature is above {MAX_TEMPERATURE:g}: the probabilities say nothing "
            "about the classes of these rows",
        )
    inverse = float(brentq(slope, lowest, highest, xtol=1e-12, rtol=1e-12))
    shares = softmax(inverse * shifted, axis=1)
    mean = (shares * shifted).sum(axis=1)
    variance = (shares * np.square(shifted)).sum(axis=1) - np.square(mean)
    # Observed information of 1 / T; the error of T follows by the delta method.
    error = float(inverse**-2 / np.sqrt(variance.sum()))
    return Fit(1 / inverse, error, None)


def probabilities(
    logits: NDArray[np.float64], temperature: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute `softmax(logits / temperature)`, (N, C).

    Args:
        logits: (N, C).
        temperature: one for all rows, or (N,).
    """
    shares: NDArray[np.float64] = softmax(logits / np.reshape(temperature, (-1, 1)), axis=1)
    return shares
