"""Sums of quantized upper bounds: selection of the unit blocks that may contain hits of a query.

The functions take single arrays with start and stop instead of tuples and slices: these would
update reference counts, whose cost is noticeable compared with a query.
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

# Nonessential terms: the lightest terms whose bounds together are at most this share of the
# threshold.
_NONESSENTIAL_SHARE = 0.3
# Distance, in terms, at which lists are prefetched while another list is added.
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
    """Split the terms of a query into nonessential and essential ones (MaxScore).

    Args:
        terms: term numbers of all queries; start:stop is the query, the lightest terms first.
        counts: occurrences of each term in its query.
        start: first term of the query.
        stop: end of the query.
        entries: `BlockMaxima.terms`.
        threshold: bound that a block with hits reaches, in steps.

    Returns:
        Position of the first essential term, or -1 if no block can reach the threshold; and the
        sum of the bounds of the nonessential terms.
    """
    most = 0
    rest = 0
    kept = start
    is_nonessential = True
    for i in range(start, stop):
        bound = np.int64(counts[i]) * entries[terms[i], 2]
        most += bound
        if is_nonessential and rest + bound <= _NONESSENTIAL_SHARE * threshold:
            rest += bound
            kept += 1
        else:
            is_nonessential = False
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
    """Sum the upper bounds of all unit blocks.

    Args:
        terms: term numbers of all queries; start:stop are added.
        counts: occurrences of each term in its query.
        start: first term to add.
        stop: end of the terms to add.
        entries: `BlockMaxima.terms`.
        blocks: `BlockMaxima.blocks`.
        maxima: `BlockMaxima.maxima`.
        dense: `BlockMaxima.dense`.
        bounds: (num_blocks,) output: the sums, initially zero.
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
            # Two rows at a time halve the reads and writes of the sums.
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
    # Unsigned positions need no check for negative indices.
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
    """Prefetch the start of a term's list, one cache line of 64 bytes at a time."""
    first, size = entries[term, 0], entries[term, 1]
    for p in range(0, min(size, _MAX_FETCHED), 64):
        prefetch(maxima, first + p)
    for p in range(0, min(size, _MAX_FETCHED), 32):
        prefetch(blocks, first + p)


@njit(cache=True, nogil=True)
def take_reaching(bounds: NDArray[np.uint16], needed: int, survivors: NDArray[np.int32]) -> int:
    """Select the unit blocks whose bound is at least `needed`, and reset all bounds to zero.

    Args:
        bounds: sums of upper bounds; their number is a multiple of `BOUNDS`.
        needed: required bound in steps, at least 1.
        survivors: (2, len(bounds)) output: selected blocks, ascending, and their bounds.

    Returns:
        The number of selected blocks.
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
    """Add the bounds of the nonessential terms, the heaviest first, and discard more blocks.

    Args:
        terms: term numbers of all queries; start:stop are nonessential.
        counts: occurrences of each term in its query.
        start: first nonessential term.
        stop: end of the nonessential terms.
        entries: `BlockMaxima.terms`.
        blocks: `BlockMaxima.blocks`.
        maxima: `BlockMaxima.maxima`.
        dense: `BlockMaxima.dense`.
        threshold: bound that a block with hits reaches, in steps.
        rest: sum of the bounds of the nonessential terms.
        survivors: blocks and bounds from `take_reaching`; reduced to those that can reach the
            threshold.
        num: number of survivors before the call.

    Returns:
        The number of survivors.
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
            # Branch-free, since the branch would be unpredictable.
            survivors[0, kept] = block
            survivors[1, kept] = bound
            kept += bound + rest >= threshold
        num = kept
    return num


@njit(cache=True, nogil=True, inline="always")
def _place_of(block: int, first: int, size: int, blocks: NDArray[np.uint16]) -> np.uint32:
    """Find the position of a block in a nonempty list by bisection, if the list contains it."""
    place = np.uint32(first)
    while size > 1:
        half = size >> 1
        place += np.uint32(half if blocks[place + np.uint32(half)] <= block else 0)
        size -= half
    return place
