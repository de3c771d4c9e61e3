"""Queries with a threshold against one superblock: blocks that cannot reach it are left out.

MaxScore (Turtle and Flood 1995, "Query Evaluation: Strategies and Optimizations") on the block
maxima of Ding and Suel 2011, "Faster Top-k Document Retrieval Using Block-Max Indexes": upper
bounds in whole steps are summed for all blocks at once, and the units of the blocks that remain
are scored one by one, exactly.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.bm25.block_bounds import add_bounds, refine, split_nonessential, take_reaching
from raykd.retrieval.bm25.block_max import HIGHEST
from raykd.retrieval.bm25.block_scoring import score_blocks
from raykd.retrieval.bm25.candidates import NO_FLOOR, Candidates
from raykd.retrieval.bm25.index import ShardIndex
from raykd.retrieval.bm25.query_plan import QueryPlan
from raykd.text.simd import BOUNDS

# Sums of upper bounds take 16 bits, positions in a query 8.
MAX_QUERY_LENGTH = 0xFFFF // HIGHEST
MAX_DISTINCT_TERMS = 255

# Far above the rounding of a score (a sum of at most 257 products), far below a step.
_MARGIN = 1 - 1e-9
# Blocks wait to be scored until there are so many, so that what they hold can be fetched ahead.
_MAX_WAITING = 1 << 14
_LINE_BYTES = 64


def search_maxscore(
    index: ShardIndex,
    superblock: int,
    plan: QueryPlan,
    numbers: NDArray[np.int64],
    limits: NDArray[np.float64],
    candidates: Candidates,
) -> NDArray[np.int64]:
    """Add a superblock's hits to the candidates of some queries, unless too many blocks remain.

    Args:
        index: the shard.
        superblock: which.
        plan: the B queries of a block.
        numbers: those to search, of at most `MAX_QUERY_LENGTH` and `MAX_DISTINCT_TERMS` terms.
        limits: (B,) blocks of which the units are scored, at most.
        candidates: of the block's queries.

    Returns:
        (B,) blocks that remained: where they are more than the limit, nothing was added.
    """
    maxima = index.maxima(superblock)
    first_unit = superblock * index.superblock_units
    last_unit = min(first_unit + index.superblock_units, index.num_units)
    num_blocks = -(-index.superblock_units // index.block_units)
    remained = np.zeros(plan.num_queries, np.int64)
    _search(
        numbers,
        plan.arrays,
        limits,
        (maxima.terms, maxima.blocks, maxima.maxima, maxima.dense),
        maxima.step,
        index.unit_arrays,
        index.form,
        (first_unit, last_unit, num_blocks, index.block_units),
        index.id_rank,
        candidates.arrays,
        remained,
    )
    return remained


@njit(cache=True, nogil=True)
def _search(
    numbers: NDArray[np.int64],
    plan: Any,
    limits: NDArray[np.float64],
    lists: Any,
    step: float,
    units: Any,
    form: Any,
    shape: tuple[int, int, int, int],
    id_rank: NDArray[np.int32],
    candidates: Any,
    remained: NDArray[np.int64],
) -> None:
    offsets, _, _, _, _, terms, counts = plan
    entries, blocks, maxima, dense = lists
    floors = candidates[4]
    padded = -(-shape[2] // BOUNDS) * BOUNDS
    bounds = _aligned_zeros(padded)
    survivors = np.empty((2, padded), np.int32)
    places = np.zeros(len(entries), np.uint8)
    waiting = np.empty(_MAX_WAITING + padded, np.int32)
    queries, ends = np.empty(len(numbers), np.int64), np.empty(len(numbers), np.int64)
    num_waiting = num_queries = 0
    for query in numbers:
        start, stop = offsets[query], offsets[query + 1]
        floor = max(floors[query], NO_FLOOR)
        threshold = max(int(np.ceil(min(floor * _MARGIN / step, 1e15))), 1)
        kept, rest = split_nonessential(terms, counts, start, stop, entries, threshold)
        if kept < 0:
            continue
        add_bounds(terms, counts, kept, stop, entries, blocks, maxima, dense, bounds)
        num = take_reaching(bounds, threshold - rest, survivors)
        num = refine(
            terms, counts, start, kept, entries, blocks, maxima, dense, threshold, rest,
            survivors, num,
        )  # fmt: skip
        remained[query] = num
        if num == 0 or num > limits[query]:
            continue
        for i in range(num):
            waiting[num_waiting + i] = survivors[0, i]
        num_waiting += num
        queries[num_queries], ends[num_queries] = query, num_waiting
        num_queries += 1
        if num_waiting > _MAX_WAITING:
            score_blocks(
                waiting[:num_waiting], queries[:num_queries], ends[:num_queries], shape, plan,
                units, form, places, id_rank, candidates,
            )  # fmt: skip
            num_waiting = num_queries = 0
    score_blocks(
        waiting[:num_waiting], queries[:num_queries], ends[:num_queries], shape, plan,
        units, form, places, id_rank, candidates,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _aligned_zeros(size: int) -> NDArray[np.uint16]:
    """Numbers that start where a cache line does, so that no vector of them lies in two."""
    room = np.zeros(size + _LINE_BYTES // 2, np.uint16)
    start = -room.ctypes.data % _LINE_BYTES // 2
    return room[start : start + size]
