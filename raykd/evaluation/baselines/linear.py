"""Linear models on features of rows: logistic regression, or ridge regression of scores.

Shapes: N rows, F features, C classes (1: regression).
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression, Ridge

from raykd.evaluation.baselines.fitted import Fitted, Predict
from raykd.tasks.labels.sets import targets_of

# (N, F)
Features = sparse.csr_matrix | NDArray[np.float32]
_Model = tuple[Callable[[Features], NDArray[np.float32]], NDArray[np.float32]]

# Inverse strength of the L2 penalty. Rows of features have length 1, so scikit-learn's default of
# 1.0 underfits; nothing here is tuned to a task.
_INVERSE_PENALTY = 10.0
_MAX_ITERATIONS = 1000
# Logit of a class that is not in the train split.
_ABSENT_LOGIT = -100.0


def fit_linear(
    features_of: Callable[[pa.Table], Features],
    train: pa.Table,
    *,
    num_labels: int,
    features_on_cpu: Callable[[pa.Table], Features] | None = None,
) -> Fitted:
    """Fit on `train` (`schemas.EXAMPLES`); its size is that of the coefficients.

    Classes use logistic regression, one of each class against all others in a multi-label task;
    scores (`num_labels` 1) use ridge regression, clipped to the range of the train split.
    `features_on_cpu` computes the same features on a CPU, if `features_of` uses a GPU.
    """
    features, targets = features_of(train), targets_of(train)
    if targets.ndim == 2:
        predict, weights = _fit_sets(features, targets)
    elif num_labels == 1:
        predict, weights = _fit_scores(features, targets)
    else:
        predict, weights = _fit_classes(features, targets.astype(np.int64), num_labels)

    def answers_on(given: Callable[[pa.Table], Features]) -> Predict:
        return lambda rows: predict(given(rows))

    on_cpu = None if features_on_cpu is None else answers_on(features_on_cpu)
    return Fitted(answers_on(features_of), weights.size, weights.nbytes, on_cpu)


def _fit_scores(features: Features, targets: NDArray[np.float64]) -> _Model:
    ridge = Ridge(alpha=1 / _INVERSE_PENALTY).fit(features, targets)

    def predict(unseen: Features) -> NDArray[np.float32]:
        scores = ridge.predict(unseen).clip(targets.min(), targets.max())
        return np.asarray(scores[:, None], np.float32)

    return predict, ridge.coef_


def _fit_classes(features: Features, targets: NDArray[np.int64], num_labels: int) -> _Model:
    present, model = np.unique(targets), None
    if len(present) > 1:
        model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=_MAX_ITERATIONS)
        model.fit(features, targets)

    def predict(unseen: Features) -> NDArray[np.float32]:
        logits = np.full((unseen.shape[0], num_labels), _ABSENT_LOGIT, dtype=np.float32)
        logits[:, present] = 0.0 if model is None else model.predict_log_proba(unseen)
        return logits

    return predict, np.empty(0, np.float32) if model is None else model.coef_


def _fit_sets(features: Features, targets: NDArray[np.float64]) -> _Model:
    """Fit a logistic regression per class of a multi-label task."""
    of_classes = [_fit_classes(features, own.astype(np.int64), 2) for own in targets.T]

    def predict(unseen: Features) -> NDArray[np.float32]:
        outcomes = [of_class(unseen) for of_class, _ in of_classes]
        return np.stack([logits[:, 1] - logits[:, 0] for logits in outcomes], axis=1)

    return predict, np.concatenate([weights.ravel() for _, weights in of_classes])
