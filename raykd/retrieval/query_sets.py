"""Query sets: the queries of several tasks in one search, and the hits table of each task."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raykd.retrieval.bm25.statistics import QueryTerms
from raykd.retrieval.hits import RankedHits
from raykd.storage.schemas import hits_schema

# Most hits of a query batch: 24 MB and the ids.
_ROWS_PER_BATCH = 1 << 21
# Fewest batches, given enough queries: this many CPUs can share a shard.
_MIN_BLOCKS = 8
_MIN_QUERIES_PER_BATCH = 4096
# Rows of a row group of a hits table.
_ROWS_PER_GROUP = 1 << 20
# Size of the cache of query batches: repeated queries refer to earlier batches.
_BLOCKS_HELD = 4

# Numbers of hits of some queries, and ids and scores of these hits.
Rows = tuple[NDArray[np.integer], pa.Array, NDArray[np.float64]]


@dataclass(frozen=True)
class QuerySet:
    """Queries of one task.

    Attributes:
        name: name of the file of hits.
        table: columns of `schemas.QUERIES`; `query_id` may also be int64.
        top_k: hits kept per query.
    """

    name: str
    table: pa.Table
    top_k: int


@dataclass(frozen=True)
class Searched:
    """Distinct queries of all sets: queries of equal terms once, with the largest top_k.

    Attributes:
        terms: terms of the D distinct queries, in order of first appearance.
        top_k: (D,) hits kept per query.
        numbers: for each set, the position of each of its queries among the distinct ones.
    """

    terms: QueryTerms
    top_k: NDArray[np.int32]
    numbers: tuple[NDArray[np.int64], ...]

    @property
    def is_empty(self) -> NDArray[np.bool_]:
        """Queries (D,) without any term."""
        return np.asarray(np.diff(self.terms.offsets) == 0)


def distinct_queries(terms: QueryTerms, sets: Sequence[QuerySet]) -> Searched:
    """Merge the queries of equal terms, which have equal hits.

    Args:
        terms: terms of the queries of all sets, set by set.
        sets: query sets of the search.
    """
    bounds = terms.offsets.tolist()
    spans = (slice(bounds[query], bounds[query + 1]) for query in range(terms.num_queries))
    keys = ((terms.term_ids[own].tobytes(), terms.counts[own].tobytes()) for own in spans)
    first, top_k, numbers = _distinct(keys, sets)
    starts, num_terms = terms.offsets[first], np.diff(terms.offsets)[first]
    positions = _ranges(starts, num_terms)
    distinct = QueryTerms(
        np.concatenate([[0], np.cumsum(num_terms)]),
        terms.term_ids[positions],
        terms.counts[positions],
    )
    return Searched(distinct, top_k, numbers)


def distinct_texts(
    sets: Sequence[QuerySet],
) -> tuple[pa.Array, NDArray[np.int32], tuple[NDArray[np.int64], ...]]:
    """Merge the queries of equal texts: D distinct texts, top_k (D,), and positions per set.

    Args:
        sets: query sets of the search; the column `text` is used, not `query`.
    """
    texts = [text for query_set in sets for text in query_set.table["text"].to_pylist()]
    first, top_k, numbers = _distinct(texts, sets)
    return pa.array(texts, pa.string()).take(pa.array(first)), top_k, numbers


def _distinct(
    keys: Iterable[Hashable], sets: Sequence[QuerySet]
) -> tuple[NDArray[np.int64], NDArray[np.int32], tuple[NDArray[np.int64], ...]]:
    """First position of each distinct key, largest top_k of its queries, and positions per set."""
    sizes = [query_set.table.num_rows for query_set in sets]
    number_of: dict[Hashable, int] = {}
    numbers = np.fromiter(
        (number_of.setdefault(key, len(number_of)) for key in keys),
        np.int64,
        count=sum(sizes),
    )
    top_k = np.zeros(len(number_of), np.int32)
    top_k_of_query = np.repeat(np.array([query_set.top_k for query_set in sets], np.int32), sizes)
    np.maximum.at(top_k, numbers, top_k_of_query)
    first = np.unique(numbers, return_index=True)[1]
    return first, top_k, tuple(np.split(numbers, np.cumsum(sizes)[:-1]))


def blocks_of(top_k: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Split the queries into batches [first, last) whose hits fit in memory."""
    ends = np.cumsum(top_k, dtype=np.int64)
    num_blocks = min(_MIN_BLOCKS, len(top_k) // _MIN_QUERIES_PER_BATCH)
    rows = (
        _ROWS_PER_BATCH if num_blocks < 2 else min(_ROWS_PER_BATCH, -(-int(ends[-1]) // num_blocks))
    )
    blocks: list[tuple[int, int]] = []
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + rows, side="right")))
        blocks.append((first, last))
        first = last
    return blocks


def write_hits(
    path: Path,
    query_set: QuerySet,
    numbers: NDArray[np.int64],
    blocks: Sequence[tuple[int, int]],
    read_block: Callable[[int], RankedHits],
    max_hits: int,
) -> int:
    """Write the hits table of one set; return the number of hits.

    The bytes depend only on the set and its hits, not on the batches.

    Args:
        path: output file.
        query_set: ids of the queries, and the set's top_k, which may be less than was searched.
        numbers: positions of the set's queries among the searched queries.
        blocks: batches [first, last) of searched queries.
        read_block: function that reads the hits of a batch.
        max_hits: most hits of any query: the number of units of the corpus.
    """
    top_k = min(query_set.top_k, max_hits)
    read = lru_cache(maxsize=_BLOCKS_HELD)(read_block)
    firsts = np.array([first for first, _ in blocks])

    def gather(start: int, stop: int) -> Rows:
        return _gather(numbers[start:stop], firsts, read, top_k)

    return write_rows(path, query_set, gather, read(0).unit_ids.type, top_k)


def write_rows(
    path: Path,
    query_set: QuerySet,
    gather: Callable[[int, int], Rows],
    unit_id_type: pa.DataType,
    rows_per_query: int,
) -> int:
    """Write the hits table of one set; return the number of hits.

    Args:
        path: output file.
        query_set: ids of the queries.
        gather: function that returns the hits of the queries [start, stop); called in order.
        unit_id_type: type of the unit ids.
        rows_per_query: that `gather` holds at most for each.
    """
    query_ids = query_set.table["query_id"].combine_chunks()
    schema = hits_schema(query_ids.type, _file_type(unit_id_type))
    num_hits = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        size = max(1, _ROWS_PER_GROUP // rows_per_query)
        for start in range(0, len(query_ids), size):
            stop = min(start + size, len(query_ids))
            counts, unit_ids, scores = gather(start, stop)
            queries = np.repeat(np.arange(start, stop), counts)
            ranks = _ranges(np.ones(stop - start, np.int64), counts)
            columns = [
                query_ids.take(pa.array(queries)),
                unit_ids.cast(_file_type(unit_ids.type)),
                pa.array(scores),
                pa.array(ranks.astype(np.int32)),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
            num_hits += len(scores)
    return num_hits


def _gather(
    numbers: NDArray[np.int64],
    firsts: NDArray[np.int64],
    read: Callable[[int], RankedHits],
    top_k: int,
) -> Rows:
    """Gather the best `top_k` hits of some queries, in the order of the queries."""
    block_of = np.searchsorted(firsts, numbers, side="right") - 1
    places: list[NDArray[np.int64]] = []
    ids: list[pa.Array] = []
    scores: list[NDArray[np.float64]] = []
    counts = np.zeros(len(numbers), np.int64)
    for block in np.unique(block_of).tolist():
        hits = read(block)
        rows = np.flatnonzero(block_of == block)
        local = numbers[rows] - firsts[block]
        starts = np.concatenate([[0], np.cumsum(hits.num_hits, dtype=np.int64)])
        counts[rows] = np.minimum(hits.num_hits[local], top_k)
        positions = _ranges(starts[local], counts[rows])
        ids.append(hits.unit_ids.take(pa.array(hits.units[positions])))
        scores.append(hits.scores[positions])
        places.append(rows)
    ends = np.cumsum(counts)
    order = np.concatenate([_ranges((ends - counts)[rows], counts[rows]) for rows in places])
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.arange(len(order))
    return counts, pa.concat_arrays(ids).take(pa.array(inverse)), np.concatenate(scores)[inverse]


def _file_type(unit_id_type: pa.DataType) -> pa.DataType:
    return pa.string() if unit_id_type == pa.large_string() else unit_id_type


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Concatenate the ranges `starts[i], starts[i] + 1, ...` of the given lengths."""
    ends = np.cumsum(lengths, dtype=np.int64)
    steps = np.arange(ends[-1] if len(ends) else 0)
    ranges: NDArray[np.int64] = np.repeat(starts - (ends - lengths), lengths) + steps
    return ranges
