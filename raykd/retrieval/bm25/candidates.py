"""Top-k selection in the total order of hits: score descending, unit_id ascending."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

_INSERTION_SIZE = 16
_FEW_HITS = 64
_NUM_BUCKETS = 1024
# Smallest positive float64.
NO_FLOOR = 5e-324


@njit(cache=True, nogil=True)
def _swap(units: NDArray[np.int32], scores: NDArray[np.float64], i: int, j: int) -> None:
    units[i], units[j] = units[j], units[i]
    scores[i], scores[j] = scores[j], scores[i]


@njit(cache=True, nogil=True)
def _precedes(score: float, rank: int, other_score: float, other_rank: int) -> bool:
    return score > other_score or (score == other_score and rank < other_rank)


@njit(cache=True, nogil=True)
def _partition(
    units: NDArray[np.int32],
    scores: NDArray[np.float64],
    id_rank: NDArray[np.int32],
    first: int,
    last: int,
) -> tuple[int, int]:
    """Partition [first, last] so that all of [first, j] precede or equal all of [i, last]."""
    middle = (first + last) // 2
    # Median of three as the pivot.
    for low, high in ((first, middle), (middle, last), (first, middle)):
        if _precedes(scores[high], id_rank[units[high]], scores[low], id_rank[units[low]]):
            _swap(units, scores, low, high)
    pivot, rank = scores[middle], id_rank[units[middle]]
    i, j = first, last
    while i <= j:
        while _precedes(scores[i], id_rank[units[i]], pivot, rank):
            i += 1
        while _precedes(pivot, rank, scores[j], id_rank[units[j]]):
            j -= 1
        if i <= j:
            _swap(units, scores, i, j)
            i += 1
            j -= 1
    return i, j


@njit(cache=True, nogil=True)
def _keep_first(
    units: NDArray[np.int32], scores: NDArray[np.float64], id_rank: NDArray[np.int32], k: int
) -> None:
    """Move the best k of more than k hits to the front (quickselect)."""
    first, last = 0, len(units) - 1
    while first < last:
        i, j = _partition(units, scores, id_rank, first, last)
        if k - 1 <= j:
            last = j
        elif k - 1 >= i:
            first = i
        else:
            break


@njit(cache=True, nogil=True)
def _sort(
    units: NDArray[np.int32],
    scores: NDArray[np.float64],
    id_rank: NDArray[np.int32],
    first: int,
    last: int,
) -> None:
    """Quicksort [first, last] down to short runs, which `_insertion_sort` completes."""
    stack = np.empty((64, 2), np.int64)
    stack[0, 0], stack[0, 1] = first, last
    size = 1
    while size:
        size -= 1
        first, last = stack[size, 0], stack[size, 1]
        while last - first >= _INSERTION_SIZE:
            i, j = _partition(units, scores, id_rank, first, last)
            # Push the longer part, which bounds the stack.
            if j - first > last - i:
                stack[size, 0], stack[size, 1] = first, j
                first = i
            else:
                stack[size, 0], stack[size, 1] = i, last
                last = j
            size += 1


@njit(cache=True, nogil=True)
def _insertion_sort(
    units: NDArray[np.int32], scores: NDArray[np.float64], id_rank: NDArray[np.int32]
) -> None:
    for end in range(1, len(units)):
        unit, score = units[end], scores[end]
        hole = end
        while hole > 0 and _precedes(
            score, id_rank[unit], scores[hole - 1], id_rank[units[hole - 1]]
        ):
            units[hole], scores[hole] = units[hole - 1], scores[hole - 1]
            hole -= 1
        units[hole], scores[hole] = unit, score


@njit(cache=True, nogil=True)
def _scale(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Compute `highest` and `factor` of the monotone bucket int((highest - score) * factor)."""
    lowest = highest = scores[0]
    for score in scores:
        lowest = min(lowest, score)
        highest = max(highest, score)
    width = highest - lowest
    factor = (_NUM_BUCKETS - 1) / width if width > 0 else 0.0
    return highest, factor if factor < np.inf else 0.0


@njit(cache=True, nogil=True)
def keep_best(
    units: NDArray[np.int32],
    scores: NDArray[np.float64],
    id_rank: NDArray[np.int32],
    k: int,
) -> float:
    """Move the best k of n > k hits to the front, in any order.

    Args:
        units: (n,) distinct positions of units.
        scores: (n,) scores of the units.
        id_rank: (U,) rank of each unit in the ascending order of ids.
        k: number of hits to keep.

    Returns:
        The k-th best score.
    """
    highest, factor = _scale(scores)
    histogram = np.zeros(_NUM_BUCKETS, np.int32)
    for score in scores:
        histogram[np.intp((highest - score) * factor)] += 1
    last_bucket, num_before = 0, 0
    while num_before + histogram[last_bucket] < k:
        num_before += histogram[last_bucket]
        last_bucket += 1
    # Hits that are certainly kept go to the front, followed by the bucket that is kept in part.
    kept, doubtful = 0, 0
    for i in range(len(scores)):
        bucket = np.intp((highest - scores[i]) * factor)
        if bucket <= last_bucket:
            _swap(units, scores, i, kept + doubtful)
            if bucket < last_bucket:
                _swap(units, scores, kept, kept + doubtful)
                kept += 1
            else:
                doubtful += 1
    num_missing = k - kept
    if num_missing < doubtful:
        end = kept + doubtful
        _keep_first(units[kept:end], scores[kept:end], id_rank, num_missing)
    worst = np.inf
    for i in range(kept, k):
        worst = min(worst, scores[i])
    return float(worst)


@njit(cache=True, nogil=True)
def sort_best_first(
    units: NDArray[np.int32], scores: NDArray[np.float64], id_rank: NDArray[np.int32]
) -> None:
    """Sort hits in place.

    Args:
        units: (n,) distinct positions of units.
        scores: (n,) scores of the units.
        id_rank: (U,) rank of each unit in the ascending order of ids.
    """
    num_hits = len(units)
    if num_hits > _FEW_HITS:
        highest, factor = _scale(scores)
        ends = np.zeros(_NUM_BUCKETS + 1, np.int32)
        for score in scores:
            ends[np.intp((highest - score) * factor) + 1] += 1
        for end in range(_NUM_BUCKETS):
            ends[end + 1] += ends[end]
        old_units, old_scores = units.copy(), scores.copy()
        for i in range(num_hits):
            place = np.intp((highest - old_scores[i]) * factor)
            units[ends[place]], scores[ends[place]] = old_units[i], old_scores[i]
            ends[place] += 1
        start = 0
        for stop in ends[:-1]:
            if stop - start >= _INSERTION_SIZE:
                _sort(units, scores, id_rank, start, int(stop) - 1)
            start = int(stop)
    else:
        _sort(units, scores, id_rank, 0, num_hits - 1)
    _insertion_sort(units, scores, id_rank)


@dataclass(frozen=True)
class Candidates:
    """Candidate hits of a batch of B queries; only the best are kept when space runs out.

    Attributes:
        units: positions of units; query b has units[starts[b]:starts[b] + sizes[b]].
        scores: scores of the units.
        starts: (B + 1,) start of each query's space.
        sizes: (B,) number of candidates of each query.
        floors: (B,) scores that a unit must reach to be in the top k.
        top_k: (B,) hits kept per query.
    """

    units: NDArray[np.int32]
    scores: NDArray[np.float64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    floors: NDArray[np.float64]
    top_k: NDArray[np.int32]

    @classmethod
    def empty(
        cls, top_k: NDArray[np.int32], thresholds: NDArray[np.float64], num_units: int
    ) -> "Candidates":
        """Allocate space for 2 * top_k candidates per query, so that pruning is rare.

        Args:
            top_k: (B,) hits kept per query.
            thresholds: (B,) scores below which a unit is not a hit.
            num_units: number of units of the shard.
        """
        room = np.minimum(2 * top_k.astype(np.int64), num_units)
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(room)])
        return cls(
            np.empty(starts[-1], np.int32),
            np.empty(starts[-1], np.float64),
            starts,
            np.zeros(len(top_k), np.int64),
            thresholds.copy(),
            top_k,
        )

    @property
    def arrays(self) -> tuple[Any, ...]:
        """All attributes as a tuple for compiled code."""
        return self.units, self.scores, self.starts, self.sizes, self.floors, self.top_k

    def best(
        self, id_rank: NDArray[np.int32]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
        """Numbers of hits, and units and scores of the best hits, query by query, best first."""
        _finish(self.arrays, id_rank)
        total = int(self.sizes.sum())
        units, scores = np.empty(total, np.int32), np.empty(total, np.float64)
        _gather(self.arrays, units, scores)
        return self.sizes.astype(np.int32), units, scores


@njit(cache=True, nogil=True)
def add_candidates(
    query: int,
    new_units: NDArray[np.int32],
    new_scores: NDArray[np.float64],
    id_rank: NDArray[np.int32],
    candidates: Any,
) -> None:
    """Add hits to the candidates of a query; when full, keep the best and raise the floor."""
    units, scores, starts, sizes, floors, top_k = candidates
    start, size, num_new = starts[query], sizes[query], len(new_units)
    if num_new == 0:
        return
    if start + size + num_new > starts[query + 1]:
        k = int(top_k[query])
        all_units = np.concatenate((units[start : start + size], new_units))
        all_scores = np.concatenate((scores[start : start + size], new_scores))
        floors[query] = max(floors[query], keep_best(all_units, all_scores, id_rank, k))
        units[start : start + k] = all_units[:k]
        scores[start : start + k] = all_scores[:k]
        sizes[query] = k
    else:
        end = start + size
        units[end : end + num_new] = new_units
        scores[end : end + num_new] = new_scores
        sizes[query] = size + num_new


@njit(cache=True, nogil=True)
def _finish(candidates: Any, id_rank: NDArray[np.int32]) -> None:
    units, scores, starts, sizes, _, top_k = candidates
    for query in range(len(sizes)):
        first, last = starts[query], starts[query] + sizes[query]
        if sizes[query] > top_k[query]:
            keep_best(units[first:last], scores[first:last], id_rank, int(top_k[query]))
            sizes[query] = top_k[query]
            last = first + sizes[query]
        if last - first > 1:
            sort_best_first(units[first:last], scores[first:last], id_rank)


@njit(cache=True, nogil=True)
def _gather(
    candidates: Any, best_units: NDArray[np.int32], best_scores: NDArray[np.float64]
) -> None:
    units, scores, starts, sizes, _, _ = candidates
    end = 0
    for query in range(len(sizes)):
        for i in range(sizes[query]):
            best_units[end + i] = units[starts[query] + i]
            best_scores[end + i] = scores[starts[query] + i]
        end += sizes[query]
