"""Near duplicates to clusters, of which one unit is kept."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash
from numba import njit
from numpy.typing import NDArray

from raykd.dedup.exact import TakeTexts, take
from raykd.dedup.minhash import NearDuplicatesConfig, band_keys, jaccard, shingles

# In larger buckets not every pair is compared: the time would grow with the square.
_MAX_ALL_PAIRS = 64
_NUM_NEIGHBOURS = 16
_BATCH_ROWS = 4096
_BATCH_PAIRS = 16_384

_Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Removals:
    """Near duplicates to be left out, in ascending order.

    rows: (R,) positions; partners: (R,) the position kept instead of each; similarities: (R,)
    Jaccard of the two, which is below the threshold where others of the cluster link them.
    """

    rows: NDArray[np.int64]
    partners: NDArray[np.int64]
    similarities: NDArray[np.float64]


def near_duplicates(
    table: pa.Table, config: NearDuplicatesConfig, *, key_bits: int = 64
) -> Removals:
    """Which rows are near duplicates of a row before them.

    A cluster is a connected component of pairs with a Jaccard of at least `threshold`; its first
    row is kept and all others go, also those that only a chain of others links to the first. The
    clusters depend on ids and texts alone, not on the order of the rows.

    Args:
        table: columns `unit_id` (string or int64, no two alike) and `text`, the best unit first.
        config: what a near duplicate is.
        key_bits: bits of a band's key that are looked at; with fewer, more pairs are compared.
    """
    texts = table["text"]
    with_words, keys = keys_of(texts, config, key_bits)
    ties = tie_breaks(table["unit_id"])[with_words]
    pairs = [candidate_pairs(keys[:, band], ties, with_words) for band in range(config.num_bands)]
    left, right = distinct_pairs(pairs)

    def take_texts(wanted: _Rows) -> pa.Array:
        return take(texts, wanted)

    is_near = similarities(take_texts, left, right, config) >= config.threshold
    firsts = components(left[is_near], right[is_near], len(texts))
    rows = np.flatnonzero(firsts != np.arange(len(texts)))
    return Removals(rows, firsts[rows], similarities(take_texts, firsts[rows], rows, config))


def tie_breaks(unit_ids: pa.ChunkedArray) -> NDArray[np.uint64]:
    """A number for each unit (U,) that depends on its id alone."""
    hashes = (xxhash.xxh3_64_intdigest(str(name).encode()) for name in unit_ids.to_pylist())
    return np.fromiter(hashes, np.uint64, len(unit_ids))


def candidate_pairs(
    keys: NDArray[np.uint64], ties: NDArray[np.uint64], rows: _Rows
) -> tuple[_Rows, _Rows]:
    """Pairs of rows with equal keys, each row smaller than its partner.

    Of more than `_MAX_ALL_PAIRS` rows with one key, each is paired with the first and with its
    `_NUM_NEIGHBOURS` neighbours in the order of `ties`.

    Args:
        keys: (U,) one band's.
        ties: (U,) of the units.
        rows: (U,) numbers of the units.
    """
    order = np.argsort(keys)
    is_next = keys[order[1:]] == keys[order[:-1]]
    # Most keys stand alone and need no further order.
    is_shared = np.zeros(len(order), bool)
    is_shared[1:] |= is_next
    is_shared[:-1] |= is_next
    order = order[is_shared]
    order = order[np.lexsort((ties[order], keys[order]))]
    ordered_keys, ordered_rows = keys[order], rows[order]
    num_pairs = _pair(ordered_keys, ordered_rows, np.empty((0, 2), np.int64))
    pairs = np.empty((num_pairs, 2), np.int64)
    _pair(ordered_keys, ordered_rows, pairs)
    return pairs[:, 0], pairs[:, 1]


def distinct_pairs(pairs: list[tuple[_Rows, _Rows]]) -> tuple[_Rows, _Rows]:
    """Every pair once, in ascending order."""
    left = np.concatenate([np.empty(0, np.int64), *(pair[0] for pair in pairs)])
    right = np.concatenate([np.empty(0, np.int64), *(pair[1] for pair in pairs)])
    order = np.lexsort((right, left))
    left, right = left[order], right[order]
    is_first = np.ones(len(left), bool)
    is_first[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    return left[is_first], right[is_first]


def similarities(
    take_texts: TakeTexts, left: _Rows, right: _Rows, config: NearDuplicatesConfig
) -> NDArray[np.float64]:
    """True Jaccard (N,) of the texts at positions left[i] and right[i]."""
    found = np.empty(len(left))
    for start in range(0, len(left), _BATCH_PAIRS):
        pairs = slice(start, start + _BATCH_PAIRS)
        rows, positions = np.unique(
            np.concatenate([left[pairs], right[pairs]]), return_inverse=True
        )
        sets = shingles(take_texts(rows), config.shingle_words).sets()
        num_pairs = len(positions) // 2
        found[pairs] = jaccard(sets, positions[:num_pairs], positions[num_pairs:])
    return found


def components(left: _Rows, right: _Rows, num_rows: int) -> _Rows:
    """The smallest row (num_rows,) of each row's connected component."""
    roots = np.arange(num_rows)
    _unite(left, right, roots)
    return roots


def keys_of(
    texts: pa.ChunkedArray, config: NearDuplicatesConfig, key_bits: int = 64
) -> tuple[_Rows, NDArray[np.uint64]]:
    """Rows that have words (V,), and their keys (V, num_bands)."""
    rows, keys = [np.empty(0, np.int64)], [np.empty((0, config.num_bands), np.uint64)]
    start = 0
    for chunk in texts.chunks:
        for offset in range(0, len(chunk), _BATCH_ROWS):
            found = shingles(chunk.slice(offset, _BATCH_ROWS), config.shingle_words)
            with_words = np.flatnonzero(found.num_each())
            rows.append(start + with_words)
            keys.append(band_keys(found, config)[with_words] & np.uint64(2**key_bits - 1))
            start += len(found.starts) - 1
    return np.concatenate(rows), np.concatenate(keys)


@njit(cache=True, nogil=True)
def _pair(keys: NDArray[np.uint64], rows: _Rows, pairs: NDArray[np.int64]) -> int:
    """Write the pairs of equal keys, which stand together; only count where there is no room."""
    num_pairs = 0
    start = 0
    while start < len(keys):
        end = start + 1
        while end < len(keys) and keys[end] == keys[start]:
            end += 1
        is_large = end - start > _MAX_ALL_PAIRS
        for one in range(start, end):
            last = min(end, one + 1 + _NUM_NEIGHBOURS) if is_large else end
            for other in range(one + 1, last):
                num_pairs = _add_pair(rows[one], rows[other], pairs, num_pairs)
            if is_large and one > start + _NUM_NEIGHBOURS:
                num_pairs = _add_pair(rows[one], rows[start], pairs, num_pairs)
        start = end
    return num_pairs


@njit(cache=True, nogil=True)
def _add_pair(one: int, other: int, pairs: NDArray[np.int64], num_pairs: int) -> int:
    if num_pairs < len(pairs):
        pairs[num_pairs, 0] = min(one, other)
        pairs[num_pairs, 1] = max(one, other)
    return num_pairs + 1


@njit(cache=True, nogil=True)
def _root(roots: _Rows, row: int) -> int:
    while roots[row] != row:
        roots[row] = roots[roots[row]]
        row = roots[row]
    return row


@njit(cache=True, nogil=True)
def _unite(left: _Rows, right: _Rows, roots: _Rows) -> None:
    """Union-find: a root is always the smallest of its component."""
    for pair in range(len(left)):
        one, other = _root(roots, left[pair]), _root(roots, right[pair])
        if one < other:
            roots[other] = one
        else:
            roots[one] = other
    for row in range(len(roots)):
        roots[row] = _root(roots, row)
