"""Metrics as fractions, and the constant baseline.

Shapes: N rows, C classes. Labels are class indices or scores (N,), or, of a multi-label task, whose
rows have any number of classes, (N, C) with 1 for the row's classes and 0 for all others. Answers
are of the same shape: classes, scores, or, of a multi-label task, logits, by which classes are
ranked. A class whose logit is 0 or more, which is a probability of at least 0.5, is predicted.

Source: Wang et al., "GLUE: A Multi-Task Benchmark and Analysis Platform" (ICLR 2019), table 1.
Metrics of multi-label tasks have the names and definitions of scikit-learn: the F1 of all decisions
(micro) and the mean of the classes' F1 (macro), 0 for a class that is neither a label nor
predicted; label ranking average precision (lrap); and the share of rows whose classes are all
right (subset accuracy).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sklearn_metrics

FloatArray = NDArray[np.float64]

# Pairs of classes of rows that are compared at once: 4 MB.
_PAIRS_AT_ONCE = 1 << 22


def compute(
    metric_names: Sequence[str], labels: FloatArray, predictions: FloatArray
) -> dict[str, float]:
    """Metrics of answers against labels: (N,) both, or (N, C) of a multi-label task.

    F1 is that of class 1, as in GLUE. A correlation with a constant is 0.

    Returns:
        One fraction per metric (0..1; -1..1 for correlations), in the order of `metric_names`.
    """
    assert labels.shape == predictions.shape, (labels.shape, predictions.shape)
    assert all((name in MULTI_LABEL_METRICS) == (labels.ndim == 2) for name in metric_names)
    assert labels.size > 0
    assert np.isfinite(predictions).all()
    return {name: METRICS[name](labels, predictions) for name in metric_names}


def check_metrics(names: Sequence[str], *, regression: bool, multi_label: bool = False) -> None:
    """Check that metrics exist for a kind of task.

    Raises:
        ValueError: names the unknown metric and the known ones.
    """
    known = [
        name
        for name in METRICS
        if (name in REGRESSION_METRICS) == regression
        and (name in MULTI_LABEL_METRICS) == multi_label
    ]
    for metric in names:
        if metric not in known:
            kind = "regression" if regression else "classification"
            kind = "a multi-label task" if multi_label else kind
            raise ValueError(f"unknown metric {metric!r} for {kind}; known: {', '.join(known)}")


def majority_predictions(
    train_labels: FloatArray, num_rows: int, *, regression: bool
) -> FloatArray:
    """Best constant answer: the train split's most frequent class, mean score, or set of classes.

    The set (of a multi-label task) has the most frequent classes, as many as maximize micro F1 on
    the train split; logits rank all classes by frequency, the first one of ties first.
    """
    if train_labels.ndim == 2:
        return np.tile(_constant_logits(train_labels), (num_rows, 1))
    if regression:
        return np.full(num_rows, train_labels.mean())
    classes, counts = np.unique(train_labels, return_counts=True)
    return np.full(num_rows, classes[counts.argmax()], dtype=np.float64)


def predicted_sets(logits: FloatArray) -> NDArray[np.bool_]:
    """Classes (N, C) that a multi-label model predicts: those with a probability of 0.5 or more."""
    predicted: NDArray[np.bool_] = logits >= 0
    return predicted


def row_precisions(labels: FloatArray, logits: FloatArray) -> FloatArray:
    """Average precision of each row's ranking, (N,), whose mean is the metric `lrap`.

    For each class of a row, the share of the row's classes among those ranked at least as high;
    mean over its classes. It is 1 for a row with no class, or with all.
    """
    num_rows, num_classes = labels.shape
    means = np.empty(num_rows)
    step = max(1, _PAIRS_AT_ONCE // num_classes**2)
    for first in range(0, num_rows, step):
        own, given = labels[first : first + step], logits[first : first + step]
        is_as_high = given[:, None, :] >= given[:, :, None]  # [row, class, other class]
        num_right = np.einsum("nco,no->nc", is_as_high, own)
        sums = (num_right / is_as_high.sum(axis=2) * own).sum(axis=1)
        sizes = own.sum(axis=1)
        means[first : first + step] = np.divide(
            sums, sizes, out=np.ones_like(sums), where=sizes > 0
        )
    return means


def _constant_logits(train_labels: FloatArray) -> FloatArray:
    num_rows, num_classes = train_labels.shape
    counts = train_labels.sum(axis=0)
    order = np.argsort(-counts, kind="stable")
    sizes = np.arange(1, num_classes + 1)
    # Twice the true positives, divided by the predicted and the true classes of all rows.
    f1 = 2 * np.cumsum(counts[order]) / (sizes * num_rows + counts.sum())
    logits = np.empty(num_classes)
    logits[order] = sizes[f1.argmax()] + 0.5 - sizes
    return logits


def _accuracy(labels: FloatArray, predictions: FloatArray) -> float:
    return float(np.mean(labels == predictions))


def _f1(labels: FloatArray, predictions: FloatArray) -> float:
    return float(sklearn_metrics.f1_score(labels, predictions, pos_label=1, zero_division=0))


def _matthews(labels: FloatArray, predictions: FloatArray) -> float:
    with warnings.catch_warnings():
        # scikit-learn returns 0, with a warning, if labels and predictions have a single class.
        warnings.simplefilter("ignore")
        return float(sklearn_metrics.matthews_corrcoef(labels, predictions))


def _pearson(labels: FloatArray, predictions: FloatArray) -> float:
    if _has_constant(labels, predictions):
        return 0.0
    return float(stats.pearsonr(labels, predictions).statistic)


def _spearman(labels: FloatArray, predictions: FloatArray) -> float:
    if _has_constant(labels, predictions):
        return 0.0
    return float(stats.spearmanr(labels, predictions).statistic)


def _f1_micro(labels: FloatArray, logits: FloatArray) -> float:
    predicted = predicted_sets(logits)
    return float(sklearn_metrics.f1_score(labels, predicted, average="micro", zero_division=0))


def _f1_macro(labels: FloatArray, logits: FloatArray) -> float:
    predicted = predicted_sets(logits)
    return float(sklearn_metrics.f1_score(labels, predicted, average="macro", zero_division=0))


def _lrap(labels: FloatArray, logits: FloatArray) -> float:
    return float(sklearn_metrics.label_ranking_average_precision_score(labels, logits))


def _subset_accuracy(labels: FloatArray, logits: FloatArray) -> float:
    return float((labels == predicted_sets(logits)).all(axis=1).mean())


def _has_constant(labels: FloatArray, predictions: FloatArray) -> bool:
    return bool(np.ptp(labels) == 0 or np.ptp(predictions) == 0)


METRICS: Mapping[str, Callable[[FloatArray, FloatArray], float]] = {
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
MULTI_LABEL_METRICS = frozenset({"f1_macro", "f1_micro", "lrap", "subset_accuracy"})
REGRESSION_METRICS = frozenset({"pearson", "spearman"})
# From -1 to 1; the other metrics are from 0 to 1.
CORRELATIONS = REGRESSION_METRICS | {"matthews"}
