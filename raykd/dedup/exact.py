"""Exact duplicates: texts that are equal after normalization."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import xxhash
from numba import njit
from numpy.typing import NDArray

from raykd.text.normalize import normalize_all

# Small enough to stay in the CPU cache.
_BATCH_ROWS = 4096

# Positions (N,) -> the texts at these positions (N,).
TakeTexts = Callable[[NDArray[np.int64]], pa.Array]


def first_equal(
    texts: pa.ChunkedArray,
    digest: Callable[[memoryview], bytes] = xxhash.xxh3_128_digest,
    *,
    advance: Callable[[int], None] = lambda _: None,
) -> NDArray[np.int64]:
    """Find for each text (N,) the position of the first text that is equal after normalization.

    A text that is kept has its own position. Only digests (16 bytes per text) are kept in memory;
    texts with equal digests are compared by content.

    Args:
        texts: strings.
        digest: hash function with 16 bytes of output.
        advance: called with the number of texts read, N in total.
    """
    digests = [np.empty((0, 2), np.uint64)]
    for chunk in texts.chunks:
        for start in range(0, len(chunk), _BATCH_ROWS):
            batch = chunk.slice(start, _BATCH_ROWS)
            digests.append(digests_of(batch, digest))
            advance(len(batch))
    return first_of_equal(np.concatenate(digests), lambda rows: take(texts, rows))


def first_of_equal(digests: NDArray[np.uint64], take_texts: TakeTexts) -> NDArray[np.int64]:
    """Find the first equal texts from digests; read only the texts that share a digest.

    Args:
        digests: (N, 2) digests of the normalized texts.
        take_texts: function from positions to texts.
    """
    firsts: NDArray[np.int64] = _first_of_digest(digests)
    rows = np.flatnonzero(firsts != np.arange(len(firsts)))
    # Equal digests nearly always mean equal texts; only exceptions are compared one by one.
    seen: dict[tuple[int, bytes], int] = {}
    for row in rows[~_equal_pairs(take_texts, rows, firsts[rows])].tolist():
        text = bytes(normalize_all(take_texts(np.array([row]))).data)
        firsts[row] = seen.setdefault((int(firsts[row]), text), row)
    return firsts


def digests_of(
    texts: pa.Array, digest: Callable[[memoryview], bytes] = xxhash.xxh3_128_digest
) -> NDArray[np.uint64]:
    """Compute digests (N, 2) of the normalized texts; pass a few thousand texts to bound memory."""
    digests = b"".join(map(digest, normalize_all(texts).texts()))
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def _equal_pairs(
    take_texts: TakeTexts, left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Compare the normalized texts at positions left[i] and right[i], (N,)."""
    is_equal = np.empty(len(left), bool)
    for start in range(0, len(left), _BATCH_ROWS):
        end = min(start + _BATCH_ROWS, len(left))
        sides = (normalize_all(take_texts(rows[start:end])).texts() for rows in (left, right))
        is_equal[start:end] = [one == other for one, other in zip(*sides, strict=True)]
    return is_equal


def take(texts: pa.ChunkedArray, rows: NDArray[np.int64]) -> pa.Array:
    """Take the texts at these positions.

    Arrow's `take` first copies all chunks, even for a few positions.
    """
    ends = np.cumsum([len(chunk) for chunk in texts.chunks])
    chunk_of = np.searchsorted(ends, rows, side="right")
    order = np.argsort(chunk_of, kind="stable")
    numbers, starts = np.unique(chunk_of[order], return_index=True)
    parts = [
        texts.chunk(number).take(pa.array(part - (ends[number - 1] if number else 0)))
        for number, part in zip(numbers.tolist(), np.split(rows[order], starts[1:]), strict=True)
    ]
    if not parts:
        return pa.array([], texts.type)
    return pa.concat_arrays(parts).take(pa.array(np.argsort(order)))


@njit(cache=True, nogil=True)
def _first_of_digest(digests: NDArray[np.uint64]) -> NDArray[np.int64]:
    """First position (N,) of each digest (N, 2): a hash table with open addressing."""
    num_slots = 1
    while num_slots < 2 * len(digests) + 1:
        num_slots *= 2
    slots = np.full(num_slots, -1, np.int64)
    firsts = np.empty(len(digests), np.int64)
    for row in range(len(digests)):
        slot = np.int64(digests[row, 0] & np.uint64(num_slots - 1))
        while slots[slot] >= 0:
            other = slots[slot]
            if digests[other, 0] == digests[row, 0] and digests[other, 1] == digests[row, 1]:
                break
            slot = (slot + 1) & (num_slots - 1)
        if slots[slot] < 0:
            slots[slot] = row
        firsts[row] = slots[slot]
    return firsts
