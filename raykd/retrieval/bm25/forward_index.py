"""Forward index of one shard, restricted to the query vocabulary."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.bm25.statistics import Statistics
from raykd.text.analyzer import TermLookup

# Number of terms with one-byte numbers: the most frequent ones, about half of all occurrences.
NUM_COMMON = 256
# Escape before the two halves of a term number that needs more than 16 bits.
WIDE = 0xFFFF

Part = tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.uint16], NDArray[np.int32]]
Offsets = NDArray[np.uint32] | NDArray[np.int64]

_FILE = "terms.npz"


@dataclass(frozen=True)
class TermStreams:
    """Term numbers, repeats included: those below `NUM_COMMON` in one stream, the rest in another.

    Attributes:
        common: common term numbers; unit u has common_offsets[u]:common_offsets[u + 1].
        common_offsets: (U + 1,) ranges of the units in `common`.
        others: other term numbers; unit u has offsets[u]:offsets[u + 1]. Numbers above 16 bits are
            `WIDE` and two halves.
        offsets: (U + 1,) ranges of the units in `others`.
    """

    common: NDArray[np.uint8]
    common_offsets: Offsets
    others: NDArray[np.uint16]
    offsets: Offsets

    @classmethod
    def joined(cls, parts: Sequence[Part]) -> "TermStreams":
        """Concatenate the streams of consecutive units.

        Args:
            parts: common stream, its size per unit, other stream, and its size per unit.
        """
        return cls(
            np.concatenate([np.empty(0, np.uint8), *(part[0] for part in parts)]),
            _offsets([part[1] for part in parts]),
            np.concatenate([np.empty(0, np.uint16), *(part[2] for part in parts)]),
            _offsets([part[3] for part in parts]),
        )

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        parts = (self.common, self.common_offsets, self.others, self.offsets)
        return sum(part.nbytes for part in parts)


@dataclass(frozen=True)
class ForwardIndex:
    """Query terms of each unit of a shard.

    Attributes:
        streams: term numbers of each unit.
        lengths: (U,) number of terms per unit, in the query vocabulary or not.
        term_numbers: (V,) number in `streams` of each term id; sorted by descending frequency in
            the first units of the shard.
    """

    streams: TermStreams
    lengths: NDArray[np.int32]
    term_numbers: NDArray[np.int32]

    @classmethod
    def of(
        cls, batches: Iterable[pa.Array], lookup: TermLookup, num_terms: int
    ) -> tuple["ForwardIndex", Statistics]:
        """Analyze the units of a shard, and compute their statistics.

        Args:
            batches: texts of the units, in batches that fit in memory.
            lookup: lookup of the query vocabulary.
            num_terms: size V of the vocabulary.
        """
        total = Statistics.empty(num_terms)
        term_numbers = np.arange(num_terms, dtype=np.int32)
        parts: list[Part] = []
        lengths = [np.empty(0, np.int32)]
        for texts in batches:
            stream = lookup.stream(texts)
            df = np.zeros(num_terms, np.int64)
            _count_units(stream.term_ids, stream.offsets, df)
            if not parts:
                order = np.argsort(-df, kind="stable")
                term_numbers[order] = np.arange(num_terms, dtype=np.int32)
            total += Statistics(len(texts), int(stream.lengths.sum(dtype=np.int64)), df)
            parts.append(_narrow(stream.term_ids, stream.offsets, term_numbers))
            lengths.append(stream.lengths)
        return cls(TermStreams.joined(parts), np.concatenate(lengths), term_numbers), total

    def write(self, folder: Path) -> None:
        """Write one file into a directory; its size is about a quarter of the text."""
        streams = self.streams
        np.savez(
            folder / _FILE,
            common=streams.common,
            common_offsets=streams.common_offsets,
            others=streams.others,
            offsets=streams.offsets,
            lengths=self.lengths,
            term_numbers=self.term_numbers,
        )

    @classmethod
    def read(cls, folder: Path) -> "ForwardIndex":
        """Read the file of `write`."""
        with np.load(folder / _FILE) as file:
            names = ("common", "common_offsets", "others", "offsets")
            streams = TermStreams(*(file[name] for name in names))
            return cls(streams, file["lengths"], file["term_numbers"])


@njit(cache=True, nogil=True)
def _count_units(
    term_ids: NDArray[np.int32], offsets: NDArray[np.int64], df: NDArray[np.int64]
) -> None:
    """Add to `df` (V,) the number of units that contain each term."""
    # The high half of a count is the last unit with the term (from 1), the low half the number of
    # units: one memory access per term, and no unpredictable branch.
    # Positions are unsigned, so that they need no check for negative indices.
    counts = np.zeros(len(df), np.uint64)
    half, low_half = np.uint64(32), np.uint64(0xFFFFFFFF)
    for unit in range(len(offsets) - 1):
        unit_bits = np.uint64(unit + 1) << half
        for position in range(np.uint64(offsets[unit]), np.uint64(offsets[unit + 1])):
            term: Any = np.uint32(term_ids[position])
            count = counts[term]
            is_new = np.uint64((count ^ unit_bits) >> half != 0)
            counts[term] = unit_bits | ((count & low_half) + is_new)
    for term in range(len(df)):
        df[term] += np.int64(counts[term] & low_half)


@njit(cache=True, nogil=True)
def _narrow(
    term_ids: NDArray[np.int32], offsets: NDArray[np.int64], term_numbers: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.uint16], NDArray[np.int32]]:
    """Encode the two streams of `TermStreams`, and the size of each unit's part."""
    has_wide = len(term_numbers) > WIDE
    room = 3 * len(term_ids) if has_wide else len(term_ids)
    # Space for one extra term, which is written before its stream is known.
    common = np.empty(len(term_ids) + 1, np.uint8)
    others = np.empty(room + 1, np.uint16)
    common_sizes = np.empty(len(offsets) - 1, np.int32)
    other_sizes = np.empty(len(offsets) - 1, np.int32)
    common_end: Any = np.uint64(0)
    end: Any = np.uint64(0)
    for unit in range(len(offsets) - 1):
        common_start = common_end
        start = end
        for position in range(np.uint64(offsets[unit]), np.uint64(offsets[unit + 1])):
            number: Any = term_numbers[np.uint32(term_ids[position])]
            if has_wide and number >= WIDE:
                others[end] = WIDE
                others[end + np.uint64(1)] = number >> 16
                others[end + np.uint64(2)] = number & 0xFFFF
                end += np.uint64(3)
            else:
                # Written to both streams, since a branch would be unpredictable.
                is_common = number < NUM_COMMON
                common[common_end] = number
                others[end] = number
                common_end += np.uint64(is_common)
                end += np.uint64(not is_common)
        common_sizes[unit] = common_end - common_start
        other_sizes[unit] = end - start
    return common[:common_end].copy(), common_sizes, others[:end].copy(), other_sizes


def _offsets(sizes: Sequence[NDArray[np.int32]]) -> Offsets:
    offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *sizes]), dtype=np.int64)
    return offsets.astype(np.uint32) if offsets[-1] < 1 << 32 else offsets
