"""Index of one shard: forward index, and per superblock postings and block maxima."""

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
    """Index of one shard, restricted to the query vocabulary.

    Term numbers are sorted by descending frequency. The postings and block maxima of a superblock
    (a range of consecutive units) are built on first use and cached.

    Attributes:
        unit_ids: (U,) ids in the order of the shard.
        id_rank: (U,) rank of each unit in the ascending order of the shard's ids.
        streams: term numbers of each unit.
        length_numbers: (U,) position of each unit's length norm in `norms`.
        norms: (L,) distinct length norms.
        term_numbers: (V,) number of each term id.
        idf: (V,) idf of each term id.
        df_share: (V,) share of the corpus's units that contain each term id.
        form: form of the saturation.
        superblock_units: units per superblock, at most 65,536.
        block_units: units per block.
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
        """Number U of units, empty ones included."""
        return len(self.id_rank)

    @property
    def num_superblocks(self) -> int:
        """Number of superblocks; the last one may be smaller."""
        return -(-self.num_units // self.superblock_units)

    @property
    def nbytes(self) -> int:
        """Memory in bytes, including cached superblocks."""
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
        """Terms and lengths of the units as a tuple for compiled code."""
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
        """Test for cached postings of a superblock."""
        return superblock in self._postings

    def has_maxima(self, superblock: int) -> bool:
        """Test for cached block maxima of a superblock."""
        return superblock in self._maxima

    def postings(self, superblock: int) -> Postings:
        """Postings of a superblock, built on first use."""
        postings = self._postings.get(superblock)
        if postings is None:
            postings = self._postings[superblock] = self._new_postings(superblock)
        return postings

    def maxima(self, superblock: int) -> BlockMaxima:
        """Block maxima of a superblock, built on first use."""
        maxima = self._maxima.get(superblock)
        if maxima is None:
            idf = np.empty_like(self.idf)
            idf[self.term_numbers] = self.idf
            num_blocks = -(-self.superblock_units // self.block_units)
            postings = self._postings.get(superblock) or self._new_postings(superblock)
            maxima = block_maxima(postings, idf, self.block_units, num_blocks)
            self._maxima[superblock] = maxima
        return maxima

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
    forward: ForwardIndex,
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
        forward: forward index of the shard.
        unit_ids: (U,) string or int64.
        statistics: statistics of the whole corpus.
        idf: (V,) idf in the whole corpus; computed once, because logarithms of different C
            libraries may differ in the last bit.
        config: parameters of BM25.
        superblock_units: most units per superblock, at most 65,536; a multiple of block_units.
        block_units: units per block.
    """
    distinct, length_numbers = np.unique(forward.lengths, return_inverse=True)
    # Superblocks of about equal size: a query takes equally long for a small and a full one.
    num_superblocks = max(1, -(-len(length_numbers) // superblock_units))
    num_blocks = -(-len(length_numbers) // (num_superblocks * block_units))
    return ShardIndex(
        unit_ids=unit_ids,
        id_rank=id_ranks(unit_ids),
        streams=forward.streams,
        length_numbers=length_numbers.astype(np.int32),
        norms=scoring.length_norm(distinct, statistics.average_length, config),
        term_numbers=forward.term_numbers,
        idf=idf,
        df_share=statistics.df / max(statistics.num_units, 1),
        form=scoring.saturation_form(config),
        superblock_units=max(1, num_blocks) * block_units,
        block_units=block_units,
    )
