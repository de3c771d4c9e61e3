"""Total order of hits (score descending, unit_id ascending), and merge of ranked hits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit
from numpy.typing import NDArray

# Ranks are int32.
MAX_TOP_K = 2**31 - 1
_SIGN_BIT = np.int64(np.iinfo(np.int64).min)


@dataclass(frozen=True)
class RankedHits:
    """Best hits of Q queries in a set of units.

    Attributes:
        num_hits: (Q,) number of hits of each query; hits are stored query by query, best first.
        units: (H,) positions in `unit_ids`.
        scores: (H,) float64.
        unit_ids: (U,) int64 or large_string: distinct ids of the hit units, ascending.
    """

    num_hits: NDArray[np.int32]
    units: NDArray[np.int32]
    scores: NDArray[np.float64]
    unit_ids: pa.Array

    @classmethod
    def of_shard(
        cls,
        num_hits: NDArray[np.int32],
        units: NDArray[np.int32],
        scores: NDArray[np.float64],
        unit_ids: pa.Array,
        id_rank: NDArray[np.int32],
    ) -> "RankedHits":
        """Convert hits whose units are positions in a shard.

        Args:
            num_hits: (Q,) number of hits of each query.
            units: (H,) positions among all units of the shard.
            scores: (H,) float64.
            unit_ids: ids of all units of the shard, int64 or strings, in any order.
            id_rank: `id_ranks` of these ids.
        """
        by_rank = np.empty(len(id_rank), np.int32)
        by_rank[id_rank] = np.arange(len(id_rank), dtype=np.int32)
        hits = _of_ranks(num_hits, id_rank[units], scores, unit_ids, by_rank)
        if hits.unit_ids.type != pa.string():
            return hits
        return replace(hits, unit_ids=hits.unit_ids.cast(pa.large_string()))


def merge(parts: Sequence[RankedHits], top_k: NDArray[np.int32]) -> RankedHits:
    """Merge hits, and keep the best `top_k` hits of every query.

    The operation is associative and commutative. It needs about 30 bytes per hit of the parts, and
    per id 30 bytes plus twice the size of the id.

    Args:
        parts: hits of the same queries in disjoint sets of units; each part has all hits that can
            be in the overall top k.
        top_k: (Q,) hits kept per query.
    """
    starts = np.cumsum([0, *(len(part.units) for part in parts)])
    firsts = np.zeros((len(top_k) + 1, len(parts)), np.int64)
    for number, part in enumerate(parts):
        np.cumsum(part.num_hits, out=firsts[1:, number])
    firsts += starts[:-1]
    unit_ids = pa.concat_arrays([part.unit_ids for part in parts])
    id_starts = np.cumsum([0, *(len(part.unit_ids) for part in parts)])
    # Ids are sorted once; ties between scores are then broken by their ranks.
    by_rank = _merge_ids(id_starts, *_comparable(unit_ids))
    ranks = np.empty(len(unit_ids), np.int32)
    ranks[by_rank] = np.arange(len(unit_ids), dtype=np.int32)
    units = np.empty(starts[-1], np.int32)
    for number, part in enumerate(parts):
        own_ranks = ranks[id_starts[number] : id_starts[number + 1]]
        np.take(own_ranks, part.units, out=units[starts[number] : starts[number + 1]], mode="clip")
    scores = np.concatenate([part.scores for part in parts])
    num_hits = np.minimum(firsts[1:, :].sum(1) - firsts[:-1, :].sum(1), top_k).astype(np.int32)
    merged_units = np.empty(num_hits.sum(), np.int32)
    merged_scores = np.empty(num_hits.sum(), np.float64)
    _merge(firsts, units, scores, num_hits, merged_units, merged_scores)
    return _of_ranks(num_hits, merged_units, merged_scores, unit_ids, by_rank)


def thresholds(hits: RankedHits, top_k: NDArray[np.int32]) -> NDArray[np.float64]:
    """Score of each query's `top_k`-th hit (Q,), or 0 if there are fewer hits.

    In any part of the corpus, it is a lower bound of that score in the whole corpus.
    """
    bounds = np.zeros(len(top_k), np.float64)
    complete = hits.num_hits == top_k
    bounds[complete] = hits.scores[np.cumsum(hits.num_hits, dtype=np.int64)[complete] - 1]
    return bounds


def rank(
    queries: NDArray[np.integer],
    units: NDArray[np.int32],
    scores: NDArray[np.float64],
    id_rank: NDArray[np.int32],
    top_k: NDArray[np.int32],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Sort hits into the total order, and keep the best of each query.

    Args:
        queries: (H,) query of each hit.
        units: (H,) position of each hit's unit.
        scores: (H,) score of each hit.
        id_rank: (U,) see `id_ranks`.
        top_k: (Q,) hits kept per query.

    Returns:
        Numbers of hits (Q,), units and scores.
    """
    order = np.lexsort((id_rank[units], -scores, queries))
    firsts = np.searchsorted(queries[order], np.arange(len(top_k) + 1))
    positions = np.arange(len(order)) - np.repeat(firsts[:-1], np.diff(firsts))
    kept = order[positions < np.repeat(top_k, np.diff(firsts))]
    num_hits = np.minimum(np.diff(firsts), top_k).astype(np.int32)
    return num_hits, units[kept], scores[kept]


def id_ranks(unit_ids: pa.Array) -> NDArray[np.int32]:
    """Rank of each unit in the ascending order of ids (strings by their UTF-8 bytes)."""
    in_order = np.arange(len(unit_ids), dtype=np.int32)
    # The ids that raykd makes are ascending, which is tested in a tenth of the time of sorting.
    if pc.all(pc.less(unit_ids[:-1], unit_ids[1:])).as_py():
        return in_order
    ranks = np.empty_like(in_order)
    ranks[pc.sort_indices(unit_ids).to_numpy()] = in_order
    return ranks


def _of_ranks(
    num_hits: NDArray[np.int32],
    ranks: NDArray[np.int32],
    scores: NDArray[np.float64],
    unit_ids: pa.Array,
    by_rank: NDArray[np.int32],
) -> RankedHits:
    """Make hits from the ranks of their units' ids; only the ids of hit units are kept."""
    is_hit = np.zeros(len(by_rank), np.bool_)
    is_hit[ranks] = True
    positions = np.cumsum(is_hit, dtype=np.int32) - np.int32(1)
    hit_ids = unit_ids.take(pa.array(by_rank[is_hit]))
    return RankedHits(num_hits, positions[ranks], scores, hit_ids)


def _comparable(
    unit_ids: pa.Array,
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.uint8]]:
    """Sort key of each id, and offsets and bytes to compare ids of equal keys."""
    if unit_ids.type == pa.int64():
        keys = (unit_ids.to_numpy() ^ _SIGN_BIT).view(np.uint64)
        return keys, np.zeros(len(unit_ids) + 1, np.int64), np.empty(0, np.uint8)
    _, all_offsets, data = unit_ids.buffers()
    first, last = unit_ids.offset, unit_ids.offset + len(unit_ids) + 1
    offsets = np.frombuffer(all_offsets, np.int64)[first:last]
    id_bytes = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    return _keys(offsets, id_bytes), offsets, id_bytes


@njit(cache=True, nogil=True)
def _keys(id_offsets: NDArray[np.int64], id_bytes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Encode the eight bytes of each id after the common prefix of all ids as one integer."""
    num_ids = len(id_offsets) - 1
    keys = np.zeros(num_ids, np.uint64)
    if num_ids == 0:
        return keys
    first = id_offsets[0]
    common = id_offsets[1] - first
    for unit in range(1, num_ids):
        start = id_offsets[unit]
        common = min(common, id_offsets[unit + 1] - start)
        # Without an early exit the loop is vectorized.
        difference = np.uint8(0)
        for position in range(common):
            difference |= id_bytes[start + position] ^ id_bytes[first + position]
        if difference:
            length = 0
            while id_bytes[start + length] == id_bytes[first + length]:
                length += 1
            common = length
    for unit in range(num_ids):
        start, end = id_offsets[unit] + common, id_offsets[unit + 1]
        key = np.uint64(0)
        for position in range(min(8, end - start)):
            key |= np.uint64(id_bytes[start + position]) << np.uint64(56 - 8 * position)
        keys[unit] = key
    return keys


@njit(cache=True, nogil=True)
def _merge_ids(
    id_starts: NDArray[np.int64],
    keys: NDArray[np.uint64],
    id_offsets: NDArray[np.int64],
    id_bytes: NDArray[np.uint8],
) -> NDArray[np.int32]:
    """Merge parts of ascending ids; return the positions of all ids in ascending order.

    The queue has the next id of every part that has ids left, the smallest last. Adjacent ids are
    mostly from one part, so that one comparison is usually enough.
    """
    num_parts = len(id_starts) - 1
    by_rank = np.empty(id_starts[-1], np.int32)
    queued = np.empty(num_parts, np.int64)
    ends = np.empty(num_parts, np.int64)
    size = 0
    for part in range(num_parts):
        if id_starts[part] < id_starts[part + 1]:
            size = _queue_id(
                id_starts[part],
                id_starts[part + 1],
                size,
                queued,
                ends,
                keys,
                id_offsets,
                id_bytes,
            )
    for rank in range(len(by_rank)):
        size -= 1
        unit, end = queued[size], ends[size]
        by_rank[rank] = unit
        if unit + 1 < end:
            size = _queue_id(unit + 1, end, size, queued, ends, keys, id_offsets, id_bytes)
    return by_rank


@njit(cache=True, nogil=True)
def _queue_id(
    unit: int,
    end: int,
    size: int,
    queued: NDArray[np.int64],
    ends: NDArray[np.int64],
    keys: NDArray[np.uint64],
    id_offsets: NDArray[np.int64],
    id_bytes: NDArray[np.uint8],
) -> int:
    """Insert an id into the sorted queue; return the new size."""
    first, last = 0, size
    middle = size - 1
    while first < last:
        if _is_smaller(unit, queued[middle], keys, id_offsets, id_bytes):
            first = middle + 1
        else:
            last = middle
        middle = (first + last) // 2
    for other in range(size, first, -1):
        queued[other] = queued[other - 1]
        ends[other] = ends[other - 1]
    queued[first], ends[first] = unit, end
    return size + 1


@njit(cache=True, nogil=True)
def _is_smaller(
    unit: int,
    other: int,
    keys: NDArray[np.uint64],
    id_offsets: NDArray[np.int64],
    id_bytes: NDArray[np.uint8],
) -> bool:
    if keys[unit] != keys[other]:
        return bool(keys[unit] < keys[other])
    start, other_start = id_offsets[unit], id_offsets[other]
    length, other_length = id_offsets[unit + 1] - start, id_offsets[other + 1] - other_start
    for position in range(min(length, other_length)):
        byte, other_byte = id_bytes[start + position], id_bytes[other_start + position]
        if byte != other_byte:
            return bool(byte < other_byte)
    return bool(length < other_length)


@njit(cache=True, nogil=True)
def _merge(
    firsts: NDArray[np.int64],
    units: NDArray[np.int32],
    scores: NDArray[np.float64],
    num_hits: NDArray[np.int32],
    merged_units: NDArray[np.int32],
    merged_scores: NDArray[np.float64],
) -> None:
    """Merge the sorted hits of the parts, query by query.

    The queue has the next hit of every part that has hits left, the best last, with its score and
    the end of the part's hits. A sorted queue needs fewer comparisons than a heap: if most hits are
    from one part, such as previously merged hits, one comparison is enough.
    """
    num_parts = firsts.shape[1]
    queued = np.empty(num_parts, np.int64)
    queued_scores = np.empty(num_parts, np.float64)
    ends = np.empty(num_parts, np.int64)
    written = 0
    for query in range(len(num_hits)):
        size = 0
        for part in range(num_parts):
            hit, end = firsts[query, part], firsts[query + 1, part]
            if hit < end:
                size = _queue_hit(hit, end, size, queued, queued_scores, ends, units, scores)
        for _ in range(num_hits[query]):
            size -= 1
            hit, end = queued[size], ends[size]
            merged_units[written] = units[hit]
            merged_scores[written] = scores[hit]
            written += 1
            if hit + 1 < end:
                size = _queue_hit(hit + 1, end, size, queued, queued_scores, ends, units, scores)


@njit(cache=True, nogil=True)
def _queue_hit(
    hit: int,
    end: int,
    size: int,
    queued: NDArray[np.int64],
    queued_scores: NDArray[np.float64],
    ends: NDArray[np.int64],
    units: NDArray[np.int32],
    scores: NDArray[np.float64],
) -> int:
    """Insert a hit into the sorted queue; return the new size."""
    score, unit = scores[hit], units[hit]
    first, last = 0, size
    middle = size - 1
    while first < last:
        other_score = queued_scores[middle]
        if other_score < score or (other_score == score and unit < units[queued[middle]]):
            first = middle + 1
        else:
            last = middle
        middle = (first + last) // 2
    for other in range(size, first, -1):
        queued[other] = queued[other - 1]
        queued_scores[other] = queued_scores[other - 1]
        ends[other] = ends[other - 1]
    queued[first], queued_scores[first], ends[first] = hit, score, end
    return size + 1
