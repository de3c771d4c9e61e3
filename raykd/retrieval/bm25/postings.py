"""Postings of one superblock: units of each term, and the term's saturation in each unit."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.bm25.forward_index import TermStreams
from raykd.retrieval.bm25.packed_postings import packed_postings
from raykd.retrieval.bm25.scoring import SaturationForm, saturation

# Codes of pairs (tf, length) in a grid of rows and columns; larger codes are for rare pairs.
_NUM_SQUARE_CODES = 1 << 15
_NUM_CODES = 1 << 16

Codes = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True)
class Postings:
    """Postings of one superblock; term number t has the range offsets[t]:offsets[t + 1].

    Attributes:
        offsets: (V + 1,) ranges of the terms.
        units: (P,) positions in the superblock, ascending within a term.
        codes: (P,) positions in `table`.
        table: saturations.
    """

    offsets: NDArray[np.int32]
    units: NDArray[np.uint16]
    codes: Codes
    table: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.offsets.nbytes + self.units.nbytes + self.codes.nbytes + self.table.nbytes


def postings_of(
    streams: TermStreams,
    length_numbers: NDArray[np.int32],
    norms: NDArray[np.float64],
    num_terms: int,
    form: SaturationForm,
    units: tuple[int, int],
) -> Postings:
    """Build the postings of a range of units.

    Args:
        streams: term numbers of a shard's units.
        length_numbers: (last - first,) position of each unit's length norm in `norms`.
        norms: length norms.
        num_terms: size V of the vocabulary.
        form: form of the saturation.
        units: range [first, last) of at most 65,536 units.
    """
    packed = packed_postings(streams, num_terms, units)
    present = np.bincount(length_numbers, minlength=len(norms)) > 0
    column_of = (np.cumsum(present) - 1).astype(np.int32)[length_numbers]
    norms = norms[present]
    highest_tf = _highest_tf(packed)
    num_rows = max(1, min(highest_tf, _NUM_SQUARE_CODES // max(len(norms), 1)))
    num_others = _num_above(num_rows, packed) if highest_tf > num_rows else 0
    if num_rows * len(norms) + num_others <= _NUM_CODES:
        positions, codes, table = _short_codes(packed, column_of, norms, num_rows, num_others, form)
        return Postings(packed.offsets, positions, codes, table)
    positions, table = _saturations(packed, column_of, norms, form)
    return Postings(packed.offsets, positions, np.arange(len(table), dtype=np.uint32), table)


@njit(cache=True, nogil=True)
def _highest_tf(packed: Any) -> int:
    starts, offsets, numbers, tf_bits = packed
    low_bits = numbers.dtype.type((1 << tf_bits) - 1)
    highest = numbers.dtype.type(1)
    for term in range(len(starts)):
        for position in range(starts[term], starts[term] + offsets[term + 1] - offsets[term]):
            highest = max(highest, numbers[position] & low_bits)
    return int(highest)


@njit(cache=True, nogil=True)
def _num_above(tf: int, packed: Any) -> int:
    """Count the postings with a higher tf."""
    starts, offsets, numbers, tf_bits = packed
    low_bits = numbers.dtype.type((1 << tf_bits) - 1)
    num = 0
    for term in range(len(starts)):
        for position in range(starts[term], starts[term] + offsets[term + 1] - offsets[term]):
            num += (numbers[position] & low_bits) > tf
    return num


@njit(cache=True, nogil=True)
def _short_codes(
    packed: Any,
    column_of: NDArray[np.int32],
    norms: NDArray[np.float64],
    num_rows: int,
    num_others: int,
    form: SaturationForm,
) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.float64]]:
    """Compute units, codes and table: a grid of `num_rows` tfs, and one entry per higher tf."""
    starts, offsets, numbers, tf_bits = packed
    num_columns = len(norms)
    table = np.empty(num_rows * num_columns + num_others)
    for row in range(num_rows):
        for column in range(num_columns):
            table[row * num_columns + column] = saturation(row + 1.0, norms[column], form)
    units, codes = np.empty(offsets[-1], np.uint16), np.empty(offsets[-1], np.uint16)
    bits = numbers.dtype.type(tf_bits)
    low_bits = numbers.dtype.type((1 << tf_bits) - 1)
    other = num_rows * num_columns
    for term in range(len(starts)):
        before = starts[term] - offsets[term]
        for i in range(np.uint32(offsets[term]), np.uint32(offsets[term + 1])):
            posting = numbers[i + before]
            unit, tf = np.int64(posting >> bits), np.int64(posting & low_bits)
            units[i] = unit
            column = column_of[unit]
            if tf <= num_rows:
                codes[i] = (tf - 1) * num_columns + column
            else:
                table[other] = saturation(float(tf), norms[column], form)
                codes[i] = other
                other += 1
    return units, codes, table


@njit(cache=True, nogil=True)
def _saturations(
    packed: Any, column_of: NDArray[np.int32], norms: NDArray[np.float64], form: SaturationForm
) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Compute the unit and the saturation of every posting."""
    starts, offsets, numbers, tf_bits = packed
    units, table = np.empty(offsets[-1], np.uint16), np.empty(offsets[-1])
    bits = numbers.dtype.type(tf_bits)
    low_bits = numbers.dtype.type((1 << tf_bits) - 1)
    for term in range(len(starts)):
        before = starts[term] - offsets[term]
        for i in range(offsets[term], offsets[term + 1]):
            posting = numbers[i + before]
            units[i] = posting >> bits
            column = column_of[np.int64(posting >> bits)]
            table[i] = saturation(float(posting & low_bits), norms[column], form)
    return units, table
