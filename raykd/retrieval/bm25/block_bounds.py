"""Which blocks of a superblock may hold hits of a query: upper bounds in whole steps, summed.

The functions take arrays one by one and bounds in place of parts of them: to take an array out of a
tuple, or a part of it, counts references, and a query is shorter than a hundred of those.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.bm25.block_max import LISTED
from raykd.text.simd import (
    BOUNDS,
    any_at_least,
    bits_at_least,
    clear,
    prefetch,
    trailing_zeros,
)

# The frequent terms are left out of the sums as long as their bounds stay below this share of the
# threshold.
_LEFT_OUT_SHARE = 0.3
# While a term's list is added, the start of the list of the term after the next is fetched.
_AHEAD = 2
_MAX_FETCHED = 1024


@njit(cache=True, nogil=True)
def split_nonessential(
    terms: NDArray[np.int32],
    counts: NDArray[np.uint16],
    start: int,
    stop: int,
    entries: NDArray[np.int32],
    threshold: int,
) -> tuple[int, int]:
    """Which of a query's terms are left out of the sums.

    Args:
        terms: term numbers; the query's stand at start:stop, those that count least first.
        counts: how often the query holds the term.
        start: of the query.
        stop: of the query.
        entries: `BlockMaxima.terms`.
        threshold: the bound that a block of hits has, in steps.

    Returns:
        Where the terms that are not left out start, or -1 where no block can reach the threshold;
        and the most that those left out add.
    """
    most = 0
    rest = 0
    kept = start
    is_leaving_out = True
    for i in range(start, stop):
        bound = np.int64(counts[i]) * entries[terms[i], 2]
        most += bound
        if is_leaving_out and rest + bound <= _LEFT_OUT_SHARE * threshold:
            rest += bound
            kept += 1
        else:
            is_leaving_out = False
    return (kept, rest) if most >= threshold else (-1, 0)


@njit(cache=True, nogil=True)
def add_bounds(
    terms: NDArray[np.int32],
    counts: NDArray[np.uint16],
    start: int,
    stop: int,
    entries: NDArray[np.int32],
    blocks: NDArray[np.uint16],
    maxima: NDArray[np.uint8],
    dense: NDArray[np.uint8],
    bounds: NDArray[np.uint16],
) -> None:
    """Sum the upper bounds of all blocks.

    Args:
        terms: term numbers; those at start:stop are added.
        counts: how often the query holds the term.
        start: of the terms.
        stop: of the terms.
        entries: `BlockMaxima.terms`.
        blocks: `BlockMaxima.blocks`.
        maxima: `BlockMaxima.maxima`.
        dense: `BlockMaxima.dense`.
        bounds: (num_blocks,) the sums, zero before.
    """
    waiting = -1
    waiting_count = np.uint16(0)
    for i in range(start, stop):
        first, size = entries[terms[i], 0], entries[terms[i], 1]
        row, count = entries[terms[i], 3], counts[i]
        if i + _AHEAD < len(terms):
            _fetch(terms[i + _AHEAD], entries, blocks, maxima)
        if row == LISTED:
            _add_list(first, size, count, blocks, maxima, bounds)
        elif waiting < 0:
            waiting, waiting_count = row, count
        else:
            # Two rows at a time: the sums are read and written half as often.
            row_a, row_b = dense[waiting], dense[row]
            for block in range(len(row_a)):
                bounds[block] += np.uint16(waiting_count * row_a[block] + count * row_b[block])
            waiting = -1
    if waiting >= 0:
        row_a = dense[waiting]
        for block in range(len(row_a)):
            bounds[block] += np.uint16(waiting_count * row_a[block])


@njit(cache=True, nogil=True, inline="always")
def _add_list(
    first: int,
    size: int,
    count: Any,
    blocks: NDArray[np.uint16],
    maxima: NDArray[np.uint8],
    bounds: NDArray[np.uint16],
) -> None:
    # As unsigned numbers, positions need no check for being counted from the end.
    if count == 1:
        for p in range(np.uint32(first), np.uint32(first + size)):
            bounds[blocks[p]] += maxima[p]
    else:
        for p in range(np.uint32(first), np.uint32(first + size)):
            bounds[blocks[p]] += np.uint16(count * maxima[p])


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
def take_reaching(bounds: NDArray[np.uint16], needed: int, survivors: NDArray[np.int32]) -> int:
    """Take the blocks out that have the bound needed, and set all bounds to zero.

    Args:
        bounds: the sums; as many as a multiple of `BOUNDS`.
        needed: at least 1, in steps.
        survivors: (2, len(bounds)) room for blocks, ascending, and their bounds.

    Returns:
        How many blocks have it.
    """
    num = 0
    for start in range(0, len(bounds), BOUNDS):
        if any_at_least(bounds, start, needed):
            for first in range(start, start + BOUNDS, 32):
                bits = bits_at_least(bounds, first, needed)
                while bits:
                    block = first + np.int64(trailing_zeros(bits))
                    survivors[0, num] = block
                    survivors[1, num] = bounds[block]
                    num += 1
                    bits &= bits - np.uint64(1)
        clear(bounds, start)
    return num


@njit(cache=True, nogil=True)
def refine(
    terms: NDArray[np.int32],
    counts: NDArray[np.uint16],
    start: int,
    stop: int,
    entries: NDArray[np.int32],
    blocks: NDArray[np.uint16],
    maxima: NDArray[np.uint8],
    dense: NDArray[np.uint8],
    threshold: int,
    rest: int,
    survivors: NDArray[np.int32],
    num: int,
) -> int:
    """Add the bounds of the terms that were left out, the heaviest first.

    Args:
        terms: term numbers; those at start:stop were left out.
        counts: how often the query holds the term.
        start: of the terms.
        stop: of the terms.
        entries: `BlockMaxima.terms`.
        blocks: `BlockMaxima.blocks`.
        maxima: `BlockMaxima.maxima`.
        dense: `BlockMaxima.dense`.
        threshold: the bound that a block of hits has, in steps.
        rest: the most that the terms add.
        survivors: what `take_reaching` wrote; those that still can reach the threshold stay.
        num: how many survived so far.

    Returns:
        How many survive.
    """
    for i in range(stop - 1, start - 1, -1):
        first, size = entries[terms[i], 0], entries[terms[i], 1]
        highest, row = entries[terms[i], 2], entries[terms[i], 3]
        if highest == 0:
            continue
        count = np.int64(counts[i])
        rest -= count * highest
        kept = 0
        for s in range(num):
            block, bound = survivors[0, s], np.int64(survivors[1, s])
            if row != LISTED:
                bound += count * dense[row, block]
            else:
                place = _place_of(block, first, size, blocks)
                bound += count * maxima[place] * (blocks[place] == block)
            # Whether it stays, a processor cannot guess: written without a jump.
            survivors[0, kept] = block
            survivors[1, kept] = bound
            kept += bound + rest >= threshold
        num = kept
    return num


@njit(cache=True, nogil=True, inline="always")
def _place_of(block: int, first: int, size: int, blocks: NDArray[np.uint16]) -> np.uint32:
    """Where a block stands in a list of at least one, if it does."""
    place = np.uint32(first)
    while size > 1:
        half = size >> 1
        place += np.uint32(half if blocks[place + np.uint32(half)] <= block else 0)
        size -= half
    return place
