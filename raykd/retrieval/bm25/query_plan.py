"""Query plan: a batch of queries, prepared for the term numbers of a shard."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.bm25.forward_index import NUM_COMMON
from raykd.retrieval.bm25.index import ShardIndex
from raykd.retrieval.bm25.statistics import QueryTerms

# Queries of at most this many terms are sorted by insertion, which is faster.
_FEW_TERMS = 32


@dataclass(frozen=True)
class QueryPlan:
    """Terms of a batch of B queries; query b has the range offsets[b]:offsets[b + 1].

    Attributes:
        offsets: (B + 1,) ranges of the queries.
        has_common: (B,) whether a term of the query is in the common stream.
        terms: term numbers, in the order in which scores are summed.
        counts: occurrences of each term in the query.
        idf: idf of each term.
        sorted_terms: term numbers, the lightest first.
        sorted_counts: counts of `sorted_terms`, clipped to 16 bits.
        lengths: (B,) number of terms of the query, repeats included.
        expected_postings: (B,) expected number of postings in a full superblock.
    """

    offsets: NDArray[np.int64]
    has_common: NDArray[np.bool_]
    terms: NDArray[np.int32]
    counts: NDArray[np.float64]
    idf: NDArray[np.float64]
    sorted_terms: NDArray[np.int32]
    sorted_counts: NDArray[np.uint16]
    lengths: NDArray[np.float64]
    expected_postings: NDArray[np.float64]

    @classmethod
    def of(cls, queries: QueryTerms, block: tuple[int, int], index: ShardIndex) -> "QueryPlan":
        """Plan the queries [first, last).

        Args:
            queries: terms of all queries.
            block: the range (first, last).
            index: index of the shard.
        """
        first, last = block
        start, stop = queries.offsets[first], queries.offsets[last]
        offsets = queries.offsets[first : last + 1] - start
        term_ids, counts = queries.term_ids[start:stop], queries.counts[start:stop]
        terms, idf = index.term_numbers[term_ids], index.idf[term_ids]
        num_queries = last - first
        numbers = np.repeat(np.arange(num_queries), np.diff(offsets))
        order = _lightest_first(offsets, counts * idf)
        common = np.bincount(numbers, terms < NUM_COMMON, minlength=num_queries)
        shares = np.bincount(numbers, index.df_share[term_ids], minlength=num_queries)
        lengths = np.bincount(numbers, counts, minlength=num_queries)
        return cls(
            offsets=offsets,
            has_common=common > 0,
            terms=terms,
            counts=counts,
            idf=idf,
            sorted_terms=terms[order],
            sorted_counts=np.minimum(counts[order], 0xFFFF).astype(np.uint16),
            lengths=lengths.astype(np.float64),
            expected_postings=shares.astype(np.float64) * index.superblock_units,
        )

    @property
    def num_queries(self) -> int:
        """Number B of queries."""
        return len(self.has_common)

    @property
    def arrays(self) -> tuple[Any, ...]:
        """Attributes as a tuple for compiled code."""
        return (
            self.offsets,
            self.has_common,
            self.terms,
            self.counts,
            self.idf,
            self.sorted_terms,
            self.sorted_counts,
        )


@njit(cache=True, nogil=True)
def _lightest_first(offsets: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Sort the terms of each query by weight; return their order."""
    order = np.empty(len(weights), np.int64)
    for query in range(len(offsets) - 1):
        first, last = offsets[query], offsets[query + 1]
        if last - first > _FEW_TERMS:
            order[first:last] = first + np.argsort(weights[first:last])
            continue
        for term in range(first, last):
            place = term
            while place > first and weights[order[place - 1]] > weights[term]:
                order[place] = order[place - 1]
                place -= 1
            order[place] = term
    return order
