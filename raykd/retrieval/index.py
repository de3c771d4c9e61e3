"""One shard made searchable: which of the queries' terms its units hold, unit after unit."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from raykd.corpus.analyze import TermLookup
from raykd.retrieval import scoring
from raykd.retrieval.blocks import BlockMaxima, block_maxima
from raykd.retrieval.postings import Postings, postings_of
from raykd.retrieval.scoring import Bm25Config, SaturationForm
from raykd.retrieval.statistics import Statistics
from raykd.retrieval.streams import NUM_COMMON, WIDE, TermStreams
from raykd.retrieval.topk import id_ranks

SUPERBLOCK_UNITS = 1 << 16


@dataclass(frozen=True)
class ShardIndex:
    """A shard, restricted to the terms of the queries.

    Terms are numbered anew, the most frequent ones first. The postings and the block maxima of a
    superblock (units that stand beside each other) are made when they are first needed, and kept.

    Attributes:
        unit_ids: (U,) ids in the order of the shard.
        id_rank: (U,) each unit's position in the ascending order of the shard's ids.
        streams: the terms of each unit.
        length_numbers: (U,) where the unit's length norm stands in `norms`.
        norms: (L,) the length norms that occur.
        term_numbers: (V,) the number of each term id.
        idf: (V,) of each term id.
        df_share: (V,) of each term id: the share of the corpus's units that hold it.
        form: of the saturation.
        superblock_units: units a superblock, at most 65,536.
        block_units: units a block.
    """

    unit_ids: pa.Array
    id_rank: NDArray[np.int32]
    streams: TermStreams
    length_numbers: NDArray[np.int32]
    norms: NDArray[np.float64]
    term_numbers: NDArray[np.int32]
    idf: NDArray[np.float64]
    df_share: NDArray[np.float64]
    form: SaturationForm
    superblock_units: int = SUPERBLOCK_UNITS
    block_units: int = 4
    _postings: dict[int, Postings] = field(default_factory=dict)
    _maxima: dict[int, BlockMaxima] = field(default_factory=dict)

    @property
    def num_units(self) -> int:
        """U, empty units included."""
        return len(self.id_rank)

    @property
    def num_superblocks(self) -> int:
        """The last one may be smaller."""
        return -(-self.num_units // self.superblock_units)

    @property
    def nbytes(self) -> int:
        """Memory of all that is held now."""
        arrays = (self.id_rank, self.length_numbers, self.norms, self.term_numbers, self.idf)
        return (
            int(self.unit_ids.nbytes)
            + self.df_share.nbytes
            + self.streams.nbytes
            + sum(array.nbytes for array in arrays)
            + sum(made.nbytes for made in self._postings.values())
            + sum(made.nbytes for made in self._maxima.values())
        )

    @property
    def unit_arrays(self) -> tuple[Any, ...]:
        """The terms and lengths of the units, as compiled code takes them."""
        streams = self.streams
        return (
            streams.common,
            streams.common_offsets,
            streams.others,
            streams.offsets,
            self.length_numbers,
            self.norms,
        )

    def has_postings(self, superblock: int) -> bool:
        """Whether the postings of a superblock are there already."""
        return superblock in self._postings

    def has_maxima(self, superblock: int) -> bool:
        """Whether the block maxima of a superblock are there already."""
        return superblock in self._maxima

    def postings(self, superblock: int) -> Postings:
        """The postings of a superblock."""
        found = self._postings.get(superblock)
        if found is None:
            found = self._postings[superblock] = self._new_postings(superblock)
        return found

    def maxima(self, superblock: int) -> BlockMaxima:
        """The block maxima of a superblock."""
        found = self._maxima.get(superblock)
        if found is None:
            idf = np.empty_like(self.idf)
            idf[self.term_numbers] = self.idf
            num_blocks = -(-self.superblock_units // self.block_units)
            postings = self._postings.get(superblock) or self._new_postings(superblock)
            found = block_maxima(postings, idf, self.block_units, num_blocks)
            self._maxima[superblock] = found
        return found

    def _new_postings(self, superblock: int) -> Postings:
        first = superblock * self.superblock_units
        last = min(first + self.superblock_units, self.num_units)
        return postings_of(
            self.streams,
            self.length_numbers[first:last],
            self.norms,
            len(self.idf),
            self.form,
            (first, last),
        )


def build(
    batches: Iterable[pa.RecordBatch],
    unit_id_type: pa.DataType,
    lookup: TermLookup,
    statistics: Statistics,
    idf: NDArray[np.float64],
    config: Bm25Config,
    *,
    superblock_units: int = SUPERBLOCK_UNITS,
    block_units: int = 4,
) -> ShardIndex:
    """Index one shard.

    Args:
        batches: the shard's units, with the columns `unit_id` and `text`.
        unit_id_type: string or int64.
        lookup: finds the terms of the queries.
        statistics: of the whole corpus.
        idf: of the whole corpus, computed once and not on every machine: logarithms of different
            C libraries may differ in the last bit.
        config: parameters of BM25.
        superblock_units: units a superblock at most, and at most 65,536; a multiple of block_units.
        block_units: units a block.
    """
    term_numbers = np.empty(len(idf), np.int32)
    term_numbers[np.argsort(-statistics.df, kind="stable")] = np.arange(len(idf), dtype=np.int32)
    unit_ids: list[pa.Array] = []
    lengths = [np.empty(0, np.int32)]
    parts = []
    for batch in batches:
        found = lookup.stream(batch.column("text"))
        parts.append(_narrow(found.term_ids, found.offsets, term_numbers))
        lengths.append(found.lengths)
        unit_ids.append(batch.column("unit_id"))
    distinct, length_numbers = np.unique(np.concatenate(lengths), return_inverse=True)
    # All of nearly one size: a query takes as long for a superblock of few units as for a full one.
    num_superblocks = max(1, -(-len(length_numbers) // superblock_units))
    num_blocks = -(-len(length_numbers) // (num_superblocks * block_units))
    ids = pa.chunked_array(unit_ids, unit_id_type).combine_chunks()
    return ShardIndex(
        unit_ids=ids,
        id_rank=id_ranks(ids),
        streams=TermStreams.joined(parts),
        length_numbers=length_numbers.astype(np.int32),
        norms=scoring.length_norm(distinct, statistics.average_length, config),
        term_numbers=term_numbers,
        idf=idf,
        df_share=statistics.df / max(statistics.num_units, 1),
        form=scoring.saturation_form(config),
        superblock_units=max(1, num_blocks) * block_units,
        block_units=block_units,
    )


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
    common_end = 0
    end = 0
    for unit in range(len(offsets) - 1):
        common_start = common_end
        start = end
        for position in range(offsets[unit], offsets[unit + 1]):
            number = term_numbers[term_ids[position]]
            if has_wide and number >= WIDE:
                others[end] = WIDE
                others[end + 1] = number >> 16
                others[end + 2] = number & 0xFFFF
                end += 3
            else:
                # To both streams: which of them it is, a processor cannot guess.
                is_common = number < NUM_COMMON
                common[common_end] = number
                others[end] = number
                common_end += is_common
                end += not is_common
        common_sizes[unit] = common_end - common_start
        other_sizes[unit] = end - start
    return common[:common_end].copy(), common_sizes, others[:end].copy(), other_sizes
