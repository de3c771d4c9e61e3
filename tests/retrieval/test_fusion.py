"""Reciprocal rank fusion, against hand-computed values and a naive implementation."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.retrieval.fusion import HitsReader, fuse
from raykd.retrieval.hits import RankedHits, id_ranks
from raykd.storage.schemas import hits_schema


def ranked(*queries: list[str]) -> RankedHits:
    """Hits of each query by id, best first."""
    ids = [unit_id for found in queries for unit_id in found]
    names = sorted(set(ids))
    units = np.array([names.index(unit_id) for unit_id in ids], np.int32)
    scores = np.concatenate([np.arange(len(found), 0.0, -1.0) for found in queries])
    num_hits = np.array([len(found) for found in queries], np.int32)
    unit_ids = pa.array(names, pa.string())
    return RankedHits.of_shard(num_hits, units, scores, unit_ids, id_ranks(unit_ids))


def listed(hits: RankedHits) -> list[list[tuple[str, float]]]:
    ids = hits.unit_ids.take(pa.array(hits.units)).to_pylist()
    rows = list(zip(ids, hits.scores.tolist(), strict=True))
    ends = np.cumsum(hits.num_hits).tolist()
    return [rows[end - size : end] for end, size in zip(ends, hits.num_hits, strict=True)]


def test_a_unit_scores_the_sum_of_one_over_sixty_and_its_rank() -> None:
    terms = ranked(["a", "b", "c"], [], ["x"])
    vectors = ranked(["c", "a"], ["y", "z"], [])
    assert listed(fuse([terms, vectors], np.array([3, 1, 2], np.int32))) == [
        [("a", 1 / 61 + 1 / 62), ("c", 1 / 63 + 1 / 61), ("b", 1 / 62)],
        [("y", 1 / 61)],
        [("x", 1 / 61)],
    ]


def test_equal_scores_are_in_the_order_of_ids() -> None:
    fused = fuse([ranked(["b", "d"]), ranked(["a", "c"])], np.array([4], np.int32))
    assert [unit_id for unit_id, _ in listed(fused)[0]] == ["a", "b", "c", "d"]


def test_the_constant_determines_the_weight_of_the_first_ranks() -> None:
    fused = fuse([ranked(["a", "b"]), ranked(["c", "b"])], np.array([3], np.int32), constant=0)
    assert listed(fused)[0] == [("a", 1.0), ("b", 1.0), ("c", 1.0)]


ranking = st.permutations("abcdefg").flatmap(
    lambda ids: st.integers(0, 7).map(lambda size: list(ids[:size]))
)


@given(st.lists(st.tuples(ranking, ranking), min_size=1, max_size=4), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_fusion_matches_the_naive_sum_and_sort(
    queries: list[tuple[list[str], ...]], top_k: int
) -> None:
    sides = [ranked(*side) for side in zip(*queries, strict=True)]
    expected = []
    for found in queries:
        scores: dict[str, float] = {}
        for side in found:
            for rank, unit_id in enumerate(side, 1):
                scores[unit_id] = scores.get(unit_id, 0.0) + 1 / (60 + rank)
        expected.append(sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:top_k])
    fused = fuse(sides, np.full(len(queries), top_k, np.int32))
    assert listed(fused) == expected


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_table_of_hits_is_read_some_queries_at_a_time(tmp_path: Path, size: int) -> None:
    rows = {"query_id": [7, 7, 3, 9], "unit_id": ["b", "a", "b", "c"], "score": [2.0, 1.0, 5.0, 1]}
    schema = hits_schema(pa.int64())
    pq.write_table(pa.table(rows | {"rank": [1, 2, 1, 1]}, schema), tmp_path / "hits.parquet")
    query_ids = pa.array([8, 7, 3, 4, 9])
    found = []
    with HitsReader(tmp_path / "hits.parquet") as reader:
        for start in range(0, len(query_ids), size):
            found += listed(reader.next_hits(query_ids.slice(start, size)))
    assert found == [[], [("b", 2.0), ("a", 1.0)], [("b", 5.0)], [], [("c", 1.0)]]
