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

from raykd.corpus.lanes import prefetch
from raykd.retrieval.blocks import HIGHEST, LISTED
from raykd.retrieval.index import ShardIndex
from raykd.retrieval.plan import Plan
from raykd.retrieval.selection import NO_FLOOR, Candidates, add_candidates
from raykd.retrieval.unit_scores import score_blocks

# Sums of upper bounds take 16 bits, positions in a query 8.
MAX_QUERY_LENGTH = 0xFFFF // HIGHEST
MAX_DISTINCT_TERMS = 255

# The frequent terms are left out of the sums as long as their bounds stay below this share of the
# threshold.
_SKIPPED_SHARE = 0.35
# Far above the rounding of a score (a sum of at most 257 products), far below a step.
_MARGIN = 1 - 1e-9
_CHUNK = 256
# Where fewer blocks are listed, they are looked at one by one; else all blocks in a sweep.
_FEW_LISTED = 256
# While a term's list is added, the start of the list of the term after the next is fetched.
_AHEAD = 2
_MAX_FETCHED = 1024


def search_pruned(
    index: ShardIndex,
    superblock: int,
    plan: Plan,
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


# Below, functions take arrays one by one and bounds in place of parts of them: to take an array out
# of a tuple, or a part of it, counts references, and a query is shorter than a hundred of those.


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
    offsets, _, terms, _, _, sorted_terms, sorted_counts = plan
    entries, blocks, maxima, dense = lists
    first_unit, last_unit, num_blocks, block_units = shape
    floors = candidates[4]
    padded = -(-num_blocks // _CHUNK) * _CHUNK
    bounds = np.zeros(padded, np.uint16)
    survivors = np.empty((2, padded), np.int32)
    places = np.zeros(len(entries), np.uint8)
    tf = np.zeros(MAX_DISTINCT_TERMS + 1, np.int32)
    found_units = np.empty(padded * block_units + 1, np.int32)
    found_scores = np.empty(padded * block_units + 1)
    for query in numbers:
        start, stop = offsets[query], offsets[query + 1]
        floor = max(floors[query], NO_FLOOR)
        threshold = max(int(np.ceil(min(floor * _MARGIN / step, 1e15))), 1)
        kept, rest = _skip(sorted_terms, sorted_counts, start, stop, entries, threshold)
        if kept < 0:
            continue
        is_short = _add_bounds(
            sorted_terms, sorted_counts, kept, stop, entries, blocks, maxima, dense, bounds
        )
        needed = threshold - rest
        if is_short:
            num = _take_listed(sorted_terms, kept, stop, entries, blocks, bounds, needed, survivors)
        else:
            num = _take_all(bounds, needed, survivors)
        if num == 0:
            continue
        if kept > start:
            num = _refine(
                sorted_terms[start:kept], sorted_counts[start:kept], lists, threshold, rest,
                survivors, num,
            )  # fmt: skip
        remained[query] = num
        if num == 0 or num > limits[query]:
            continue
        for i in range(start, stop):
            places[terms[i]] = i - start + 1
        found = score_blocks(
            survivors[0, :num],
            (first_unit, last_unit, block_units),
            query,
            floor,
            plan,
            units,
            form,
            places,
            tf,
            found_units,
            found_scores,
        )
        for i in range(start, stop):
            places[terms[i]] = 0
        if found > 0:
            add_candidates(query, found_units[:found], found_scores[:found], id_rank, candidates)


@njit(cache=True, nogil=True)
def _skip(
    terms: NDArray[np.int32],
    counts: NDArray[np.uint16],
    start: int,
    stop: int,
    entries: NDArray[np.int32],
    threshold: int,
) -> tuple[int, int]:
    """The first of the query's terms, lightest first, that is not left out; -1: no block.

    And the most that those left out add.
    """
    most = 0
    rest = 0
    kept = start
    is_skipping = True
    for i in range(start, stop):
        bound = np.int64(counts[i]) * entries[terms[i], 2]
        most += bound
        if is_skipping and rest + bound <= _SKIPPED_SHARE * threshold:
            rest += bound
            kept += 1
        else:
            is_skipping = False
    return (kept, rest) if most >= threshold else (-1, 0)


@njit(cache=True, nogil=True)
def _add_bounds(
    terms: NDArray[np.int32],
    counts: NDArray[np.uint16],
    start: int,
    stop: int,
    entries: NDArray[np.int32],
    blocks: NDArray[np.uint16],
    maxima: NDArray[np.uint8],
    dense: NDArray[np.uint8],
    bounds: NDArray[np.uint16],
) -> bool:
    """Sum the upper bounds of all blocks; returns whether few blocks have any."""
    num_listed = 0
    waiting = -1
    waiting_count = np.uint16(0)
    for i in range(start, stop):
        first, size = entries[terms[i], 0], entries[terms[i], 1]
        row, count = entries[terms[i], 3], counts[i]
        if i + _AHEAD < len(terms):
            _fetch(terms[i + _AHEAD], entries, blocks, maxima)
        if row == LISTED:
            num_listed += size
            for p in range(np.uint32(first), np.uint32(first + size)):
                bounds[blocks[p]] += np.uint16(count * maxima[p])
        elif waiting < 0:
            waiting, waiting_count = row, count
        else:
            # Two rows at a time: the sums are read and written half as often.
            row_a, row_b = dense[waiting], dense[row]
            for block in range(len(row_a)):
                bounds[block] += np.uint16(waiting_count * row_a[block] + count * row_b[block])
            waiting = -1
            num_listed += _FEW_LISTED
    if waiting >= 0:
        row_a = dense[waiting]
        for block in range(len(row_a)):
            bounds[block] += np.uint16(waiting_count * row_a[block])
        num_listed += _FEW_LISTED
    return num_listed < _FEW_LISTED


@njit(cache=True, nogil=True)
def _fetch(
    term: int,
    entries: NDArray[np.int32],
    blocks: NDArray[np.uint16],
    maxima: NDArray[np.uint8],
) -> None:
    """Have the start of a term's list fetched, a cache line of 64 bytes at a time."""
    first, size = entries[term, 0], entries[term, 1]
    for p in range(0, min(size, _MAX_FETCHED), 64):
        prefetch(maxima, first + p)
    for p in range(0, min(size, _MAX_FETCHED), 32):
        prefetch(blocks, first + p)


@njit(cache=True, nogil=True)
def _take_listed(
    terms: NDArray[np.int32],
    start: int,
    stop: int,
    entries: NDArray[np.int32],
    blocks: NDArray[np.uint16],
    bounds: NDArray[np.uint16],
    needed: int,
    survivors: NDArray[np.int32],
) -> int:
    """Write the blocks, and their bounds, that have the bound needed; set all bounds to zero."""
    num = 0
    for i in range(start, stop):
        first, size = entries[terms[i], 0], entries[terms[i], 1]
        for p in range(np.uint32(first), np.uint32(first + size)):
            block = blocks[p]
            bound = np.int64(bounds[block])
            bounds[block] = 0
            if bound >= needed:
                survivors[0, num] = block
                survivors[1, num] = bound
                num += 1
    return num


@njit(cache=True, nogil=True)
def _take_all(bounds: NDArray[np.uint16], needed: int, survivors: NDArray[np.int32]) -> int:
    """As `_take_listed`, from a sweep over all blocks."""
    num = 0
    for start in range(0, len(bounds), _CHUNK):
        # Written like this, over a part that starts at 0, it is compiled to vectors.
        part = bounds[start : start + _CHUNK]
        highest = np.uint16(0)
        for j in range(_CHUNK):
            bound = part[j]
            highest = bound if bound > highest else highest
        if np.int64(highest) >= needed:
            for j in range(_CHUNK):
                if np.int64(part[j]) >= needed:
                    survivors[0, num] = start + j
                    survivors[1, num] = part[j]
                    num += 1
    bounds[:] = 0
    return num


@njit(cache=True, nogil=True)
def _refine(
    terms: NDArray[np.int32],
    counts: NDArray[np.uint16],
    lists: Any,
    threshold: int,
    rest: int,
    survivors: NDArray[np.int32],
    num: int,
) -> int:
    """Add the bounds of the terms that were left out, the heaviest first; returns what remains."""
    term_entries, blocks, maxima, dense = lists
    for i in range(len(terms) - 1, -1, -1):
        first, size, highest, row = term_entries[terms[i]]
        count = np.int64(counts[i])
        rest -= count * highest
        kept = 0
        for s in range(num):
            block, bound = survivors[0, s], np.int64(survivors[1, s])
            if row != LISTED:
                bound += count * dense[row, block]
            else:
                position = first + np.searchsorted(blocks[first : first + size], block)
                if position < first + size and blocks[position] == block:
                    bound += count * maxima[position]
            if bound + rest >= threshold:
                survivors[0, kept] = block
                survivors[1, kept] = bound
                kept += 1
        num = kept
    return num
