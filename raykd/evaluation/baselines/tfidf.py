"""Baseline without a network: TF-IDF features and a linear model.

A student with lower scores has learned nothing beyond word counts.
"""

import numpy as np
import pyarrow as pa
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from raykd.evaluation.baselines.fitted import Fitted
from raykd.evaluation.baselines.linear import fit_linear


def fit_tfidf(train: pa.Table, *, num_labels: int) -> Fitted:
    """Fit on `train` (`schemas.EXAMPLES`); its size is without the words themselves.

    Features are words and word bigrams; for sentence pairs, what the two share and how they differ.
    """
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+|[^\w\s]", dtype=np.float32
    )
    vectorizer.fit(_texts(train, "sentence1") + _texts(train, "sentence2"))
    fitted = fit_linear(lambda rows: _features(vectorizer, rows), train, num_labels=num_labels)
    return fitted._replace(
        num_parameters=fitted.num_parameters + vectorizer.idf_.size,
        num_bytes=fitted.num_bytes + vectorizer.idf_.nbytes,
    )


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
