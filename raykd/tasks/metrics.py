"""GLUE's metrics, as fractions, and the constant baseline.

Source: Wang et al., "GLUE: A Multi-Task Benchmark and Analysis Platform" (ICLR 2019), table 1.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as sklearn_metrics

FloatArray = NDArray[np.float64]


def compute(
    metric_names: Sequence[str], labels: FloatArray, predictions: FloatArray
) -> dict[str, float]:
    """Metrics of predictions (N,) against labels (N,): class indices, or regression scores.

    F1 is that of class 1, as in GLUE. A correlation with a constant is 0.

    Returns:
        One fraction per metric (0..1; -1..1 for correlations), in the order of `metric_names`.
    """
    assert labels.shape == predictions.shape, (labels.shape, predictions.shape)
    assert labels.ndim == 1, labels.shape
    assert labels.size > 0
    assert np.isfinite(predictions).all()
    return {name: METRICS[name](labels, predictions) for name in metric_names}


def check_metrics(names: Sequence[str], *, regression: bool) -> None:
    """Check that metrics exist for a kind of task.

    Raises:
        ValueError: names the unknown metric and the known ones.
    """
    known = [name for name in METRICS if (name in REGRESSION_METRICS) == regression]
    for metric in names:
        if metric not in known:
            kind = "regression" if regression else "classification"
            raise ValueError(f"unknown metric {metric!r} for {kind}; known: {', '.join(known)}")


def majority_predictions(
    train_labels: FloatArray, num_rows: int, *, regression: bool
) -> FloatArray:
    """Best constant prediction: the train split's most frequent class, or mean score."""
    if regression:
        return np.full(num_rows, train_labels.mean())
    classes, counts = np.unique(train_labels, return_counts=True)
    return np.full(num_rows, classes[counts.argmax()], dtype=np.float64)


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


def _has_constant(labels: FloatArray, predictions: FloatArray) -> bool:
    return bool(np.ptp(labels) == 0 or np.ptp(predictions) == 0)


METRICS: Mapping[str, Callable[[FloatArray, FloatArray], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}
REGRESSION_METRICS = frozenset({"pearson", "spearman"})
