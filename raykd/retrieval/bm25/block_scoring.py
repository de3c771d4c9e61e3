"""Exact scores of the units of selected blocks, from the forward index."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.bm25.candidates import NO_FLOOR, add_candidates
from raykd.retrieval.bm25.forward_index import WIDE
from raykd.retrieval.bm25.scoring import saturation
from raykd.text.simd import prefetch

# Prefetch distances, in blocks: of the offsets of a block's terms, and of the terms.
_OFFSETS_AHEAD = 8
_TERMS_AHEAD = 3
# Elements per cache line of 64 bytes.
_COMMON_PER_LINE = 64
_OTHERS_PER_LINE = 32


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
    """Score the units of selected blocks exactly, and add them to the candidates.

    Args:
        blocks: block numbers, query by query.
        queries: positions of the queries in the query batch.
        ends: end of each query's blocks in `blocks`.
        shape: first unit of block 0, end of the last block, number of blocks, units per block.
        plan: `QueryPlan.arrays`.
        units: `ShardIndex.unit_arrays`.
        form: form of the saturation.
        places: (V,) work space, zero before and after the call.
        id_rank: (U,) rank of each unit in the ascending order of ids.
        candidates: `Candidates.arrays`; units that score below a query's floor are skipped.
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
    scored_units = np.empty(most * block_units + 1, np.int32)
    scores = np.empty(most * block_units + 1)
    next_block = 0
    for run in range(len(queries)):
        query = queries[run]
        start, num_terms = offsets[query], offsets[query + 1] - offsets[query]
        for i in range(num_terms):
            places[terms[start + i]] = i + 1
        floor = max(floors[query], NO_FLOOR)
        reads_common = has_common[query]
        num_scored = 0
        while next_block < ends[run]:
            if next_block + _OFFSETS_AHEAD < len(blocks):
                unit = first_unit + blocks[next_block + _OFFSETS_AHEAD] * block_units
                prefetch(common_offsets, unit)
                prefetch(other_offsets, unit)
                prefetch(length_numbers, unit)
            if next_block + _TERMS_AHEAD < len(blocks):
                unit = first_unit + blocks[next_block + _TERMS_AHEAD] * block_units
                after = min(unit + block_units, last_unit)
                for position in range(
                    np.int64(common_offsets[unit]),
                    np.int64(common_offsets[after]),
                    _COMMON_PER_LINE,
                ):
                    prefetch(common, position)
                for position in range(
                    np.int64(other_offsets[unit]), np.int64(other_offsets[after]), _OTHERS_PER_LINE
                ):
                    prefetch(others, position)
            first = first_unit + blocks[next_block] * block_units
            next_block += 1
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
                scored_units[num_scored] = unit
                scores[num_scored] = score
                num_scored += score >= floor
        for i in range(num_terms):
            places[terms[start + i]] = 0
        if num_scored > 0:
            add_candidates(
                query, scored_units[:num_scored], scores[:num_scored], id_rank, candidates
            )
