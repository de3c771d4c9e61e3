"""All queries against one shard: the best hits of each, term after term."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raykd.retrieval.bm25.candidates import Candidates
from raykd.retrieval.bm25.exhaustive import search_exhaustive
from raykd.retrieval.bm25.index import ShardIndex
from raykd.retrieval.bm25.maxscore import MAX_DISTINCT_TERMS, MAX_QUERY_LENGTH, search_maxscore
from raykd.retrieval.bm25.query_plan import QueryPlan
from raykd.retrieval.bm25.statistics import QueryTerms

# To score the units of a block takes as long as to go through so many postings, and to make the
# postings of a superblock as long as to go through so many for each of its units.
_POSTINGS_PER_BLOCK = 220
_POSTINGS_PER_UNIT = 60
# One query in so many is tried before the others, and such a share of those are most.
_PROBE_STRIDE = 16
_PROBE_FAIL_SHARE = 0.8


@dataclass(frozen=True)
class BlockHits:
    """The best hits of a block of B queries in one shard: H hits, query after query.

    Attributes:
        num_hits: (B,) hits of each query.
        units: (H,) positions of units in the shard.
        scores: (H,) positive; within a query sorted by (score descending, unit_id ascending).
    """

    num_hits: NDArray[np.int32]
    units: NDArray[np.int32]
    scores: NDArray[np.float64]


def search(
    index: ShardIndex,
    queries: QueryTerms,
    top_k: NDArray[np.int32],
    thresholds: NDArray[np.float64],
    block: tuple[int, int],
) -> BlockHits:
    """The best hits of a block of queries in one shard.

    Args:
        index: the shard.
        queries: all Q queries.
        top_k: (Q,) hits wanted a query; fewer where fewer units hold a term of it.
        thresholds: (Q,) a bound that the query's `top_k`-th best score in the whole corpus is
            known to reach, or 0: units that score less may be left out.
        block: the queries [first, last) that are searched.
    """
    first, last = block
    plan = QueryPlan.of(queries, block, index)
    candidates = Candidates.empty(top_k[first:last], thresholds[first:last], index.num_units)
    fits = (plan.lengths <= MAX_QUERY_LENGTH) & (np.diff(plan.offsets) <= MAX_DISTINCT_TERMS)
    use_exhaustive = candidates.floors <= 0
    for superblock in range(index.num_superblocks):
        _search_superblock(index, superblock, plan, fits, use_exhaustive, candidates)
    return BlockHits(*candidates.best(index.id_rank))


def _search_superblock(
    index: ShardIndex,
    superblock: int,
    plan: QueryPlan,
    fits: NDArray[np.bool_],
    use_exhaustive: NDArray[np.bool_],
    candidates: Candidates,
) -> None:
    """Search one superblock in the way that costs a query the least.

    Which way has no effect on the hits. Costs are counted in postings to go through.

    Args:
        index: the shard.
        superblock: which.
        plan: the B queries.
        fits: (B,) whether `search_maxscore` can take the query.
        use_exhaustive: (B,) whether it has no threshold, or one that leaves too much; written.
        candidates: of the queries.
    """
    held = plan.expected_postings > 0
    pruned, plain = held & fits & ~use_exhaustive, held & ~(fits & ~use_exhaustive)
    making = _POSTINGS_PER_UNIT * index.superblock_units
    limits = plan.expected_postings / _POSTINGS_PER_BLOCK
    # Where the postings are there already, a few queries are not worth block maxima of their own.
    are_few = plan.expected_postings[pruned].sum() < making
    if are_few and index.has_postings(superblock) and not index.has_maxima(superblock):
        pruned, plain = np.zeros_like(pruned), pruned | plain
    if pruned.any():
        remained = _remaining(index, superblock, plan, np.flatnonzero(pruned), limits, candidates)
        late = pruned & (remained > limits)
        lost = (remained[late] - limits[late]).sum() * _POSTINGS_PER_BLOCK
        # A few queries without a threshold are not worth postings of their own.
        lost += (plan.expected_postings[plain] * _POSTINGS_PER_BLOCK).sum()
        if index.has_postings(superblock) or lost > making or not fits[plain].all():
            use_exhaustive |= late
            plain = plain | late
        else:
            others = np.flatnonzero(plain | late)
            if len(others):
                no_limits = np.full(len(limits), np.inf)
                search_maxscore(index, superblock, plan, others, no_limits, candidates)
            return
    if plain.any():
        search_exhaustive(index, superblock, plan, np.flatnonzero(plain), candidates)


def _remaining(
    index: ShardIndex,
    superblock: int,
    plan: QueryPlan,
    numbers: NDArray[np.int64],
    limits: NDArray[np.float64],
    candidates: Candidates,
) -> NDArray[np.float64]:
    """(B,) the blocks that `search_maxscore` leaves of some queries, of which it takes a few first.

    Where it left too many of most of them, it is spared the others, which are taken to be like
    them: thresholds of one wave mostly leave too much of all queries or of few.
    """
    tried, others = numbers[::_PROBE_STRIDE], np.delete(numbers, np.s_[::_PROBE_STRIDE])
    remained = search_maxscore(index, superblock, plan, tried, limits, candidates).astype(
        np.float64
    )
    times_limit = remained[tried] / limits[tried]
    if superblock == 0 and np.mean(times_limit > 1) > _PROBE_FAIL_SHARE:
        remained[others] = np.median(times_limit) * limits[others]
    else:
        remained += search_maxscore(index, superblock, plan, others, limits, candidates)
    return remained
