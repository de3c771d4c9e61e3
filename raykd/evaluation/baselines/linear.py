"""Linear models on features of rows: logistic regression, or ridge regression of scores.

Shapes: N rows, F features, C classes (1: regression).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression, Ridge

from raykd.evaluation.baselines.fitted import Fitted, Predict
from raykd.evaluation.baselines.penalty import Features, choose_inverse_penalty, number_texts
from raykd.tasks.labels.sets import targets_of

_MAX_ITERATIONS = 1000
# Logit of a class that is not in the train split.
_ABSENT_LOGIT = -100.0


class _Model(NamedTuple):
    """Function from features to logits (N, C), coefficients, and the chosen inverse penalties."""

    predict: Callable[[Features], NDArray[np.float32]]
    weights: NDArray[np.float32]
    inverse_penalties: tuple[float, ...]


def fit_linear(
    features_of: Callable[[pa.Table], Features],
    train: pa.Table,
    *,
    num_labels: int,
    features_on_cpu: Callable[[pa.Table], Features] | None = None,
) -> Fitted:
    """Fit on `train` (`schemas.EXAMPLES`); its size is that of the coefficients.

    Classes use logistic regression, one of each class against all others in a multi-label task;
    scores (`num_labels` 1) use ridge regression, clipped to the range of the train split. The L2
    penalty of each is chosen by cross-validation inside `train`, by log loss or squared error (see
    `choose_inverse_penalty`). `features_on_cpu` computes the same features on a CPU, if
    `features_of` uses a GPU.
    """
    features, targets, texts = features_of(train), targets_of(train), number_texts(train)
    if targets.ndim == 2:
        model = _fit_sets(features, targets, texts)
    elif num_labels == 1:
        model = _fit_scores(features, targets, texts)
    else:
        model = _fit_classes(features, targets.astype(np.int64), texts, num_labels)

    def answers_on(given: Callable[[pa.Table], Features]) -> Predict:
        return lambda rows: model.predict(given(rows))

    on_cpu = None if features_on_cpu is None else answers_on(features_on_cpu)
    size, num_bytes = model.weights.size, model.weights.nbytes
    return Fitted(answers_on(features_of), size, num_bytes, on_cpu, model.inverse_penalties)


def _fit_scores(
    features: Features, targets: NDArray[np.float64], texts: NDArray[np.int64]
) -> _Model:
    chosen = choose_inverse_penalty(features, targets, texts, _squared_errors, of_classes=False)
    predict, weights = _fit_ridge(features, targets, chosen)
    return _Model(lambda unseen: predict(unseen)[:, None], weights, (chosen,))


def _fit_ridge(
    features: Features, targets: NDArray[np.float64], inverse_penalty: float
) -> tuple[Callable[[Features], NDArray[np.float32]], NDArray[np.float32]]:
    """Fit a ridge regression; return its function to scores (N,), and its coefficients."""
    ridge = Ridge(alpha=1 / inverse_penalty).fit(features, targets)

    def predict(unseen: Features) -> NDArray[np.float32]:
        return np.asarray(ridge.predict(unseen).clip(targets.min(), targets.max()), np.float32)

    return predict, ridge.coef_


def _squared_errors(
    features: Features,
    targets: NDArray[Any],
    unseen: Features,
    unseen_targets: NDArray[Any],
    inverse_penalty: float,
) -> NDArray[Any]:
    """Squared errors on unseen rows."""
    predict, _ = _fit_ridge(features, targets, inverse_penalty)
    return np.asarray((predict(unseen) - unseen_targets) ** 2)


def _fit_classes(
    features: Features, targets: NDArray[np.int64], texts: NDArray[np.int64], num_labels: int
) -> _Model:
    present = np.unique(targets)
    if len(present) == 1:
        # Its only class for all rows.
        constant = np.full(num_labels, _ABSENT_LOGIT, dtype=np.float32)
        constant[present] = 0.0
        return _Model(
            lambda unseen: np.tile(constant, (unseen.shape[0], 1)), np.empty(0, np.float32), ()
        )
    chosen = choose_inverse_penalty(features, targets, texts, _log_losses, of_classes=True)
    model = _fit_logistic(features, targets, chosen)

    def predict(unseen: Features) -> NDArray[np.float32]:
        logits = np.full((unseen.shape[0], num_labels), _ABSENT_LOGIT, dtype=np.float32)
        logits[:, present] = _log_probabilities(model, unseen)
        return logits

    return _Model(predict, model.coef_, (chosen,))


def _fit_logistic(
    features: Features, targets: NDArray[np.int64], inverse_penalty: float
) -> LogisticRegression:
    return LogisticRegression(C=inverse_penalty, max_iter=_MAX_ITERATIONS).fit(features, targets)


def _log_probabilities(model: LogisticRegression, features: Features) -> NDArray[Any]:
    """Log-probabilities (N, C), finite where the probability itself underflows to 0."""
    scores = model.decision_function(features)
    if scores.ndim == 1:
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    return np.asarray(log_softmax(scores, axis=1))


def _log_losses(
    features: Features,
    targets: NDArray[Any],
    unseen: Features,
    unseen_targets: NDArray[Any],
    inverse_penalty: float,
) -> NDArray[Any]:
    """Log losses on unseen rows; NaN for rows of a class without rows to fit on."""
    model = _fit_logistic(features, targets, inverse_penalty)
    is_class = model.classes_[None, :] == unseen_targets[:, None]
    losses = -np.where(is_class, _log_probabilities(model, unseen), 0).sum(axis=1)
    return np.where(is_class.any(axis=1), losses, np.nan)


def _fit_sets(features: Features, targets: NDArray[np.float64], texts: NDArray[np.int64]) -> _Model:
    """Fit a logistic regression per class of a multi-label task."""
    of_classes = [_fit_classes(features, own.astype(np.int64), texts, 2) for own in targets.T]

    def predict(unseen: Features) -> NDArray[np.float32]:
        outcomes = [of_class.predict(unseen) for of_class in of_classes]
        return np.stack([logits[:, 1] - logits[:, 0] for logits in outcomes], axis=1)

    weights = np.concatenate([of_class.weights.ravel() for of_class in of_classes])
    chosen = tuple(one for of_class in of_classes for one in of_class.inverse_penalties)
    return _Model(predict, weights, chosen)
