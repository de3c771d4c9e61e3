"""Merge of hits, against sorting all of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.retrieval.hits import RankedHits, id_ranks, merge, thresholds

Hit = tuple[float, Any]


def ranked_hits(queries: Sequence[Sequence[Hit]], id_type: pa.DataType) -> RankedHits:
    """One part: (score, unit_id) of each query, in any order."""
    ids = sorted({unit_id for hits in queries for _, unit_id in hits}, reverse=True)
    ordered = [sorted(hits, key=lambda hit: (-hit[0], hit[1])) for hits in queries]
    return RankedHits.of_shard(
        np.array([len(hits) for hits in ordered], np.int32),
        np.array([ids.index(unit_id) for hits in ordered for _, unit_id in hits], np.int32),
        np.array([score for hits in ordered for score, _ in hits], np.float64),
        pa.array(ids, id_type),
        id_ranks(pa.array(ids, id_type)),
    )


def hits_in(ranked: RankedHits) -> list[list[Hit]]:
    ids = ranked.unit_ids.take(pa.array(ranked.units)).to_pylist()
    hits = list(zip(ranked.scores.tolist(), ids, strict=True))
    ends = np.cumsum(ranked.num_hits).tolist()
    return [hits[end - count : end] for end, count in zip(ends, ranked.num_hits, strict=True)]


string_ids = st.text("ab\0é", max_size=3) | st.sampled_from([f"prefix-{n:09d}" for n in range(9)])
int_ids = st.integers(-3, 3) | st.sampled_from([2**63 - 1, -(2**63), 256, 255])


@settings(max_examples=150, deadline=None)
@given(data=st.data(), is_int=st.booleans(), num_parts=st.integers(1, 6))
def test_a_merge_in_any_grouping_is_all_hits_sorted_by_score_and_id(
    data: st.DataObject, is_int: bool, num_parts: int
) -> None:
    ids = int_ids if is_int else string_ids
    hits = st.dictionaries(ids, st.sampled_from([0.5, 1.0, 2.0]), max_size=12)
    queries = data.draw(st.lists(hits, min_size=1, max_size=3))
    top_k = np.array([data.draw(st.integers(1, 8)) for _ in queries], np.int32)
    part_of = {unit_id: data.draw(st.integers(0, num_parts - 1)) for q in queries for unit_id in q}
    parts = [
        ranked_hits(
            [[(s, u) for u, s in hits.items() if part_of[u] == part] for hits in queries],
            pa.int64() if is_int else pa.string(),
        )
        for part in range(num_parts)
    ]
    # Code points order as their UTF-8 bytes do.
    expected = [
        sorted(((s, u) for u, s in hits.items()), key=lambda hit: (-hit[0], hit[1]))[:k]
        for hits, k in zip(queries, top_k.tolist(), strict=True)
    ]
    split = data.draw(st.integers(0, num_parts))
    groups = [group for group in (parts[:split], parts[split:]) if group]
    assert hits_in(merge(parts, top_k)) == expected
    assert hits_in(merge([merge(group, top_k) for group in groups[::-1]], top_k)) == expected


def test_only_ids_of_hits_are_kept() -> None:
    part = ranked_hits([[(1.0, "a"), (2.0, "b")], [(3.0, "c")]], pa.string())
    merged = merge([part, part], np.array([1, 0], np.int32))
    assert set(merged.unit_ids.to_pylist()) == {"b"}
    assert merged.unit_ids.type == pa.large_string()


@pytest.mark.parametrize("id_type", [pa.string(), pa.int64()])
def test_a_threshold_is_the_score_of_the_kth_hit_or_zero_with_fewer_hits(
    id_type: pa.DataType,
) -> None:
    ids: list[Any] = ["a", "b", "c"] if id_type == pa.string() else [1, 2, 3]
    hits = ranked_hits(
        [[(3.0, ids[0]), (2.0, ids[1])], [(5.0, ids[2])], [], [(4.0, ids[0])]], id_type
    )
    assert thresholds(hits, np.array([2, 2, 1, 1], np.int32)).tolist() == [2.0, 0.0, 0.0, 4.0]
    none = ranked_hits([[]], id_type)
    assert thresholds(none, np.array([1], np.int32)).tolist() == [0.0]
