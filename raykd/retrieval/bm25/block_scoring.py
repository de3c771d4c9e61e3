"""The scores of single units, from the terms they hold."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.bm25.candidates import NO_FLOOR, add_candidates
from raykd.retrieval.bm25.forward_index import WIDE
from raykd.retrieval.bm25.scoring import saturation
from raykd.text.simd import prefetch

# So many blocks before it is scored, what says where a block's terms stand is fetched, and so many
# before, the terms.
_OFFSETS_AHEAD = 8
_TERMS_AHEAD = 3
# Cache lines hold 64 bytes.
_COMMON_A_LINE = 64
_OTHERS_A_LINE = 32


@njit(cache=True, nogil=True, error_model="numpy")
def score_blocks(  # noqa: C901  # a call for each unit costs more than its score
    blocks: NDArray[np.int32],
    queries: NDArray[np.int64],
    ends: NDArray[np.int64],
    shape: tuple[int, int, int, int],
    plan: Any,
    units: Any,
    form: Any,
    places: NDArray[np.uint8],
    id_rank: NDArray[np.int32],
    candidates: Any,
) -> None:
    """Add the units of some blocks to the candidates of some queries, with their final scores.

    Args:
        blocks: numbers of blocks, query after query.
        queries: positions in the block of queries.
        ends: of each query, where its blocks end.
        shape: the first unit of block 0, the end of the last block, blocks, and units a block.
        plan: `QueryPlan.arrays`.
        units: `ShardIndex.unit_arrays`.
        form: of the saturation.
        places: (V,) room, all zero before and after.
        id_rank: (U,) each unit's position in the ascending order of ids.
        candidates: `Candidates.arrays`: units that score less than a query's floor are left out.
    """
    offsets, has_common, terms, counts, idf, _, _ = plan
    common, common_offsets, others, other_offsets, length_numbers, norms = units
    first_unit, last_unit, _, block_units = shape
    floors = candidates[4]
    has_wide = len(places) > WIDE
    tf = np.zeros(256, np.int32)
    most = 0
    start = 0
    for end in ends:
        most = max(most, end - start)
        start = end
    found_units = np.empty(most * block_units + 1, np.int32)
    found_scores = np.empty(most * block_units + 1)
    at = 0
    for run in range(len(queries)):
        query = queries[run]
        start, num_terms = offsets[query], offsets[query + 1] - offsets[query]
        for i in range(num_terms):
            places[terms[start + i]] = i + 1
        floor = max(floors[query], NO_FLOOR)
        reads_common = has_common[query]
        found = 0
        while at < ends[run]:
            if at + _OFFSETS_AHEAD < len(blocks):
                unit = first_unit + blocks[at + _OFFSETS_AHEAD] * block_units
                prefetch(common_offsets, unit)
                prefetch(other_offsets, unit)
                prefetch(length_numbers, unit)
            if at + _TERMS_AHEAD < len(blocks):
                unit = first_unit + blocks[at + _TERMS_AHEAD] * block_units
                after = min(unit + block_units, last_unit)
                for position in range(
                    np.int64(common_offsets[unit]), np.int64(common_offsets[after]), _COMMON_A_LINE
                ):
                    prefetch(common, position)
                for position in range(
                    np.int64(other_offsets[unit]), np.int64(other_offsets[after]), _OTHERS_A_LINE
                ):
                    prefetch(others, position)
            first = first_unit + blocks[at] * block_units
            at += 1
            for unit in range(first, min(first + block_units, last_unit)):
                if reads_common:
                    for position in range(common_offsets[unit], common_offsets[unit + 1]):
                        place = places[common[position]]
                        if place:
                            tf[place] += 1
                position, stop = int(other_offsets[unit]), int(other_offsets[unit + 1])
                while position < stop:
                    term = np.uint32(others[position])
                    position += 1
                    if has_wide and term == WIDE:
                        term = (np.uint32(others[position]) << np.uint32(16)) | np.uint32(
                            others[position + 1]
                        )
                        position += 2
                    place = places[term]
                    if place:
                        tf[place] += 1
                norm = norms[length_numbers[unit]]
                score = 0.0
                for i in range(num_terms):
                    if tf[i + 1]:
                        counted = saturation(float(tf[i + 1]), norm, form)
                        score += counts[start + i] * (idf[start + i] * counted)
                        tf[i + 1] = 0
                found_units[found] = unit
                found_scores[found] = score
                found += score >= floor
        for i in range(num_terms):
            places[terms[start + i]] = 0
        if found > 0:
            add_candidates(query, found_units[:found], found_scores[:found], id_rank, candidates)
