"""Selective prediction: which rows to answer, by the probability of the predicted class.

Shapes: N rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class RiskCurve(NamedTuple):
    """Risk-coverage curve: the selective error if the n most probable rows are answered.

    Attributes:
        errors: (N,) share of wrong answers among the n rows, n from 1 to N.
        area: their mean, AURC.
    """

    errors: FloatArray
    area: float


class Cut(NamedTuple):
    """A threshold, and the share of right answers with its probability or a larger one."""

    precision: float
    threshold: float


def risk_curve(confidences: FloatArray, right: BoolArray) -> RiskCurve:
    """Compute the risk-coverage curve; rows of equal probability share their errors.

    Source: Geifman, Uziel, El-Yaniv 2019, "Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers", https://arxiv.org/abs/1805.08206.

    Args:
        confidences: (N,) probabilities of the predicted classes.
        right: (N,) whether the prediction is the label.
    """
    order = np.argsort(-confidences, kind="stable")
    last = _last_of_equal(confidences[order])
    num_wrong = np.cumsum(~right[order])[last]
    numbers = np.arange(1, len(order) + 1)
    errors = np.interp(numbers, [0, *(last + 1)], [0, *num_wrong]) / numbers
    return RiskCurve(errors, float(errors.mean()))


def cuts_of(confidences: FloatArray, right: BoolArray, num_classes: int) -> list[Cut]:
    """Thresholds in ascending order: the smallest one for each precision that is reached.

    A threshold is halfway between the smallest probability that it answers and the next smaller
    one, of which 1 / C is the smallest possible.

    Args:
        confidences: (N,) probabilities of the predicted classes.
        right: (N,) whether the prediction is the label.
        num_classes: C.
    """
    order = np.argsort(-confidences, kind="stable")
    ordered = confidences[order]
    last = _last_of_equal(ordered)
    precisions = np.cumsum(right[order])[last] / (last + 1)
    below = np.append(ordered[last[:-1] + 1], 1 / num_classes)
    # Below 1, so that a probability that is rounded to 1 reaches it.
    thresholds = np.minimum((ordered[last] + below) / 2, np.nextafter(1.0, 0.0))
    cuts: list[Cut] = []
    pairs = zip(precisions[::-1].tolist(), thresholds[::-1].tolist(), strict=True)
    for precision, threshold in pairs:
        if not cuts or precision > cuts[-1].precision:
            cuts.append(Cut(precision, threshold))
    return cuts


def threshold_for(cuts: Sequence[Cut], precision: float) -> float | None:
    """Smallest threshold with a precision; None if none has it."""
    return next((cut.threshold for cut in cuts if cut.precision >= precision), None)


def interval_of(num_right: int, num_answered: int) -> tuple[float, float] | None:
    """95 % interval of Clopper and Pearson for a share of right answers; None without answers."""
    if not num_answered:
        return None
    found = binomtest(num_right, num_answered).proportion_ci(0.95, method="exact")
    return float(found.low), float(found.high)


def _last_of_equal(ordered: FloatArray) -> NDArray[np.int64]:
    """Positions of the last one of equal values."""
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
