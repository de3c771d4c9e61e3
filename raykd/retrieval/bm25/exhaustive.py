"""Queries against one superblock, term after term, every posting of them: scores are final."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.bm25.candidates import NO_FLOOR, Candidates, add_candidates
from raykd.retrieval.bm25.index import ShardIndex
from raykd.retrieval.bm25.postings import Codes
from raykd.retrieval.bm25.query_plan import QueryPlan
from raykd.text.simd import prefetch

# Postings of the next term that are fetched while those of a term are added.
_MAX_FETCHED = 256


def search_exhaustive(
    index: ShardIndex,
    superblock: int,
    plan: QueryPlan,
    numbers: NDArray[np.int64],
    candidates: Candidates,
) -> None:
    """Add a superblock's hits to the candidates of some queries.

    Args:
        index: the shard.
        superblock: which.
        plan: the queries of a block.
        numbers: those to search.
        candidates: of the block's queries.
    """
    postings = index.postings(superblock)
    _search(
        numbers,
        plan.arrays,
        (postings.offsets, postings.units, postings.codes, postings.table),
        superblock * index.superblock_units,
        index.superblock_units,
        index.id_rank,
        candidates.arrays,
    )


@njit(cache=True, nogil=True)
def _search(
    numbers: NDArray[np.int64],
    plan: Any,
    postings: Any,
    first_unit: int,
    num_units: int,
    id_rank: NDArray[np.int32],
    candidates: Any,
) -> None:
    offsets, _, terms, counts, idf, _, _ = plan
    posting_offsets, units, codes, table = postings
    floors = candidates[4]
    totals = np.zeros(num_units)
    found_units = np.empty(0, np.int32)
    found_scores = np.empty(0, np.float64)
    for query in numbers:
        num_postings = 0
        for i in range(offsets[query], offsets[query + 1]):
            first, last = posting_offsets[terms[i]], posting_offsets[terms[i] + 1]
            if i + 1 < len(terms):
                _fetch(
                    posting_offsets[terms[i + 1]], posting_offsets[terms[i + 1] + 1], units, codes
                )
            _add_scores(first, last, idf[i], counts[i], units, codes, table, totals)
            num_postings += last - first
        if num_postings >= len(found_units):
            found_units = np.empty(2 * num_postings + 1, np.int32)
            found_scores = np.empty(2 * num_postings + 1, np.float64)
        floor = max(floors[query], NO_FLOOR)
        found = 0
        for i in range(offsets[query], offsets[query + 1]):
            first, last = posting_offsets[terms[i]], posting_offsets[terms[i] + 1]
            found = _take_reaching(
                floor, first, last, units, totals, first_unit, found, found_units, found_scores
            )
        add_candidates(query, found_units[:found], found_scores[:found], id_rank, candidates)


# Below, positions are unsigned, so that they need no check for being counted from the end.


@njit(cache=True, nogil=True)
def _fetch(first: int, last: int, units: NDArray[np.uint16], codes: Codes) -> None:
    """Have the start of a term's postings fetched, a cache line of 64 bytes at a time."""
    for p in range(first, min(last, first + _MAX_FETCHED), 32):
        prefetch(units, p)
        prefetch(codes, p)


@njit(cache=True, nogil=True)
def _add_scores(
    first: int,
    last: int,
    weight: float,
    count: float,
    units: NDArray[np.uint16],
    codes: Codes,
    table: NDArray[np.float64],
    totals: NDArray[np.float64],
) -> None:
    """Add what a term counts in its units."""
    if count == 1.0:
        for p in range(np.uint32(first), np.uint32(last)):
            totals[units[p]] += weight * table[codes[p]]
    else:
        for p in range(np.uint32(first), np.uint32(last)):
            totals[units[p]] += count * (weight * table[codes[p]])


@njit(cache=True, nogil=True)
def _take_reaching(
    floor: float,
    first: int,
    last: int,
    units: NDArray[np.uint16],
    totals: NDArray[np.float64],
    first_unit: int,
    found: int,
    found_units: NDArray[np.int32],
    found_scores: NDArray[np.float64],
) -> int:
    """Write a term's units that reach the floor, set their totals to zero; returns the new end."""
    if floor > NO_FLOOR:
        for p in range(np.uint32(first), np.uint32(last)):
            unit = units[p]
            if totals[unit] >= floor:
                found_units[found] = first_unit + unit
                found_scores[found] = totals[unit]
                found += 1
            totals[unit] = 0.0
    else:
        # Nearly all are kept: without a jump it goes faster.
        for p in range(np.uint32(first), np.uint32(last)):
            unit = units[p]
            score = totals[unit]
            totals[unit] = 0.0
            found_units[found] = first_unit + unit
            found_scores[found] = score
            found += score > 0.0
    return found
