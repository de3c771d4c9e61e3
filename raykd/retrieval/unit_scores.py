"""The scores of single units, from the terms they hold."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from raykd.retrieval.scoring import saturation
from raykd.retrieval.streams import WIDE


@njit(cache=True, nogil=True, error_model="numpy")
def score_blocks(  # noqa: C901  # a call for each unit costs more than its score
    blocks: NDArray[np.int32],
    shape: tuple[int, int, int],
    query: int,
    floor: float,
    plan: Any,
    units: Any,
    form: Any,
    places: NDArray[np.uint8],
    tf: NDArray[np.int32],
    found_units: NDArray[np.int32],
    found_scores: NDArray[np.float64],
) -> int:
    """Write the units of some blocks that reach a floor, with their final scores.

    Args:
        blocks: numbers of blocks.
        shape: the first unit of block 0, the end of the last block, and units a block.
        query: position in the block of queries.
        floor: the score wanted.
        plan: `Plan.arrays`.
        units: `ShardIndex.unit_arrays`.
        form: of the saturation.
        places: (V,) 1 + the position in the query of each term number, 0 for other terms.
        tf: (256,) room, all zero before and after.
        found_units: room for all units of the blocks and one.
        found_scores: as much.

    Returns:
        How many were found.
    """
    offsets, has_common, _, counts, idf, _, _ = plan
    common, common_offsets, others, other_offsets, length_numbers, norms = units
    first_unit, last_unit, block_units = shape
    start, num_terms = offsets[query], offsets[query + 1] - offsets[query]
    reads_common, has_wide = has_common[query], len(places) > WIDE
    found = 0
    for block in blocks:
        first = first_unit + block * block_units
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
    return found
