"""MaxScore search of one superblock: unit blocks that cannot reach the threshold are skipped.

MaxScore (Turtle and Flood 1995, "Query Evaluation: Strategies and Optimizations",
doi:10.1016/0306-4573(95)00020-H) on block maxima (Ding and Suel 2011, "Faster Top-k Document
Retrieval Using Block-Max Indexes", doi:10.1145/2009916.2010048): quantized upper bounds are summed
for all blocks at once, and the units of the remaining blocks are scored exactly.
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

# Sums of upper bounds have 16 bits, positions in a query 8.
MAX_QUERY_LENGTH = 0xFFFF // HIGHEST
MAX_DISTINCT_TERMS = 255

# Much larger than the rounding error of a score (a sum of at most 257 products), much smaller than
# a step.
_MARGIN = 1 - 1e-9
# Blocks are scored in groups of this size, so that their terms can be prefetched.
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
    """Add the hits of a superblock to the candidates; skip queries with too many remaining blocks.

    Args:
        index: index of the shard.
        superblock: number of the superblock.
        plan: plan of the batch of B queries.
        numbers: positions in the batch of the queries to search; each has at most
            `MAX_QUERY_LENGTH` terms and `MAX_DISTINCT_TERMS` distinct terms.
        limits: (B,) most blocks per query whose units are scored.
        candidates: candidates of the batch.

    Returns:
        Remaining blocks per query (B,); a query with more blocks than its limit was not searched.
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
    """Allocate zeros aligned to cache lines, so that no vector spans two lines."""
    room = np.zeros(size + _LINE_BYTES // 2, np.uint16)
    start = -room.ctypes.data % _LINE_BYTES // 2
    return room[start : start + size]
