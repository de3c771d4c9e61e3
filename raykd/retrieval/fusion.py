"""Reciprocal rank fusion of the hits of several searches for the same queries."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from raykd.config import Config
from raykd.retrieval.hits import MAX_TOP_K, RankedHits, id_ranks, rank

_READ_ROWS = 1 << 18
_COLUMNS = ["query_id", "unit_id", "score"]


class FusionConfig(Config):
    """Settings of reciprocal rank fusion."""

    candidates: int | None = Field(
        None,
        ge=1,
        le=MAX_TOP_K,
        description="Hits of each of the two searches that are fused, at least top_k. Default: "
        "top_k.",
    )
    constant: float = Field(
        60.0,
        ge=0,
        description="Constant k of reciprocal rank fusion, 1 / (k + rank); 60 in the paper "
        "(Cormack et al. 2009).",
    )


def fuse(
    sides: Sequence[RankedHits], top_k: NDArray[np.int32], constant: float = 60.0
) -> RankedHits:
    """Rank the units of each query by the sum of 1 / (constant + rank) over the sides.

    Source: Cormack, Clarke and Buettcher 2009, "Reciprocal Rank Fusion outperforms Condorcet and
    individual Rank Learning Methods", doi:10.1145/1571941.1572114, with constant = 60.

    Args:
        sides: hits of the same queries; a unit has the same id in all sides.
        top_k: (Q,) hits kept per query.
        constant: constant added to every rank.
    """
    ids = pa.concat_arrays([side.unit_ids for side in sides])
    encoded = ids.dictionary_encode()
    numbers = encoded.indices.to_numpy()
    unit_ids = encoded.dictionary
    starts = np.cumsum([0, *(len(side.unit_ids) for side in sides)])
    queries, units, terms = [], [], []
    for side, start in zip(sides, starts, strict=False):
        queries.append(np.repeat(np.arange(len(top_k)), side.num_hits))
        units.append(numbers[side.units + start])
        ends = np.cumsum(side.num_hits, dtype=np.int64)
        ranks = np.arange(len(side.units)) - np.repeat(ends - side.num_hits, side.num_hits) + 1
        terms.append(1.0 / (constant + ranks))
    pairs = np.concatenate(queries) * max(1, len(unit_ids)) + np.concatenate(units)
    distinct, inverse = np.unique(pairs, return_inverse=True)
    # Summed in the order of the sides.
    scores = np.bincount(inverse, weights=np.concatenate(terms), minlength=len(distinct))
    fused_queries, fused_units = np.divmod(distinct, max(1, len(unit_ids)))
    id_rank = id_ranks(unit_ids)
    num_hits, best_units, best_scores = rank(
        fused_queries,
        fused_units.astype(np.int32),
        scores.astype(np.float64),
        id_rank,
        top_k,
    )
    return RankedHits.of_shard(num_hits, best_units, best_scores, unit_ids, id_rank)


class HitsReader:
    """Reader of a hits table, some queries at a time.

    Args:
        path: file with rows sorted as in `schemas.hits_schema`, and ids of one type.
    """

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        self._batches: Iterator[pa.RecordBatch] = self._file.iter_batches(
            _READ_ROWS, columns=_COLUMNS
        )
        self._schema = self._file.schema_arrow
        self._rows = pa.schema([self._schema.field(name) for name in _COLUMNS]).empty_table()

    @property
    def unit_id_type(self) -> pa.DataType:
        """Type of the unit ids: string or int64."""
        return self._schema.field("unit_id").type

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def next_hits(self, query_ids: pa.Array) -> RankedHits:
        """Read the hits of the next queries, in the order of the table."""
        query_numbers = pc.index_in(self._rows["query_id"], value_set=query_ids)
        # Queries may have no rows: the end of the chunk is known only from the next query's row.
        while query_numbers.null_count == 0 and (batch := next(self._batches, None)) is not None:
            self._rows = pa.concat_tables([self._rows, pa.Table.from_batches([batch])])
            query_numbers = pc.index_in(self._rows["query_id"], value_set=query_ids)
        size = len(query_numbers) - query_numbers.null_count
        queries = query_numbers.slice(0, size).to_numpy()
        hits = self._rows.slice(0, size)
        self._rows = self._rows.slice(size)
        encoded = hits["unit_id"].combine_chunks().dictionary_encode()
        num_hits = np.bincount(queries, minlength=len(query_ids)).astype(np.int32)
        units, scores = encoded.indices.to_numpy(), hits["score"].to_numpy()
        unit_ids = encoded.dictionary
        return RankedHits.of_shard(num_hits, units, scores, unit_ids, id_ranks(unit_ids))
