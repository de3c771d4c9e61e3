"""Quality of probabilities: calibration error, likelihood and Brier score.

Shapes: N rows, C classes.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat
from scipy.special import log_softmax

NUM_BINS = 15
_NUM_DRAWS = 100
_DRAW_SEED = 0x45434531

FloatArray = NDArray[np.float64]


class Quality(BaseModel):
    """Quality of probabilities on N rows.

    Attributes:
        ece: expected calibration error, see `calibration_error`.
        nll: mean negative log-likelihood of the labels, in nats.
        brier: mean over rows of the squared distance between the probabilities and the label,
            summed over classes, 0 to 2 (Brier 1950).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ece: FiniteFloat
    nll: FiniteFloat
    brier: FiniteFloat


class Bin(BaseModel):
    """Rows of similar probability: its mean, and the share of right answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    probability: FiniteFloat
    share_right: FiniteFloat
    num_rows: int


def quality_of(
    logits: FloatArray, labels: NDArray[np.int64], temperature: float | FloatArray
) -> Quality:
    """Compute the quality of `softmax(logits / temperature)`.

    Args:
        logits: (N, C).
        labels: (N,) class indices.
        temperature: one for all rows, or (N,).
    """
    logs = log_softmax(logits / np.reshape(temperature, (-1, 1)), axis=1)
    shares, rows = np.exp(logs), np.arange(len(labels))
    # The squares of all classes; that of the label is (1 - p)^2 = 1 - 2p + p^2.
    squares = np.square(shares).sum(axis=1) - 2 * shares[rows, labels] + 1
    right = logits.argmax(axis=1) == labels
    return Quality(
        ece=calibration_error(shares.max(axis=1), right),
        nll=float(-logs[rows, labels].mean()),
        brier=float(squares.mean()),
    )


def reliability(
    confidences: FloatArray, right: NDArray[np.bool_], num_bins: int = NUM_BINS
) -> list[Bin]:
    """Divide rows into bins of equal mass, by ascending probability of the predicted class.

    Bins have as equal numbers of rows as rows of equal probability, which share a bin, permit.

    Args:
        confidences: (N,) probabilities of the predicted classes.
        right: (N,) whether the prediction is the label.
        num_bins: number of bins; fewer for fewer different probabilities.
    """
    order = np.argsort(confidences, kind="stable")
    ordered = confidences[order]
    starts = _starts(ordered, num_bins)
    sizes = np.diff([*starts, len(ordered)])
    means = np.add.reduceat(ordered, starts) / sizes
    shares = np.add.reduceat(right[order].astype(np.float64), starts) / sizes
    return [
        Bin(probability=mean, share_right=share, num_rows=size)
        for mean, share, size in zip(means.tolist(), shares.tolist(), sizes.tolist(), strict=True)
    ]


def calibration_error(
    confidences: FloatArray, right: NDArray[np.bool_], num_bins: int = NUM_BINS
) -> float:
    """Compute the expected calibration error of the predicted class (ECE).

    It is the mean over rows of |share of right answers - mean probability| of their bin: Guo et al.
    2017, https://arxiv.org/abs/1706.04599, equation 3, but with bins of equal mass, whose error is
    less biased on few rows (Roelofs et al. 2022, https://arxiv.org/abs/2012.08668).

    Args:
        confidences: (N,) probabilities of the predicted classes.
        right: (N,) whether the prediction is the label.
        num_bins: number of bins.
    """
    bins = reliability(confidences, right, num_bins)
    gaps = [one.num_rows * abs(one.share_right - one.probability) for one in bins]
    return sum(gaps) / len(confidences)


def error_of_perfect(confidences: FloatArray) -> float:
    """Compute the mean ECE if each row were right with exactly its probability.

    On N rows it is not 0, since the share of right answers in a bin varies by chance. Source:
    consistency resampling, Bröcker and Smith 2007, doi:10.1175/WAF993.1.

    Args:
        confidences: (N,) probabilities of the predicted classes.
    """
    ordered = np.sort(confidences)
    starts = _starts(ordered, NUM_BINS)
    random = np.random.default_rng(_DRAW_SEED)
    total = 0.0
    for _ in range(_NUM_DRAWS):
        gaps = (random.random(len(ordered)) < ordered) - ordered
        total += float(np.abs(np.add.reduceat(gaps, starts)).sum())
    return total / _NUM_DRAWS / len(ordered)


def _starts(ordered: FloatArray, num_bins: int) -> NDArray[np.int64]:
    """First row of each bin; bins with the same first row are one."""
    places = np.arange(num_bins) * len(ordered) // num_bins
    starts: NDArray[np.int64] = np.unique(np.searchsorted(ordered, ordered[places], side="left"))
    return starts
