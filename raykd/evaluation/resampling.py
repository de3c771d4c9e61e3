"""Metrics of models on resamples of the rows, computed together from the counts of the rows.

Shapes: N rows, M models, R resamples, C classes of a multi-label task. A resample draws N rows with
replacement; `counts` (R, N) has how often it drew each row. The metrics are those of
`tasks.metrics`.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from raykd.tasks.metrics import predicted_sets, row_precisions

FloatArray = NDArray[np.float64]

# Counts held at once: 32 MB, and a few times as much for correlations.
_COUNTS_AT_ONCE = 1 << 22
# Smaller shares of the variance are rounding errors of a constant.
_ROUNDING = 1e-12


def resampled_scores(
    labels: FloatArray,
    predictions: FloatArray,
    metric_names: Sequence[str],
    *,
    num_resamples: int,
    seed: int,
) -> dict[str, FloatArray]:
    """Compute each metric on every resample of the rows, which is the same for all models.

    Args:
        labels: (N,) class indices, or scores of a regression task; (N, C) of a multi-label task.
        predictions: (M, N) answers of the models; (M, N, C) of a multi-label task.
        metric_names: names of the metrics.
        num_resamples: R.
        seed: seed of the resamples.

    Returns:
        (R, M) per metric.
    """
    num_rows = len(labels)
    assert predictions.shape[1:] == labels.shape, (predictions.shape, labels.shape)
    random = np.random.default_rng(seed)
    parts: dict[str, list[FloatArray]] = {name: [] for name in metric_names}
    step = max(1, _COUNTS_AT_ONCE // num_rows)
    for first in range(0, num_resamples, step):
        counts = _counts(min(step, num_resamples - first), num_rows, random)
        for name in metric_names:
            parts[name].append(_METRICS[name](counts, labels, predictions))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _counts(num_resamples: int, num_rows: int, random: np.random.Generator) -> FloatArray:
    drawn = random.integers(num_rows, size=(num_resamples, num_rows))
    drawn += num_rows * np.arange(num_resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=num_resamples * num_rows)
    return counts.reshape(num_resamples, num_rows).astype(np.float64)


def _accuracy(counts: FloatArray, labels: FloatArray, predictions: FloatArray) -> FloatArray:
    num_correct: FloatArray = counts @ (predictions == labels).T.astype(np.float64)
    return num_correct / len(labels)


def _f1(counts: FloatArray, labels: FloatArray, predictions: FloatArray) -> FloatArray:
    is_positive = predictions == 1
    true_positives = counts @ (is_positive & (labels == 1)).T.astype(np.float64)
    # Twice the true positives, plus false positives and false negatives.
    total = counts @ is_positive.T.astype(np.float64) + (counts @ (labels == 1))[:, None]
    return _ratio(2 * true_positives, total)


def _matthews(counts: FloatArray, labels: FloatArray, predictions: FloatArray) -> FloatArray:
    """Compute the correlation of K classes, R_K.

    Source: Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation
    coefficient", doi:10.1016/j.compbiolchem.2004.09.006.
    """
    num_rows = len(labels)
    classes = np.unique(np.concatenate([labels, predictions.ravel()]))
    of_labels = counts @ (labels[:, None] == classes)
    label_spread = num_rows**2 - (of_labels**2).sum(axis=1)
    columns = []
    for own in predictions:
        of_own = counts @ (own[:, None] == classes)
        correct = counts @ (own == labels)
        covariance = correct * num_rows - (of_own * of_labels).sum(axis=1)
        spread = num_rows**2 - (of_own**2).sum(axis=1)
        columns.append(_ratio(covariance, np.sqrt(label_spread * spread)))
    return np.stack(columns, axis=1)


def _pearson(counts: FloatArray, labels: FloatArray, predictions: FloatArray) -> FloatArray:
    columns = [_correlation(counts, labels[None], own[None]) for own in predictions]
    return np.stack(columns, axis=1)


def _spearman(counts: FloatArray, labels: FloatArray, predictions: FloatArray) -> FloatArray:
    label_ranks = _ranks(counts, labels)
    columns = [_correlation(counts, label_ranks, _ranks(counts, own)) for own in predictions]
    return np.stack(columns, axis=1)


def _f1_micro(counts: FloatArray, labels: FloatArray, logits: FloatArray) -> FloatArray:
    predicted = predicted_sets(logits).astype(np.float64)
    right = counts @ (predicted * labels).sum(axis=2).T
    total = counts @ predicted.sum(axis=2).T + (counts @ labels.sum(axis=1))[:, None]
    return _ratio(2 * right, total)


def _f1_macro(counts: FloatArray, labels: FloatArray, logits: FloatArray) -> FloatArray:
    num_labels = counts @ labels
    columns = []
    for own in logits:
        predicted = predicted_sets(own).astype(np.float64)
        f1 = _ratio(2 * (counts @ (predicted * labels)), counts @ predicted + num_labels)
        columns.append(f1.mean(axis=1))
    return np.stack(columns, axis=1)


def _lrap(counts: FloatArray, labels: FloatArray, logits: FloatArray) -> FloatArray:
    rows = [row_precisions(labels, own) for own in logits]
    means: FloatArray = counts @ np.stack(rows, axis=1) / len(labels)
    return means


def _subset_accuracy(counts: FloatArray, labels: FloatArray, logits: FloatArray) -> FloatArray:
    are_right = (predicted_sets(logits) == labels).all(axis=2)
    means: FloatArray = counts @ are_right.T.astype(np.float64) / len(labels)
    return means


def _ranks(counts: FloatArray, values: FloatArray) -> FloatArray:
    """Compute the rank of each row's value among the values that a resample drew, (R, N).

    Equal values have the mean of their ranks.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    places = np.empty(len(values), np.int64)
    places[order] = np.repeat(np.arange(len(starts)), np.diff([*starts, len(values)]))
    num_equal = np.add.reduceat(counts[:, order], starts, axis=1)
    num_smaller = np.cumsum(num_equal, axis=1) - num_equal
    return (num_smaller + (num_equal + 1) / 2)[:, places]


def _correlation(counts: FloatArray, left: FloatArray, right: FloatArray) -> FloatArray:
    """Compute Pearson's correlation, (R,), of values that are (R, N), or (1, N) for all resamples.

    It is 0 where one of them is constant.
    """
    num_rows = counts.shape[1]
    # A correlation does not change, and rounding errors are relative to the spread.
    left, right = (values - values.mean(axis=1, keepdims=True) for values in (left, right))
    deviations = []
    for values in (left, right):
        means = (counts * values).sum(axis=1, keepdims=True) / num_rows
        deviations.append(values - means)
    weighted = [counts * deviation for deviation in deviations]
    covariance = np.einsum("rn,rn->r", weighted[0], deviations[1])
    spreads = []
    for values, deviation, own in zip((left, right), deviations, weighted, strict=True):
        spread = np.einsum("rn,rn->r", own, deviation)
        largest = np.square(values).max(initial=0.0) * num_rows
        spreads.append(np.where(spread <= _ROUNDING * largest, 0.0, spread))
    return _ratio(covariance, np.sqrt(spreads[0] * spreads[1]))


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Divide; 0 where the divisor is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)


_METRICS: Mapping[str, Callable[[FloatArray, FloatArray, FloatArray], FloatArray]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "f1_macro": _f1_macro,
    "f1_micro": _f1_micro,
    "lrap": _lrap,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    "subset_accuracy": _subset_accuracy,
}
