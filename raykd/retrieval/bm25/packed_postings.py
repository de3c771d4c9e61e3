"""The terms of some units sorted by term, each with its unit and tf in one number."""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.bm25.forward_index import WIDE, Offsets, TermStreams
from raykd.text.simd import prefetch

# How far ahead of a posting that is written its place is fetched.
_AHEAD = 12
# Above all 65,536 units that there may be, whether 17 bits or 32 are left for it.
_NO_UNIT = np.uint64(0xFFFFFFFFFFFFFFFF)


class PackedPostings(NamedTuple):
    """Postings with room left between those of a term and of the next.

    Attributes:
        starts: (V,) where the postings of the term numbered t start.
        offsets: (V + 1,) how many postings there are of all terms before it.
        packed: of each the unit, and in the `tf_bits` lowest bits the tf. The fewer bytes, the
            fewer places of memory are written.
        tf_bits: 15, or 32 where a unit may hold a term more often.
    """

    starts: NDArray[np.int64]
    offsets: NDArray[np.int32]
    packed: NDArray[np.uint32] | NDArray[np.uint64]
    tf_bits: int


def packed_postings(streams: TermStreams, num_terms: int, units: tuple[int, int]) -> PackedPostings:
    """The postings of some units.

    Args:
        streams: the terms of a shard's units.
        num_terms: V.
        units: [first, last), at most 65,536, numbered from 0.
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
    # Before the first posting of a term stands one of no unit.
    return PackedPostings(starts[:-1] + 1, offsets, packed, tf_bits)


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
    packed: Any,
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
def _count_one(term: Any, unit_bits: Any, bits: Any, packed: Any, ends: NDArray[np.uint64]) -> None:
    """Add 1 to the tf of the term in the unit; whether it is there, a processor cannot guess."""
    end = ends[term]
    last = np.uint64(packed[end])
    is_there = (last ^ unit_bits) >> bits == 0
    end += np.uint64(not is_there)
    packed[end] = (last if is_there else unit_bits) + np.uint64(1)
    ends[term] = end
