"""The one total order of hits (score descending, unit_id ascending), and their merge."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raykd.schemas import hits_schema


def partial_schema(unit_id_type: pa.DataType) -> pa.Schema:
    """Hits before they are ranked: `query` is the query's position in the table of queries."""
    return pa.schema([("query", pa.int32()), ("unit_id", unit_id_type), ("score", pa.float64())])


def merge(hits: pa.Table, top_k: int) -> pa.Table:
    """The best `top_k` hits of every query.

    Merged hits can be merged again with others, in any grouping and order.

    Args:
        hits: hits of several shards (`partial_schema`), in any order: of each at least its own
            best `top_k` hits of every query.
        top_k: hits kept a query.

    Returns:
        A table of `partial_schema`, sorted by (query, score descending, unit_id ascending).
    """
    table = hits.combine_chunks()
    order = pc.sort_indices(
        table,
        sort_keys=[("query", "ascending"), ("score", "descending"), ("unit_id", "ascending")],
    )
    table = table.take(order)
    return table.filter(pa.array(_rank(table["query"]) <= top_k))


def ranked(table: pa.Table, query_ids: pa.Array) -> pa.Table:
    """Merged hits as the hits table: ids of queries in place of positions, ranks from 1."""
    return pa.Table.from_arrays(
        [
            query_ids.take(table["query"].combine_chunks()),
            table["unit_id"].combine_chunks(),
            table["score"].combine_chunks(),
            pa.array(_rank(table["query"]), pa.int32()),
        ],
        schema=hits_schema(query_ids.type, table.schema.field("unit_id").type),
    )


def id_ranks(unit_ids: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """The position of each unit in the ascending order of ids (strings by their UTF-8 bytes)."""
    ranks = np.empty(len(unit_ids), np.int32)
    ranks[pc.sort_indices(unit_ids).to_numpy()] = np.arange(len(unit_ids), dtype=np.int32)
    return ranks


def _rank(sorted_queries: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """1, 2, 3, ... within each run of equal queries."""
    queries = sorted_queries.to_numpy()
    positions = np.arange(len(queries))
    starts = np.searchsorted(queries, queries, side="left")
    rank: np.ndarray[tuple[int], np.dtype[np.int64]] = positions - starts + 1
    return rank
