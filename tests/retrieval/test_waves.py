"""Memory of the waves of a search."""

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raykd.retrieval import waves
from raykd.retrieval.hits import RankedHits, merge
from raykd.retrieval.hits_file import read_block, write_blocks


def test_the_memory_of_a_merge_does_not_grow_with_the_number_of_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_queries, num_parts = 2000, 300
    top_k = np.full(num_queries, 2, np.int32)

    def part(number: int) -> RankedHits:
        """One hit, of a query and with a score that many other parts have too."""
        num_hits = np.zeros(num_queries, np.int32)
        num_hits[number % 7] = 1
        ids = pa.array([f"{number:03d}"], pa.large_string())
        return RankedHits(num_hits, np.zeros(1, np.int32), np.array([1.0 + number % 5]), ids)

    write_blocks(tmp_path, map(part, range(num_parts)))
    at_once = merge([read_block(tmp_path, number) for number in range(num_parts)], top_k)
    # Five parts of 2000 queries; all 300 take 5 MB for the counts alone.
    monkeypatch.setattr(waves, "_ROWS_MERGED", 10_000)
    tracemalloc.start()
    merged = waves._merged([(tmp_path, number) for number in range(num_parts)], top_k)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert merged.num_hits.tolist() == at_once.num_hits.tolist()
    assert merged.num_hits[:8].tolist() == [2, 2, 2, 2, 2, 2, 2, 0]
    for one, other in ((merged.scores, at_once.scores), (merged.units, at_once.units)):
        assert one.tolist() == other.tolist()
    assert merged.unit_ids.equals(at_once.unit_ids)
