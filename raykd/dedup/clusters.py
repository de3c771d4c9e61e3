"""Selection of the near duplicates to remove, and the kept unit that replaces each."""

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
    """Near duplicates to remove, in ascending order.

    Attributes:
        rows: (R,) positions of the removed rows.
        partners: (R,) for each, the first kept row of which it is a near duplicate.
        similarities: (R,) Jaccard of the two, at least the threshold.
    """

    rows: _Rows
    partners: _Rows
    similarities: NDArray[np.float64]


def near_duplicates(
    table: pa.Table, config: NearDuplicatesConfig, *, key_bits: int = 64
) -> Removals:
    """Find the rows that are near duplicates of an earlier row that is kept.

    A row is removed if and only if it has such a partner. The decision depends only on the rows
    before it, never on a chain of removed rows.

    Args:
        table: units with a column `text`, the best unit first.
        config: definition of a near duplicate.
        key_bits: bits of a band key that are compared; fewer bits pair more rows.
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
    """Decide row by row: remove a row when an earlier row is kept and is a near duplicate of it.

    Args:
        pairs: near duplicates.
        num_rows: number of rows.

    Returns:
        The removals; and the kept rows (D,) that are near duplicates of an earlier, removed row,
        ascending. They may have missed comparisons because of the removed row.
    """
    # Process the pairs so that a row is decided before it decides about later rows.
    order = np.lexsort((pairs.left, pairs.right))
    left, right, similarity = pairs.left[order], pairs.right[order], pairs.similarities[order]
    partners = np.arange(num_rows)
    similarities = np.empty(num_rows)
    _choose(left, right, similarity, partners, similarities)
    rows = np.flatnonzero(partners != np.arange(num_rows))
    doubtful = np.unique(right[partners[right] == right])
    return Removals(rows, partners[rows], similarities[rows]), doubtful


def doubted(large: Buckets, removed: _Rows, doubtful: _Rows) -> Buckets:
    """Select the kept rows of large buckets with a doubtful row; they are compared once more.

    If the comparison finds no new pair, all necessary pairs have been compared.
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
