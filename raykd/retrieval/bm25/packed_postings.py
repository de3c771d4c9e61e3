"""Packed postings: the terms of some units sorted by term, with unit and tf in one integer."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.bm25.forward_index import WIDE, Offsets, TermStreams
from raykd.text.simd import prefetch

# Prefetch distance of written postings, in terms.
_AHEAD = 12
# Larger than all 65,536 possible units, both with 17 and with 32 bits per unit.
_NO_UNIT = np.uint64(0xFFFFFFFFFFFFFFFF)


class PackedPostings(NamedTuple):
    """Postings with gaps between the terms.

    Attributes:
        starts: (V,) start of the postings of each term number.
        offsets: (V + 1,) number of postings of all terms before each term.
        packed: unit, and tf in the lowest `tf_bits` bits; 32 bits in total if possible.
        tf_bits: 15, or 32 if a unit may contain a term more often.
    """

    starts: NDArray[np.int64]
    offsets: NDArray[np.int32]
    packed: NDArray[np.uint32] | NDArray[np.uint64]
    tf_bits: int


def packed_postings(streams: TermStreams, num_terms: int, units: tuple[int, int]) -> PackedPostings:
    """Build the packed postings of a range of units.

    Args:
        streams: term numbers of a shard's units.
        num_terms: size V of the vocabulary.
        units: range [first, last) of at most 65,536 units; postings number them from 0.
    """
    first, last = units
    of_units = (
        streams.common,
        streams.common_offsets[first : last + 1],
        streams.others,
        streams.offsets[first : last + 1],
    )
    starts = _starts(*of_units, num_terms)
    longest = max(int(np.diff(offsets).max(initial=0)) for offsets in of_units[1::2])
    tf_bits = 15 if longest < 1 << 15 else 32
    packed = np.empty(starts[-1], np.uint32 if tf_bits == 15 else np.uint64)
    ends = _fill(*of_units, starts, packed, tf_bits)
    num_postings = ends.astype(np.int64) - starts[:-1]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(num_postings)]).astype(np.int32)
    # The first posting of each term is a sentinel without a unit.
    return PackedPostings(starts[:-1] + 1, offsets, packed, tf_bits)


@njit(cache=True, nogil=True)
def _starts(
    common: NDArray[np.uint8],
    common_offsets: Offsets,
    others: NDArray[np.uint16],
    other_offsets: Offsets,
    num_terms: int,
) -> NDArray[np.int64]:
    """Compute the start of each term's postings (V + 1,): one per occurrence, and a sentinel."""
    starts = np.zeros(num_terms + 1, np.int64)
    for position in range(np.int64(common_offsets[0]), np.int64(common_offsets[-1])):
        starts[common[position]] += 1
    other_position: Any = np.int64(other_offsets[0])
    while other_position < np.int64(other_offsets[-1]):
        term, other_position = _other_term(others, other_position, num_terms)
        starts[term] += 1
    total = 0
    for number in range(num_terms + 1):
        num_occurrences = starts[number]
        starts[number] = total
        total += num_occurrences + 1
    return starts


@njit(cache=True, nogil=True)
def _fill(
    common: NDArray[np.uint8],
    common_offsets: Offsets,
    others: NDArray[np.uint16],
    other_offsets: Offsets,
    starts: NDArray[np.int64],
    packed: Any,
    tf_bits: int,
) -> NDArray[np.uint64]:
    """Sort the terms of the units by term; count the repeats within a unit.

    Returns:
        Position of each term's last posting (V,). The first posting is a sentinel.
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
        other_position: Any = np.int64(other_offsets[unit])
        while other_position < np.int64(other_offsets[unit + 1]):
            ahead = others[min(other_position + _AHEAD, last_other)]
            # Half of a wide term number may not be a valid term.
            prefetch(packed, ends[min(np.uint64(ahead), last_term)])
            term, other_position = _other_term(others, other_position, num_terms)
            _count_one(np.uint64(term), unit_bits, bits, packed, ends)
    return ends


@njit(cache=True, nogil=True, inline="always")
def _other_term(others: NDArray[np.uint16], position: Any, num_terms: int) -> tuple[Any, Any]:
    """Decode the term at a position of the stream, and the position of the next one."""
    term = np.int64(others[position])
    if num_terms > WIDE and term == WIDE:
        return np.int64(others[position + 1]) << 16 | np.int64(others[position + 2]), position + 3
    return term, position + 1


@njit(cache=True, nogil=True, inline="always")
def _count_one(term: Any, unit_bits: Any, bits: Any, packed: Any, ends: NDArray[np.uint64]) -> None:
    """Add 1 to the tf of the term in the unit; branch-free, since it would be unpredictable."""
    end = ends[term]
    last = np.uint64(packed[end])
    is_there = (last ^ unit_bits) >> bits == 0
    end += np.uint64(not is_there)
    packed[end] = (last if is_there else unit_bits) + np.uint64(1)
    ends[term] = end
