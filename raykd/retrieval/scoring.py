"""BM25 as Lucene computes it, in float64.

    score(query, unit) = sum over the query's terms of count * idf * saturation
    idf = ln(1 + (N - df + 0.5) / (df + 0.5))
    saturation = tf / (tf + k1 * (1 - b + b * length / average_length))

Source: Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond"; the
form of Lucene 8 and later (`BM25Similarity`): the idf that is never negative, and no constant
factor k1 + 1. Lucene's N leaves out units without any term; here N counts every unit.

The sum runs over a query's distinct terms in the order of their UTF-8 bytes. No other order is
used anywhere, so that a score does not depend on shards, workers or the other queries.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raykd.config import Config

# Lengths below this are stored as they are in Lucene's one byte.
_NUM_EXACT_LENGTHS = 24


class Bm25Config(Config):
    """Parameters of BM25; defaults as in Lucene and Elasticsearch."""

    k1: float = Field(default=1.2, ge=0, le=1000, allow_inf_nan=False)
    b: float = Field(default=0.75, ge=0, le=1)
    norms: Literal["exact", "lucene"] = "exact"


def idf(df: NDArray[np.int64], num_units: int) -> NDArray[np.float64]:
    """Inverse document frequency of each term, positive, also for terms that no unit holds."""
    ratios = (num_units - df + 0.5) / (df + 0.5)
    # numpy's own logarithm rounds otherwise on other processors.
    return np.array([math.log1p(ratio) for ratio in ratios.tolist()], np.float64)


def saturation(tf: NDArray[np.integer], norm: NDArray[np.float64]) -> NDArray[np.float64]:
    """What `tf` occurrences count in a unit whose length norm is `norm`: in (0, 1] for tf >= 1."""
    return tf / (tf + norm)


def length_norm(
    length: NDArray[np.integer], average_length: float, config: Bm25Config
) -> NDArray[np.float64]:
    """`k1 * (1 - b + b * length / average_length)` of each unit.

    Args:
        length: number of terms of each unit.
        average_length: mean number of terms over the whole corpus, always of the true lengths.
        config: k1, b, and whether lengths are rounded as in Lucene's index.
    """
    stored = lucene_length(length) if config.norms == "lucene" else length
    return config.k1 * (1 - config.b + config.b * (stored / max(average_length, 1e-300)))


def lucene_length(length: NDArray[np.integer]) -> NDArray[np.int64]:
    """The length that Lucene (`SmallFloat.intToByte4`) and tantivy keep in one byte.

    Up to 40 it is the length itself; above, what exceeds 24 keeps its four leading bits.
    """
    exact = np.asarray(length, np.int64)
    excess = np.maximum(exact - _NUM_EXACT_LENGTHS, 0)
    # frexp gives the number of bits exactly: a length is below 2**53.
    num_bits = np.frexp(excess.astype(np.float64))[1].astype(np.int64)
    shift = np.maximum(num_bits - 4, 0)
    stored: NDArray[np.int64] = np.minimum(exact, _NUM_EXACT_LENGTHS) + ((excess >> shift) << shift)
    return stored
