"""The postings of one superblock of a shard: term -> units and what the term counts in each."""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.scoring import SaturationForm, saturation
from raykd.retrieval.streams import WIDE, Offsets, TermStreams

# Codes of pairs (tf, length) that are looked up by row and column; the codes above name pairs
# that are too rare for a row.
_NUM_SQUARE_CODES = 1 << 15
_NUM_CODES = 1 << 16


Codes = NDArray[np.uint16] | NDArray[np.uint32]


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
    offsets, positions, tf = _postings(
        streams.common,
        streams.common_offsets[first : last + 1],
        streams.others,
        streams.offsets[first : last + 1],
        num_terms,
    )
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
def _postings(  # noqa: C901  # the comment below says why
    common: NDArray[np.uint8],
    common_offsets: Offsets,
    others: NDArray[np.uint16],
    other_offsets: Offsets,
    num_terms: int,
) -> tuple[NDArray[np.int32], NDArray[np.uint16], NDArray[np.int32]]:
    """Sort the terms of the units by term; count the repeats within a unit."""
    # Two passes, the same but for what they do with a term. A function for a term, inlined by
    # numba, takes five times as long: it counts references to every array.
    last_unit = np.full(num_terms, -1, np.int32)
    ends = np.zeros(num_terms + 1, np.int32)
    offsets = np.empty(num_terms + 1, np.int32)
    units = np.empty(0, np.uint16)
    tf = np.empty(0, np.int32)
    has_wide = num_terms > WIDE
    for writes in (False, True):
        for unit in range(len(other_offsets) - 1):
            common_stop = int(common_offsets[unit + 1])
            stop = int(other_offsets[unit + 1])
            common_position, position = int(common_offsets[unit]), int(other_offsets[unit])
            while common_position < common_stop or position < stop:
                if common_position < common_stop:
                    term = np.uint32(common[common_position])
                    common_position += 1
                else:
                    term = np.uint32(others[position])
                    position += 1
                    if has_wide and term == WIDE:
                        high, low = others[position], others[position + 1]
                        term = (np.uint32(high) << np.uint32(16)) | np.uint32(low)
                        position += 2
                if last_unit[term] != unit:
                    last_unit[term] = unit
                    if writes:
                        units[ends[term]] = unit
                        tf[ends[term]] = 1
                    ends[term] += 1
                elif writes:
                    tf[ends[term] - 1] += 1
        if not writes:
            total = 0
            for number in range(num_terms + 1):
                offsets[number] = total
                total += int(ends[number])
                ends[number] = offsets[number]
            units = np.empty(total, np.uint16)
            tf = np.empty(total, np.int32)
            last_unit[:] = -1
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
