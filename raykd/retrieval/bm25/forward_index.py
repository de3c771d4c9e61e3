"""What the units of a shard hold of the queries' terms: read out of their text once, and kept."""

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

# Terms whose numbers take one byte: the most frequent ones, about half of all that is said.
NUM_COMMON = 256
# Stands before the two halves of a term number that needs more than 16 bits.
WIDE = 0xFFFF

Part = tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.uint16], NDArray[np.int32]]
Offsets = NDArray[np.uint32] | NDArray[np.int64]

_FILE = "terms.npz"


@dataclass(frozen=True)
class TermStreams:
    """Term numbers, repeats included: those below `NUM_COMMON` in one stream, the rest in another.

    Attributes:
        common: of unit u at common_offsets[u]:common_offsets[u + 1].
        common_offsets: (U + 1,)
        others: of unit u at offsets[u]:offsets[u + 1]; above 16 bits `WIDE` and two halves.
        offsets: (U + 1,)
    """

    common: NDArray[np.uint8]
    common_offsets: Offsets
    others: NDArray[np.uint16]
    offsets: Offsets

    @classmethod
    def joined(cls, parts: Sequence[Part]) -> "TermStreams":
        """The streams of some units, then those of the next.

        Args:
            parts: the common stream, how much of it belongs to each unit; the same of the rest.
        """
        return cls(
            np.concatenate([np.empty(0, np.uint8), *(part[0] for part in parts)]),
            _offsets([part[1] for part in parts]),
            np.concatenate([np.empty(0, np.uint16), *(part[2] for part in parts)]),
            _offsets([part[3] for part in parts]),
        )

    @property
    def nbytes(self) -> int:
        """Memory."""
        parts = (self.common, self.common_offsets, self.others, self.offsets)
        return sum(part.nbytes for part in parts)


@dataclass(frozen=True)
class ForwardIndex:
    """The terms of one shard that some query holds.

    Attributes:
        streams: of each unit.
        lengths: (U,) all terms of the unit, of queries or not.
        term_numbers: (V,) the number in `streams` of each term id; the most frequent terms of the
            shard's first units come first.
    """

    streams: TermStreams
    lengths: NDArray[np.int32]
    term_numbers: NDArray[np.int32]

    @classmethod
    def of(
        cls, batches: Iterable[pa.Array], lookup: TermLookup, num_terms: int
    ) -> tuple["ForwardIndex", Statistics]:
        """Analyse the units of a shard, and count them.

        Args:
            batches: the units' texts, as many at a time as fit in memory.
            lookup: finds the terms of the queries.
            num_terms: V.
        """
        total = Statistics.empty(num_terms)
        term_numbers = np.arange(num_terms, dtype=np.int32)
        parts: list[Part] = []
        lengths = [np.empty(0, np.int32)]
        for texts in batches:
            found = lookup.stream(texts)
            df = np.zeros(num_terms, np.int64)
            _count_units(found.term_ids, found.offsets, df)
            if not parts:
                order = np.argsort(-df, kind="stable")
                term_numbers[order] = np.arange(num_terms, dtype=np.int32)
            total += Statistics(len(texts), int(found.lengths.sum(dtype=np.int64)), df)
            parts.append(_narrow(found.term_ids, found.offsets, term_numbers))
            lengths.append(found.lengths)
        return cls(TermStreams.joined(parts), np.concatenate(lengths), term_numbers), total

    def write(self, folder: Path) -> None:
        """Write one file into a directory, about a quarter as large as the text."""
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
        """Read what `write` wrote."""
        with np.load(folder / _FILE) as file:
            names = ("common", "common_offsets", "others", "offsets")
            streams = TermStreams(*(file[name] for name in names))
            return cls(streams, file["lengths"], file["term_numbers"])


@njit(cache=True, nogil=True)
def _count_units(
    term_ids: NDArray[np.int32], offsets: NDArray[np.int64], df: NDArray[np.int64]
) -> None:
    """Add to (V,) `df` the units that hold each term."""
    # The last unit that held the term, counted from 1, above the number of units: one place of
    # memory a term, and no branch on what a processor cannot guess.
    # All that counts positions is unsigned, so that it needs no check for counting from the end.
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
    """The two streams of `TermStreams`, and how much of each belongs to each unit."""
    has_wide = len(term_numbers) > WIDE
    room = 3 * len(term_ids) if has_wide else len(term_ids)
    # Room for one term more: where it goes is known only after it is written.
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
                # To both streams: which of them it is, a processor cannot guess.
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
