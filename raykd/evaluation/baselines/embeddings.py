"""Baselines on embeddings of whole texts, from a frozen encoder or a static model.

Features of a pair of texts u, v are (u, v, |u - v|, u * v), as in Conneau et al. 2017, "Supervised
Learning of Universal Sentence Representations from Natural Language Inference Data",
https://arxiv.org/abs/1705.02364, and the cosine of u and v, which a penalized model cannot learn
from u * v when rows are few.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raykd.evaluation.baselines.fitted import Fitted
from raykd.evaluation.baselines.linear import fit_linear

# Function from N texts to their embeddings (N, d).
Embed = Callable[[Sequence[str]], NDArray[np.float32]]

# Factor of the cosine, so that its weight has a ninth of the penalty of the others. With 1, a
# penalty that is strong enough for the other features costs more of the cosine than it gains.
_COSINE_FACTOR = 3.0


def fit_on_embeddings(
    embed: Embed, train: pa.Table, *, num_labels: int, embed_on_cpu: Embed | None = None
) -> Fitted:
    """Fit a linear model on embeddings of `train` (`schemas.EXAMPLES`); its size is without them.

    Args:
        embed: embeds texts.
        train: rows to fit on.
        num_labels: number of classes; 1 for regression.
        embed_on_cpu: embeds texts on a CPU, if `embed` uses a GPU.
    """
    features = partial(pair_features, embed)
    on_cpu = None if embed_on_cpu is None else partial(pair_features, embed_on_cpu)
    return fit_linear(features, train, num_labels=num_labels, features_on_cpu=on_cpu)


def pair_features(embed: Embed, rows: pa.Table) -> NDArray[np.float32]:
    """Features (N, d) with rows of length 1, or (N, 4 d + 1) for pairs.

    The parts u, v, |u - v| and u * v of a pair have length 1 together; three times the cosine comes
    last.
    """
    is_single = _is_single(rows)
    if not rows.num_rows:
        num_dimensions = embed([""]).shape[1]
        return np.empty((0, num_dimensions if is_single else 4 * num_dimensions + 1), np.float32)
    first = _unit(embed(rows["sentence1"].to_pylist()))
    if is_single:
        return first
    second = _unit(embed(rows["sentence2"].to_pylist()))
    product = first * second
    parts = _unit(np.hstack([first, second, np.abs(first - second), product]))
    cosine = product.sum(axis=1, keepdims=True)
    return np.hstack([parts, _COSINE_FACTOR * cosine])


def _is_single(rows: pa.Table) -> bool:
    return bool(rows["sentence2"].null_count == rows.num_rows)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their length; a row of zeros stays one, as that of a text without words."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
