"""Exhaustive term-at-a-time search of one superblock: every posting is scored."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.bm25.candidates import NO_FLOOR, Candidates, add_candidates
from raykd.retrieval.bm25.index import ShardIndex
from raykd.retrieval.bm25.postings import Codes
from raykd.retrieval.bm25.query_plan import QueryPlan
from raykd.text.simd import prefetch

# Postings of the next term that are prefetched while those of a term are added.
_MAX_FETCHED = 256


def search_exhaustive(
    index: ShardIndex,
    superblock: int,
    plan: QueryPlan,
    numbers: NDArray[np.int64],
    candidates: Candidates,
) -> None:
    """Add the hits of a superblock to the candidates of some queries.

    Args:
        index: index of the shard.
        superblock: number of the superblock.
        plan: plan of the query batch.
        numbers: positions in the batch of the queries to search.
        candidates: candidates of the batch.
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
    hit_units = np.empty(0, np.int32)
    hit_scores = np.empty(0, np.float64)
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
        if num_postings >= len(hit_units):
            hit_units = np.empty(2 * num_postings + 1, np.int32)
            hit_scores = np.empty(2 * num_postings + 1, np.float64)
        floor = max(floors[query], NO_FLOOR)
        num_hits = 0
        for i in range(offsets[query], offsets[query + 1]):
            first, last = posting_offsets[terms[i]], posting_offsets[terms[i] + 1]
            num_hits = _take_reaching(
                floor, first, last, units, totals, first_unit, num_hits, hit_units, hit_scores
            )
        add_candidates(query, hit_units[:num_hits], hit_scores[:num_hits], id_rank, candidates)


# Below, positions are unsigned, so that they need no check for negative indices.


@njit(cache=True, nogil=True)
def _fetch(first: int, last: int, units: NDArray[np.uint16], codes: Codes) -> None:
    """Prefetch the start of a term's postings, one cache line of 64 bytes at a time."""
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
    """Add the scores of a term to the totals of its units."""
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
    num_hits: int,
    hit_units: NDArray[np.int32],
    hit_scores: NDArray[np.float64],
) -> int:
    """Collect a term's units that reach the floor, reset their totals; return the new end."""
    if floor > NO_FLOOR:
        for p in range(np.uint32(first), np.uint32(last)):
            unit = units[p]
            if totals[unit] >= floor:
                hit_units[num_hits] = first_unit + unit
                hit_scores[num_hits] = totals[unit]
                num_hits += 1
            totals[unit] = 0.0
    else:
        # Nearly all are kept: the branch-free version is faster.
        for p in range(np.uint32(first), np.uint32(last)):
            unit = units[p]
            score = totals[unit]
            totals[unit] = 0.0
            hit_units[num_hits] = first_unit + unit
            hit_scores[num_hits] = score
            num_hits += score > 0.0
    return num_hits
