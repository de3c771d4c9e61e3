"""Buckets of units that share a MinHash key, and the near duplicates among them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from raykd.dedup.exact import TakeTexts
from raykd.dedup.minhash import NearDuplicatesConfig, band_keys, jaccard, shingles

# Units of a bucket that are compared with all its other units in one round.
NUM_HEADS = 16
# Rounds. In a bucket with more than 1,024 units that are not near duplicates of each other, the
# units after the first 1,024 are not compared with one another: the time would be quadratic.
_MAX_WAVES = 64
_BATCH_ROWS = 4096
_BATCH_PAIRS = 16_384

_Rows = NDArray[np.int64]
# Rows (N,) -> ranks (N,); of two near duplicates the row with the smaller rank is kept.
RanksOf = Callable[[_Rows], _Rows]


class Pairs(NamedTuple):
    """Near duplicates: rows left (P,) < right (P,), each pair once, and their Jaccard (P,)."""

    left: _Rows
    right: _Rows
    similarities: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Concatenate the pairs of several parts, each pair once, in ascending order."""
        left, right, similarities = (
            np.concatenate([np.empty(0, column_type), *(part[column] for part in parts)])
            for column, column_type in enumerate((np.int64, np.int64, np.float64))
        )
        chosen = _first_of_each(left, right)
        return cls(left[chosen], right[chosen], similarities[chosen])


class Buckets(NamedTuple):
    """Sets of two or more rows that share a key; bucket b is rows[starts[b]:starts[b + 1]].

    Attributes:
        rows: (M,) row numbers; buckets of more than `NUM_HEADS + 1` rows are sorted by rank.
        starts: (B + 1,) first position of each bucket in `rows`.
    """

    rows: _Rows
    starts: _Rows

    @classmethod
    def of_keys(cls, keys: NDArray[np.uint64], rows: _Rows, ranks_of: RanksOf) -> Self:
        """Group rows (U,) by key (U,)."""
        order = np.argsort(keys)
        is_next = keys[order[1:]] == keys[order[:-1]]
        # Most keys occur once.
        is_shared = np.zeros(len(order), bool)
        is_shared[1:] |= is_next
        is_shared[:-1] |= is_next
        order = order[is_shared]
        shared_keys, shared_rows = keys[order], rows[order]
        is_first = np.ones(len(order), bool)
        is_first[1:] = shared_keys[1:] != shared_keys[:-1]
        starts = np.append(np.flatnonzero(is_first), len(order))
        large = np.flatnonzero(np.repeat(np.diff(starts) > NUM_HEADS + 1, np.diff(starts)))
        if len(large):
            bucket = np.cumsum(is_first)[large]
            shared_rows[large] = shared_rows[large][
                np.lexsort((ranks_of(shared_rows[large]), bucket))
            ]
        return cls(shared_rows, starts)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Concatenate the buckets of several parts."""
        rows = np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)])
        sizes = np.concatenate([np.empty(0, np.int64), *(np.diff(part.starts) for part in parts)])
        return cls(rows, _starts(sizes))

    def large(self) -> Self:
        """Select the buckets in which `near_pairs` does not compare all pairs of rows."""
        sizes = np.diff(self.starts)
        is_large = sizes > NUM_HEADS + 1
        return type(self)(self.rows[np.repeat(is_large, sizes)], _starts(sizes[is_large]))

    def num_each(self, is_member: NDArray[np.bool_]) -> _Rows:
        """Count the rows of each bucket (B,) for which `is_member` (M,) is true."""
        ones = np.append(is_member, False).astype(np.int64)
        return np.asarray(np.add.reduceat(ones, self.starts)[:-1], np.int64)

    def restricted(self, is_member: NDArray[np.bool_]) -> Self:
        """Restrict each bucket to the rows in `is_member` (M,); drop buckets of fewer than two."""
        counts = self.num_each(is_member)
        sizes = np.diff(self.starts)
        is_left = counts > 1
        rows = self.rows[is_member & np.repeat(is_left, sizes)]
        return type(self)(rows, _starts(counts[is_left]))


def near_pairs(buckets: Buckets, take_texts: TakeTexts, config: NearDuplicatesConfig) -> Pairs:
    """Find the pairs of rows in each bucket whose Jaccard is at least the threshold.

    The first `NUM_HEADS` rows of a bucket are compared with all its other rows. The next round does
    the same with the rows that are near duplicates of none of these heads.
    """
    pairs: list[Pairs] = []
    for _ in range(_MAX_WAVES):
        if not len(buckets.rows):
            break
        left, right = _head_pairs(buckets)
        similarity = similarities(take_texts, left, right, config)
        is_near = similarity >= config.threshold
        pairs.append(Pairs(left[is_near], right[is_near], similarity[is_near]))
        large = buckets.large()
        is_open = np.empty(len(large.rows), bool)
        _mark_open(large.rows, large.starts, pairs[-1].left, pairs[-1].right, is_open)
        buckets = large.restricted(is_open)
    return Pairs.joined(pairs)


def similarities(
    take_texts: TakeTexts, left: _Rows, right: _Rows, config: NearDuplicatesConfig
) -> NDArray[np.float64]:
    """Compute the exact Jaccard (N,) of the texts at positions left[i] and right[i]."""
    jaccards = np.empty(len(left))
    for start in range(0, len(left), _BATCH_PAIRS):
        batch = slice(start, start + _BATCH_PAIRS)
        rows, positions = np.unique(
            np.concatenate([left[batch], right[batch]]), return_inverse=True
        )
        sets = shingles(take_texts(rows), config.shingle_words).sets()
        num_pairs = len(positions) // 2
        jaccards[batch] = jaccard(sets, positions[:num_pairs], positions[num_pairs:])
    return jaccards


def keys_of(
    texts: pa.ChunkedArray, config: NearDuplicatesConfig, key_bits: int = 64
) -> tuple[_Rows, NDArray[np.uint64]]:
    """Compute the band keys of all texts: rows with words (V,), and their keys (V, num_bands)."""
    rows, keys = [np.empty(0, np.int64)], [np.empty((0, config.num_bands), np.uint64)]
    start = 0
    for chunk in texts.chunks:
        for offset in range(0, len(chunk), _BATCH_ROWS):
            batch_shingles = shingles(chunk.slice(offset, _BATCH_ROWS), config.shingle_words)
            with_words = np.flatnonzero(batch_shingles.num_each())
            rows.append(start + with_words)
            keys.append(band_keys(batch_shingles, config)[with_words] & np.uint64(2**key_bits - 1))
            start += len(batch_shingles.starts) - 1
    return np.concatenate(rows), np.concatenate(keys)


def _starts(sizes: _Rows) -> _Rows:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


def _first_of_each(left: _Rows, right: _Rows) -> _Rows:
    """Positions of the distinct pairs, in ascending order of the pairs."""
    order = np.lexsort((right, left))
    is_first = np.ones(len(order), bool)
    is_first[1:] = np.diff(left[order]).astype(bool) | np.diff(right[order]).astype(bool)
    return order[is_first]


def _head_pairs(buckets: Buckets) -> tuple[_Rows, _Rows]:
    """Distinct pairs of each bucket's heads with all its rows: left < right, ascending."""
    num_pairs = _pair(buckets.rows, buckets.starts, np.empty((0, 2), np.int64))
    pairs = np.empty((num_pairs, 2), np.int64)
    _pair(buckets.rows, buckets.starts, pairs)
    left, right = pairs[:, 0], pairs[:, 1]
    chosen = _first_of_each(left, right)
    return left[chosen], right[chosen]


@njit(cache=True, nogil=True)
def _pair(rows: _Rows, starts: _Rows, pairs: NDArray[np.int64]) -> int:
    """Write the pairs and return their number; count without writing when `pairs` is full."""
    num_pairs = 0
    for bucket in range(len(starts) - 1):
        start, end = starts[bucket], starts[bucket + 1]
        for one in range(start, min(start + NUM_HEADS, end)):
            for other in range(one + 1, end):
                # Two bands of one text can have equal keys by chance.
                if rows[one] == rows[other]:
                    continue
                if num_pairs < len(pairs):
                    pairs[num_pairs, 0] = min(rows[one], rows[other])
                    pairs[num_pairs, 1] = max(rows[one], rows[other])
                num_pairs += 1
    return num_pairs


@njit(cache=True, nogil=True)
def _mark_open(
    rows: _Rows, starts: _Rows, left: _Rows, right: _Rows, is_open: NDArray[np.bool_]
) -> None:
    """Mark the rows that are not heads and not near duplicates of a head of their bucket."""
    for bucket in range(len(starts) - 1):
        start, end = starts[bucket], starts[bucket + 1]
        num_heads = min(NUM_HEADS, end - start)
        is_open[start : start + num_heads] = False
        for member in range(start + num_heads, end):
            is_open[member] = True
            for head in range(start, start + num_heads):
                one, other = min(rows[head], rows[member]), max(rows[head], rows[member])
                if _holds(left, right, one, other):
                    is_open[member] = False
                    break


@njit(cache=True, nogil=True)
def _holds(left: _Rows, right: _Rows, one: int, other: int) -> bool:
    """Search a pair in ascending pairs by bisection."""
    low, high = 0, len(left)
    while low < high:
        middle = (low + high) // 2
        if left[middle] < one or (left[middle] == one and right[middle] < other):
            low = middle + 1
        else:
            high = middle
    return low < len(left) and left[low] == one and right[low] == other
