"""Baseline without a network: TF-IDF features and a linear model.

A student with lower scores has learned nothing beyond word counts.
"""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge

from raykd.evaluation.predict import to_predictions

# Inverse strength of the L2 penalty. TF-IDF rows have length 1, so scikit-learn's default of 1.0
# underfits; nothing here is tuned to a task.
_INVERSE_PENALTY = 10.0
_MAX_ITERATIONS = 1000
# Logit of a class that is not in the train split.
_ABSENT_LOGIT = -100.0


def predict_tfidf(train: pa.Table, split: pa.Table, *, num_labels: int) -> pa.Table:
    """Fit on `train` and predict `split` (both `schemas.EXAMPLES`), as `schemas.PREDICTIONS`.

    Features are words and word bigrams; for sentence pairs, what the two share and how they differ.
    Classes use logistic regression; scores (`num_labels` 1) use ridge regression, clipped to the
    range of the train split.
    """
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]", dtype=np.float32
    )
    vectorizer.fit(_texts(train, "sentence1") + _texts(train, "sentence2"))
    features, unseen = _features(vectorizer, train), _features(vectorizer, split)
    targets = train["label"].to_numpy()
    if num_labels == 1:
        ridge = Ridge(alpha=1 / _INVERSE_PENALTY).fit(features, targets)
        scores = ridge.predict(unseen).clip(targets.min(), targets.max())
        return to_predictions(split, scores[:, None].astype(np.float32))
    logits = _class_logits(features, targets.astype(np.int64), unseen, num_labels)
    return to_predictions(split, logits)


def _class_logits(
    features: sparse.csr_matrix,
    classes: NDArray[np.int64],
    unseen: sparse.csr_matrix,
    num_labels: int,
) -> NDArray[np.float32]:
    logits = np.full((unseen.shape[0], num_labels), _ABSENT_LOGIT, dtype=np.float32)
    present = np.unique(classes)
    if len(present) == 1:
        logits[:, present] = 0.0
        return logits
    model = LogisticRegression(C=_INVERSE_PENALTY, max_iter=_MAX_ITERATIONS)
    logits[:, present] = model.fit(features, classes).predict_log_proba(unseen)
    return logits


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
