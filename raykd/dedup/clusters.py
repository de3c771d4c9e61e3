"""Near duplicates: which units are removed, and which unit is kept instead of each."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from raykd.dedup.buckets import Buckets, Pairs, keys_of, near_pairs
from raykd.dedup.exact import take
from raykd.dedup.minhash import NearDuplicatesConfig

_Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Removals:
    """Near duplicates to be left out, in ascending order.

    rows: (R,) positions; partners: (R,) the first row kept that each is a near duplicate of;
    similarities: (R,) Jaccard of the two, at least the threshold.
    """

    rows: _Rows
    partners: _Rows
    similarities: NDArray[np.float64]


def near_duplicates(
    table: pa.Table, config: NearDuplicatesConfig, *, key_bits: int = 64
) -> Removals:
    """Near duplicates of a row before them that is kept.

    A row is removed if and only if it has such a partner, which alone decides what becomes of it:
    it depends on the rows before it and not on those after it, and never on a chain of others.

    Args:
        table: column `text`, the best unit first.
        config: what a near duplicate is.
        key_bits: bits of a band's key that are compared; fewer bits pair more rows.
    """
    texts = table["text"]
    with_words, keys = keys_of(texts, config, key_bits)
    buckets = Buckets.joined(
        [
            Buckets.of_keys(keys[:, band], with_words, lambda rows: rows)
            for band in range(config.num_bands)
        ]
    )
    del keys

    def take_texts(rows: _Rows) -> pa.Array:
        return take(texts, rows)

    pairs = near_pairs(buckets, take_texts, config)
    large = buckets.large()
    while True:
        removals, doubtful = choose(pairs, len(texts))
        more = near_pairs(doubted(large, removals.rows, doubtful), take_texts, config)
        if not len(more.left):
            return removals
        pairs = Pairs.joined([pairs, more])


def choose(pairs: Pairs, num_rows: int) -> tuple[Removals, _Rows]:
    """Decide row by row: one is removed when a row before it is kept and near to it.

    Args:
        pairs: near duplicates.
        num_rows: number of rows.

    Returns:
        The removals; and the rows (D,) that are kept though near to a row before them, ascending.
        Those may have been left out of comparisons for the sake of a row that is removed itself.
    """
    # All that decides on a row comes before what it decides.
    order = np.lexsort((pairs.left, pairs.right))
    left, right, similarity = pairs.left[order], pairs.right[order], pairs.similarities[order]
    partners = np.arange(num_rows)
    similarities = np.empty(num_rows)
    _choose(left, right, similarity, partners, similarities)
    rows = np.flatnonzero(partners != np.arange(num_rows))
    doubtful = np.unique(right[partners[right] == right])
    return Removals(rows, partners[rows], similarities[rows]), doubtful


def doubted(large: Buckets, removed: _Rows, doubtful: _Rows) -> Buckets:
    """The rows that are kept of large buckets that hold a doubtful row: compared once more.

    Where this finds no pair, all rows with a key in common have been compared as far as needed.
    """
    num_doubtful = large.num_each(np.isin(large.rows, doubtful))
    has_doubt = np.repeat(num_doubtful > 0, np.diff(large.starts))
    return large.restricted(has_doubt & ~np.isin(large.rows, removed))


@njit(cache=True, nogil=True)
def _choose(
    left: _Rows,
    right: _Rows,
    similarity: NDArray[np.float64],
    partners: _Rows,
    similarities: NDArray[np.float64],
) -> None:
    for pair in range(len(left)):
        one, other = left[pair], right[pair]
        if partners[one] == one and partners[other] == other:
            partners[other] = one
            similarities[other] = similarity[pair]
