"""Corpus statistics of BM25, restricted to the query vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raykd.text.analyzer import AnalyzerConfig, number_terms


@dataclass(frozen=True)
class Vocabulary:
    """Distinct terms of the queries, in the order of their UTF-8 bytes."""

    terms: tuple[str, ...]


@dataclass(frozen=True)
class QueryTerms:
    """Distinct terms of Q queries; query q has the range offsets[q]:offsets[q + 1].

    Attributes:
        offsets: (Q + 1,) ranges of the queries.
        term_ids: term ids, ascending within a query: the order in which scores are summed.
        counts: occurrences of each term in the query.
    """

    offsets: NDArray[np.int64]
    term_ids: NDArray[np.int32]
    counts: NDArray[np.float64]

    @property
    def num_queries(self) -> int:
        """Number of queries, empty ones included."""
        return len(self.offsets) - 1

    @property
    def num_empty(self) -> int:
        """Number of queries without any term."""
        return int((np.diff(self.offsets) == 0).sum())


@dataclass(frozen=True)
class Statistics:
    """Statistics of a set of units; additive over disjoint sets.

    Attributes:
        num_units: number of units, empty ones included.
        total_length: number of terms of all units, repeats included.
        df: (V,) number of units that contain each term of the vocabulary.
    """

    num_units: int
    total_length: int
    df: NDArray[np.int64]

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(
            self.num_units + other.num_units,
            self.total_length + other.total_length,
            self.df + other.df,
        )

    @classmethod
    def empty(cls, num_terms: int) -> "Statistics":
        """Statistics of the empty set."""
        return cls(0, 0, np.zeros(num_terms, np.int64))

    @property
    def average_length(self) -> float:
        """Mean number of terms per unit; 0 without units."""
        return self.total_length / self.num_units if self.num_units else 0.0


def analyze_queries(
    queries: Sequence[str], config: AnalyzerConfig | None = None
) -> tuple[Vocabulary, QueryTerms]:
    """Compute the vocabulary of the queries, and encode the queries as ids.

    Args:
        queries: texts of the queries.
        config: settings of the analyzer, the same as for the units; None: the defaults.
    """
    names, stream = number_terms(pa.array(queries, pa.large_string()), config or AnalyzerConfig())
    query = np.repeat(np.arange(len(queries), dtype=np.int64), stream.lengths)
    num_terms = max(1, len(names))
    distinct, counts = np.unique(query * num_terms + stream.term_ids, return_counts=True)
    ends = np.cumsum(np.bincount(distinct // num_terms, minlength=len(queries)))
    return Vocabulary(tuple(names)), QueryTerms(
        np.concatenate([np.zeros(1, np.int64), ends]),
        (distinct % num_terms).astype(np.int32),
        counts.astype(np.float64),
    )
