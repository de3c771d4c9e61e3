"""Block maxima of one superblock: the maximum score of each term in each unit block."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.bm25.postings import Codes, Postings

HIGHEST = 255
LISTED = -1
# Terms that occur in at least 1 / _DENSE_SHARE of the unit blocks have a dense row.
_DENSE_SHARE = 8


@dataclass(frozen=True)
class BlockMaxima:
    """Maximum score of each term in each unit block, quantized to steps and rounded up.

    Attributes:
        step: score per step: a maximum m bounds the score of one query occurrence by m * step.
        terms: (V, 4) per term number: start and length of its list, its highest maximum, and its
            row in `dense` or `LISTED`.
        blocks: (E,) block numbers, ascending within a term.
        maxima: (E,) maxima of these blocks.
        dense: (R, num_blocks) maxima of all blocks, for frequent terms.
    """

    step: float
    terms: NDArray[np.int32]
    blocks: NDArray[np.uint16]
    maxima: NDArray[np.uint8]
    dense: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        parts = (self.terms, self.blocks, self.maxima, self.dense)
        return sum(part.nbytes for part in parts)


def block_maxima(
    postings: Postings, idf: NDArray[np.float64], block_units: int, num_blocks: int
) -> BlockMaxima:
    """Compute the block maxima of a superblock.

    Args:
        postings: postings of the superblock.
        idf: (V,) idf by term number.
        block_units: units per block.
        num_blocks: blocks per superblock.
    """
    best = _best_saturations(postings.offsets, postings.codes, postings.table) * idf
    # The step is 1 for a superblock without postings.
    step = float(best.max(initial=0.0)) / HIGHEST or 1.0
    limit = max(num_blocks // _DENSE_SHARE, 1)
    num_dense = int((np.diff(postings.offsets) >= limit).sum())
    terms, blocks, maxima, dense = _fill(
        postings.offsets,
        postings.units,
        postings.codes,
        postings.table,
        idf,
        1 / step,
        block_units,
        limit,
        np.zeros((num_dense, num_blocks), np.uint8),
    )
    num_rows = int(terms[:, 3].max(initial=LISTED)) + 1
    return BlockMaxima(step, terms, blocks.copy(), maxima.copy(), dense[:num_rows].copy())


@njit(cache=True, nogil=True)
def _best_saturations(
    offsets: NDArray[np.int32], codes: Codes, table: NDArray[np.float64]
) -> NDArray[np.float64]:
    best = np.zeros(len(offsets) - 1)
    for term in range(len(best)):
        most = 0.0
        for i in range(offsets[term], offsets[term + 1]):
            most = max(most, table[codes[i]])
        best[term] = most
    return best


@njit(cache=True, nogil=True)
def _fill(
    offsets: NDArray[np.int32],
    units: NDArray[np.uint16],
    codes: Codes,
    table: NDArray[np.float64],
    idf: NDArray[np.float64],
    steps: float,
    block_units: int,
    limit: int,
    dense: NDArray[np.uint8],
) -> tuple[
    NDArray[np.int32],
    NDArray[np.uint16],
    NDArray[np.uint8],
    NDArray[np.uint8],
]:
    num_terms = len(offsets) - 1
    terms = np.empty((num_terms, 4), np.int32)
    blocks = np.empty(len(units), np.uint16)
    maxima = np.empty(len(units), np.uint8)
    # Multiplication instead of division; exact for 16 bits.
    inverse = np.uint64((1 << 32) // block_units + 1)
    num_rows = 0
    end = 0
    for term in range(num_terms):
        start = end
        weight = idf[term] * steps
        last_block = -1
        most = highest = 0
        for i in range(np.uint32(offsets[term]), np.uint32(offsets[term + 1])):
            value = min(int(np.ceil(weight * table[codes[i]])), HIGHEST)
            block: Any = np.int64((np.uint64(units[i]) * inverse) >> np.uint64(32))
            # Branch-free, since the branch would be unpredictable.
            is_new = block != last_block
            highest = max(value, 0 if is_new else highest)
            most = max(most, value)
            end += is_new
            last_block = block
            blocks[end - 1] = block
            maxima[end - 1] = highest
        row = LISTED
        if end - start >= limit:
            row = num_rows
            for i in range(start, end):
                dense[row, blocks[i]] = maxima[i]
            num_rows += 1
            end = start
        terms[term, 0], terms[term, 1] = start, end - start
        terms[term, 2], terms[term, 3] = most, row
    return terms, blocks[:end], maxima[:end], dense
