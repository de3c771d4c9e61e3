"""One shard made searchable: which of the queries' terms its units hold, unit after unit."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raykd.retrieval.bm25 import scoring
from raykd.retrieval.bm25.block_max import BlockMaxima, block_maxima
from raykd.retrieval.bm25.forward_index import ForwardIndex, TermStreams
from raykd.retrieval.bm25.postings import Postings, postings_of
from raykd.retrieval.bm25.scoring import Bm25Config, SaturationForm
from raykd.retrieval.bm25.statistics import Statistics
from raykd.retrieval.hits import id_ranks

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
    known: ForwardIndex,
    unit_ids: pa.Array,
    statistics: Statistics,
    idf: NDArray[np.float64],
    config: Bm25Config,
    *,
    superblock_units: int = SUPERBLOCK_UNITS,
    block_units: int = 4,
) -> ShardIndex:
    """Index one shard.

    Args:
        known: the shard's terms.
        unit_ids: (U,) string or int64.
        statistics: of the whole corpus.
        idf: of the whole corpus, computed once and not on every machine: logarithms of different
            C libraries may differ in the last bit.
        config: parameters of BM25.
        superblock_units: units a superblock at most, and at most 65,536; a multiple of block_units.
        block_units: units a block.
    """
    distinct, length_numbers = np.unique(known.lengths, return_inverse=True)
    # All of nearly one size: a query takes as long for a superblock of few units as for a full one.
    num_superblocks = max(1, -(-len(length_numbers) // superblock_units))
    num_blocks = -(-len(length_numbers) // (num_superblocks * block_units))
    return ShardIndex(
        unit_ids=unit_ids,
        id_rank=id_ranks(unit_ids),
        streams=known.streams,
        length_numbers=length_numbers.astype(np.int32),
        norms=scoring.length_norm(distinct, statistics.average_length, config),
        term_numbers=known.term_numbers,
        idf=idf,
        df_share=statistics.df / max(statistics.num_units, 1),
        form=scoring.saturation_form(config),
        superblock_units=max(1, num_blocks) * block_units,
        block_units=block_units,
    )
