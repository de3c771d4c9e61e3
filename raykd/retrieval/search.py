"""All queries against one shard: the best hits of each, term after term."""

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from raykd.config import Config
from raykd.retrieval.index import ShardIndex
from raykd.retrieval.queries import Keywords
from raykd.retrieval.scoring import Bm25Config
from raykd.retrieval.statistics import QueryTerms
from raykd.retrieval.topk import partial_schema

# Rows that a block of queries may have: bounds the memory of a search and of a merge.
_ROWS_A_BLOCK = 1 << 20


class RetrievalConfig(Config):
    """What is retrieved for each anchor."""

    top_k: int = Field(ge=1)
    keywords: Keywords = "rake"
    bm25: Bm25Config = Bm25Config()


def query_blocks(num_queries: int, top_k: int) -> list[tuple[int, int]]:
    """Ranges [first, last) of queries whose hits fit in memory; they depend on nothing else."""
    size = max(1, _ROWS_A_BLOCK // top_k)
    return [(first, min(first + size, num_queries)) for first in range(0, num_queries, size)]


def search(
    index: ShardIndex, queries: QueryTerms, top_k: int, block: tuple[int, int]
) -> pa.RecordBatch:
    """The best hits of a block of queries in one shard.

    Args:
        index: the shard.
        queries: all queries.
        top_k: hits wanted a query; fewer where fewer units hold a term of it.
        block: the queries [first, last) that are searched.

    Returns:
        A batch of `partial_schema`, sorted by (query, score descending, unit_id ascending);
        all scores are positive.
    """
    first, last = block
    capacity = min(top_k, len(index.unit_ids))
    num_hits = np.zeros(last - first, np.int64)
    units = np.empty((last - first, capacity), np.int32)
    scores = np.empty((last - first, capacity), np.float64)
    _search(
        queries.offsets[first : last + 1],
        queries.term_ids,
        queries.counts,
        index.offsets,
        index.units,
        index.impacts,
        index.id_rank,
        units,
        scores,
        num_hits,
    )
    held = np.arange(capacity) < num_hits[:, None]
    numbers = np.repeat(np.arange(first, last, dtype=np.int32), num_hits)
    return pa.RecordBatch.from_arrays(
        [pa.array(numbers), index.unit_ids.take(pa.array(units[held])), pa.array(scores[held])],
        schema=partial_schema(index.unit_ids.type),
    )


@njit(cache=True, nogil=True)
def _search(
    query_offsets: NDArray[np.int64],
    query_terms: NDArray[np.int32],
    query_counts: NDArray[np.float64],
    offsets: NDArray[np.int64],
    units: NDArray[np.int32],
    impacts: NDArray[np.float64],
    id_rank: NDArray[np.int32],
    hit_units: NDArray[np.int32],
    hit_scores: NDArray[np.float64],
    num_hits: NDArray[np.int64],
) -> None:
    totals = np.zeros(len(id_rank))
    touched = np.empty(len(id_rank), np.int32)
    for query in range(len(num_hits)):
        num_touched = 0
        for position in range(query_offsets[query], query_offsets[query + 1]):
            count = query_counts[position]
            term = query_terms[position]
            for posting in range(offsets[term], offsets[term + 1]):
                unit = units[posting]
                if totals[unit] == 0.0:
                    touched[num_touched] = unit
                    num_touched += 1
                totals[unit] += count * impacts[posting]
        num_hits[query] = _select(
            touched[:num_touched], totals, id_rank, hit_units[query], hit_scores[query]
        )


@njit(cache=True, nogil=True)
def _select(
    touched: NDArray[np.int32],
    totals: NDArray[np.float64],
    id_rank: NDArray[np.int32],
    hit_units: NDArray[np.int32],
    hit_scores: NDArray[np.float64],
) -> int:
    """Write the best of the touched units, best first, and set their totals back to zero.

    The two rows of hits are a heap with the worst hit on top until all units have been seen.
    """
    size = 0
    for unit in touched:
        score = totals[unit]
        totals[unit] = 0.0
        if size < len(hit_units):
            size += 1
            _sift_up(hit_units, hit_scores, id_rank, size - 1, unit, score)
        elif score > hit_scores[0] or (
            score == hit_scores[0] and id_rank[unit] < id_rank[hit_units[0]]
        ):
            _sift_down(hit_units, hit_scores, id_rank, size, unit, score)
    for end in range(size - 1, 0, -1):
        worst_unit, worst_score = hit_units[0], hit_scores[0]
        _sift_down(hit_units, hit_scores, id_rank, end, hit_units[end], hit_scores[end])
        hit_units[end], hit_scores[end] = worst_unit, worst_score
    return size


@njit(cache=True, nogil=True)
def _is_worse(score: float, rank: int, other_score: float, other_rank: int) -> bool:
    return score < other_score or (score == other_score and rank > other_rank)


@njit(cache=True, nogil=True)
def _sift_up(
    heap_units: NDArray[np.int32],
    heap_scores: NDArray[np.float64],
    id_rank: NDArray[np.int32],
    hole: int,
    unit: int,
    score: float,
) -> None:
    while hole > 0:
        parent = (hole - 1) // 2
        if not _is_worse(score, id_rank[unit], heap_scores[parent], id_rank[heap_units[parent]]):
            break
        heap_units[hole], heap_scores[hole] = heap_units[parent], heap_scores[parent]
        hole = parent
    heap_units[hole], heap_scores[hole] = unit, score


@njit(cache=True, nogil=True)
def _sift_down(
    heap_units: NDArray[np.int32],
    heap_scores: NDArray[np.float64],
    id_rank: NDArray[np.int32],
    size: int,
    unit: int,
    score: float,
) -> None:
    hole = 0
    while 2 * hole + 1 < size:
        child = 2 * hole + 1
        if child + 1 < size and _is_worse(
            heap_scores[child + 1],
            id_rank[heap_units[child + 1]],
            heap_scores[child],
            id_rank[heap_units[child]],
        ):
            child += 1
        if not _is_worse(heap_scores[child], id_rank[heap_units[child]], score, id_rank[unit]):
            break
        heap_units[hole], heap_scores[hole] = heap_units[child], heap_scores[child]
        hole = child
    heap_units[hole], heap_scores[hole] = unit, score
