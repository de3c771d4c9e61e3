"""The postings of one superblock of a shard: term -> units and what the term counts in each."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.corpus.lanes import prefetch
from raykd.retrieval.scoring import SaturationForm, saturation
from raykd.retrieval.streams import WIDE, Offsets, TermStreams

# Codes of pairs (tf, length) that are looked up by row and column; the codes above name pairs
# that are too rare for a row.
_NUM_SQUARE_CODES = 1 << 15
_NUM_CODES = 1 << 16


# How far ahead of a posting that is written its place is fetched.
_AHEAD = 12
# Above all 65,536 units that there may be, whether 17 bits or 32 are left for it.
_NO_UNIT = np.uint64(0xFFFFFFFFFFFFFFFF)

Codes = NDArray[np.uint16] | NDArray[np.uint32]
Packed = NDArray[np.uint32] | NDArray[np.uint64]


@dataclass(frozen=True)
class Postings:
    """The postings of one superblock.

    Attributes:
        offsets: (V + 1,) the postings of the term numbered t stand at offsets[t]:offsets[t + 1].
        units: (P,) positions in the superblock, ascending within a term.
        codes: (P,) where the saturation stands in `table`.
        table: saturations.
    """

    offsets: NDArray[np.int32]
    units: NDArray[np.uint16]
    codes: Codes
    table: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        """Memory."""
        return self.offsets.nbytes + self.units.nbytes + self.codes.nbytes + self.table.nbytes


def postings_of(
    streams: TermStreams,
    length_numbers: NDArray[np.int32],
    norms: NDArray[np.float64],
    num_terms: int,
    form: SaturationForm,
    units: tuple[int, int],
) -> Postings:
    """The postings of some units.

    Args:
        streams: the terms of a shard's units.
        length_numbers: (last - first,) where each unit's length norm stands in `norms`.
        norms: length norms.
        num_terms: V.
        form: of the saturation.
        units: [first, last), at most 65,536.
    """
    first, last = units
    of_units = (
        streams.common,
        streams.common_offsets[first : last + 1],
        streams.others,
        streams.offsets[first : last + 1],
    )
    starts = _starts(*of_units, num_terms)
    # Unit and tf in one number: the fewer bytes, the fewer places of memory are written.
    longest = max(int(np.diff(offsets).max(initial=0)) for offsets in of_units[1::2])
    tf_bits = 15 if longest < 1 << 15 else 32
    packed = np.empty(starts[-1], np.uint32 if tf_bits == 15 else np.uint64)
    ends = _fill(*of_units, starts, packed, tf_bits)
    offsets, positions, tf = _unpacked(starts, ends, packed, tf_bits)
    present = np.bincount(length_numbers, minlength=len(norms)) > 0
    column_of = (np.cumsum(present) - 1).astype(np.int32)[length_numbers]
    norms = norms[present]
    num_rows = max(1, min(int(tf.max(initial=1)), _NUM_SQUARE_CODES // max(len(norms), 1)))
    num_others = int((tf > num_rows).sum())
    if num_rows * len(norms) + num_others <= _NUM_CODES:
        codes, table = _short_codes(positions, tf, column_of, norms, num_rows, num_others, form)
        return Postings(offsets, positions, codes, table)
    table = _saturations(positions, tf, column_of, norms, form)
    return Postings(offsets, positions, np.arange(len(table), dtype=np.uint32), table)


@njit(cache=True, nogil=True)
def _starts(
    common: NDArray[np.uint8],
    common_offsets: Offsets,
    others: NDArray[np.uint16],
    other_offsets: Offsets,
    num_terms: int,
) -> NDArray[np.int64]:
    """(V + 1,) where each term's packed postings start: one for each time it is said, and one."""
    starts = np.zeros(num_terms + 1, np.int64)
    for position in range(np.int64(common_offsets[0]), np.int64(common_offsets[-1])):
        starts[common[position]] += 1
    at: Any = np.int64(other_offsets[0])
    while at < np.int64(other_offsets[-1]):
        term, at = _other_term(others, at, num_terms)
        starts[term] += 1
    total = 0
    for number in range(num_terms + 1):
        num_said = starts[number]
        starts[number] = total
        total += num_said + 1
    return starts


@njit(cache=True, nogil=True)
def _fill(
    common: NDArray[np.uint8],
    common_offsets: Offsets,
    others: NDArray[np.uint16],
    other_offsets: Offsets,
    starts: NDArray[np.int64],
    packed: Packed,
    tf_bits: int,
) -> NDArray[np.uint64]:
    """Sort the terms of the units by term; count the repeats within a unit.

    Returns:
        (V,) where the last of each term's packed postings stands. The first is of no unit.
    """
    num_terms, bits = len(starts) - 1, np.uint64(tf_bits)
    ends = np.empty(num_terms, np.uint64)
    for number in range(num_terms):
        ends[number] = starts[number]
        packed[starts[number]] = _NO_UNIT
    last_other, last_term = int(other_offsets[-1]) - 1, np.uint64(num_terms - 1)
    for unit in range(len(other_offsets) - 1):
        unit_bits = np.uint64(unit) << bits
        for position in range(np.int64(common_offsets[unit]), np.int64(common_offsets[unit + 1])):
            _count_one(np.uint64(common[position]), unit_bits, bits, packed, ends)
        at: Any = np.int64(other_offsets[unit])
        while at < np.int64(other_offsets[unit + 1]):
            ahead = others[min(at + _AHEAD, last_other)]
            # Half of a wide term's number may be no term.
            prefetch(packed, ends[min(np.uint64(ahead), last_term)])
            term, at = _other_term(others, at, num_terms)
            _count_one(np.uint64(term), unit_bits, bits, packed, ends)
    return ends


@njit(cache=True, nogil=True, inline="always")
def _other_term(others: NDArray[np.uint16], at: Any, num_terms: int) -> tuple[Any, Any]:
    """The term at a position of the stream, and where the next one stands."""
    term = np.int64(others[at])
    if num_terms > WIDE and term == WIDE:
        return np.int64(others[at + 1]) << 16 | np.int64(others[at + 2]), at + 3
    return term, at + 1


@njit(cache=True, nogil=True, inline="always")
def _count_one(
    term: Any, unit_bits: Any, bits: Any, packed: Packed, ends: NDArray[np.uint64]
) -> None:
    """Add 1 to the tf of the term in the unit; whether it is there, a processor cannot guess."""
    end = ends[term]
    last = np.uint64(packed[end])
    is_there = (last ^ unit_bits) >> bits == 0
    end += np.uint64(not is_there)
    packed[end] = (last if is_there else unit_bits) + np.uint64(1)
    ends[term] = end


@njit(cache=True, nogil=True)
def _unpacked(
    starts: NDArray[np.int64], ends: NDArray[np.uint64], packed: Packed, tf_bits: int
) -> tuple[NDArray[np.int32], NDArray[np.uint16], NDArray[np.int32]]:
    """Offsets of the terms' postings, their units and their tf."""
    bits = np.uint64(tf_bits)
    low_bits = (np.uint64(1) << bits) - np.uint64(1)
    offsets = np.zeros(len(ends) + 1, np.int32)
    for term in range(len(ends)):
        offsets[term + 1] = offsets[term] + np.int64(ends[term]) - starts[term]
    units, tf = np.empty(offsets[-1], np.uint16), np.empty(offsets[-1], np.int32)
    for term in range(len(ends)):
        start, offset = starts[term] + 1, offsets[term]
        for number in range(offsets[term + 1] - offset):
            posting = np.uint64(packed[start + number])
            units[offset + number] = posting >> bits
            tf[offset + number] = posting & low_bits
    return offsets, units, tf


@njit(cache=True, nogil=True)
def _short_codes(
    units: NDArray[np.uint16],
    tf: NDArray[np.int32],
    column_of: NDArray[np.int32],
    norms: NDArray[np.float64],
    num_rows: int,
    num_others: int,
    form: SaturationForm,
) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """Codes below `num_rows` rows of all lengths; each posting of a higher tf has its own."""
    num_columns = len(norms)
    table = np.empty(num_rows * num_columns + num_others)
    for row in range(num_rows):
        for column in range(num_columns):
            table[row * num_columns + column] = saturation(row + 1.0, norms[column], form)
    codes = np.empty(len(units), np.uint16)
    other = num_rows * num_columns
    for i in range(len(units)):
        column = column_of[units[i]]
        if tf[i] <= num_rows:
            codes[i] = (tf[i] - 1) * num_columns + column
        else:
            table[other] = saturation(float(tf[i]), norms[column], form)
            codes[i] = other
            other += 1
    return codes, table


@njit(cache=True, nogil=True)
def _saturations(
    units: NDArray[np.uint16],
    tf: NDArray[np.int32],
    column_of: NDArray[np.int32],
    norms: NDArray[np.float64],
    form: SaturationForm,
) -> NDArray[np.float64]:
    table = np.empty(len(units))
    for i in range(len(units)):
        table[i] = saturation(float(tf[i]), norms[column_of[units[i]]], form)
    return table
