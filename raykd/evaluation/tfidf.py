"""Baseline without a network: TF-IDF features and a linear model.

A student with lower scores has learned nothing beyond word counts.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

# Inverse strength of the L2 penalty. TF-IDF rows have length 1, so scikit-learn's default of 1.0
# underfits; nothing here is tuned to a task.
_INVERSE_PENALTY = 10.0
_MAX_ITERATIONS = 1000
# Logit of a class that is not in the train split.
_ABSENT_LOGIT = -100.0


# Function from rows (N, as `schemas.EXAMPLES`) to logits (N, C).
Predict = Callable[[pa.Table], NDArray[np.float32]]


def fit_tfidf(train: pa.Table, *, num_labels: int) -> Predict:
    """Fit on `train` (`schemas.EXAMPLES`); return the function that predicts other rows.

    Features are words and word bigrams; for sentence pairs, what the two share and how they differ.
    Classes use logistic regression; scores (`num_labels` 1) use ridge regression, clipped to the
    range of the train split.
    """
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]", dtype=np.float32
    )
    vectorizer.fit(_texts(train, "sentence1") + _texts(train, "sentence2"))
    features, targets = _features(vectorizer, train), train["label"].to_numpy()
    fit = _fit_ridge if num_labels == 1 else partial(_fit_classes, num_labels=num_labels)
    predict = fit(features, targets)
    return lambda rows: predict(_features(vectorizer, rows))


def _fit_ridge(
    features: sparse.csr_matrix, targets: NDArray[np.float64]
) -> Callable[[sparse.csr_matrix], NDArray[np.float32]]:
    ridge = Ridge(alpha=1 / _INVERSE_PENALTY).fit(features, targets)

    def predict(unseen: sparse.csr_matrix) -> NDArray[np.float32]:
        scores = ridge.predict(unseen).clip(targets.min(), targets.max())
        return np.asarray(scores[:, None], np.float32)

    return predict


def _fit_classes(
    features: sparse.csr_matrix, targets: NDArray[np.float64], *, num_labels: int
) -> Callable[[sparse.csr_matrix], NDArray[np.float32]]:
    present, model = np.unique(targets.astype(np.int64)), None
    if len(present) > 1:
        model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=_MAX_ITERATIONS)
        model.fit(features, targets.astype(np.int64))

    def predict(unseen: sparse.csr_matrix) -> NDArray[np.float32]:
        logits = np.full((unseen.shape[0], num_labels), _ABSENT_LOGIT, dtype=np.float32)
        logits[:, present] = 0.0 if model is None else model.predict_log_proba(unseen)
        return logits

    return predict


def _texts(examples: pa.Table, column: str) -> list[str]:
    return [text for text in examples[column].to_pylist() if text is not None]


def _features(vectorizer: TfidfVectorizer, examples: pa.Table) -> sparse.csr_matrix:
    first: sparse.csr_matrix = vectorizer.transform(_texts(examples, "sentence1"))
    if examples["sentence2"].null_count:
        return first
    second = vectorizer.transform(_texts(examples, "sentence2"))
    overlap = first.multiply(second)
    similarity = sparse.csr_matrix(overlap.sum(axis=1))
    pairs: sparse.csr_matrix = sparse.hstack(
        [similarity, overlap, abs(first - second)], format="csr"
    )
    return pairs
