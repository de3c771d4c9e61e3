"""BM25 search of one shard: choice between MaxScore and exhaustive search per superblock."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raykd.retrieval.bm25.candidates import Candidates
from raykd.retrieval.bm25.exhaustive import search_exhaustive
from raykd.retrieval.bm25.index import ShardIndex
from raykd.retrieval.bm25.maxscore import MAX_DISTINCT_TERMS, MAX_QUERY_LENGTH, search_maxscore
from raykd.retrieval.bm25.query_plan import QueryPlan
from raykd.retrieval.bm25.statistics import QueryTerms

# Costs in scored postings: of scoring the units of one block, and, per unit, of building the
# postings of a superblock.
_POSTINGS_PER_BLOCK = 220
_POSTINGS_PER_UNIT = 60
# MaxScore is first tried on every _PROBE_STRIDE-th query of a batch; if more than this share of
# the probes exceed their limits, the other queries are not tried.
_PROBE_STRIDE = 16
_PROBE_FAIL_SHARE = 0.8


@dataclass(frozen=True)
class BlockHits:
    """Best H hits of a batch of B queries in one shard, query by query.

    Attributes:
        num_hits: (B,) number of hits of each query.
        units: (H,) positions of units in the shard.
        scores: (H,) positive; within a query sorted by (score descending, unit_id ascending).
        pruned_share: share of the pairs of a query and a superblock that MaxScore searched.
    """

    num_hits: NDArray[np.int32]
    units: NDArray[np.int32]
    scores: NDArray[np.float64]
    pruned_share: float


def search_shard(
    index: ShardIndex,
    queries: QueryTerms,
    top_k: NDArray[np.int32],
    thresholds: NDArray[np.float64],
    block: tuple[int, int],
) -> BlockHits:
    """Find the best hits of a batch of queries in one shard.

    Args:
        index: index of the shard.
        queries: terms of all Q queries.
        top_k: (Q,) hits kept per query; fewer if fewer units contain a term of the query.
        thresholds: (Q,) lower bound of the query's k-th best score in the whole corpus, or 0;
            units that score less may be skipped.
        block: range [first, last) of the queries to search.
    """
    first, last = block
    plan = QueryPlan.of(queries, block, index)
    candidates = Candidates.empty(top_k[first:last], thresholds[first:last], index.num_units)
    fits = (plan.lengths <= MAX_QUERY_LENGTH) & (np.diff(plan.offsets) <= MAX_DISTINCT_TERMS)
    use_exhaustive = candidates.floors <= 0
    num_held = num_pruned = 0
    for superblock in range(index.num_superblocks):
        held, pruned = _search_superblock(index, superblock, plan, fits, use_exhaustive, candidates)
        num_held += held
        num_pruned += pruned
    return BlockHits(*candidates.best(index.id_rank), pruned_share=num_pruned / max(num_held, 1))


def _search_superblock(
    index: ShardIndex,
    superblock: int,
    plan: QueryPlan,
    fits: NDArray[np.bool_],
    use_exhaustive: NDArray[np.bool_],
    candidates: Candidates,
) -> tuple[int, int]:
    """Search one superblock with the cheaper algorithm for each query.

    The choice has no effect on the hits. Costs are counted in scored postings.

    Args:
        index: index of the shard.
        superblock: number of the superblock.
        plan: plan of the batch of B queries.
        fits: (B,) whether `search_maxscore` supports the query.
        use_exhaustive: (B,) whether the query has no threshold, or one that skips too little;
            updated.
        candidates: candidates of the batch.

    Returns:
        Number of queries with a term in the superblock, and how many of them MaxScore searched.
    """
    held = plan.expected_postings > 0
    pruned, plain = held & fits & ~use_exhaustive, held & ~(fits & ~use_exhaustive)
    making = _POSTINGS_PER_UNIT * index.superblock_units
    limits = plan.expected_postings / _POSTINGS_PER_BLOCK
    # If the postings are cached, building block maxima does not pay off for a few queries.
    are_few = plan.expected_postings[pruned].sum() < making
    if are_few and index.has_postings(superblock) and not index.has_maxima(superblock):
        pruned, plain = np.zeros_like(pruned), pruned | plain
    num_held, num_pruned = int(held.sum()), 0
    if pruned.any():
        remained = _remaining(index, superblock, plan, np.flatnonzero(pruned), limits, candidates)
        late = pruned & (remained > limits)
        num_pruned = int((pruned & ~late).sum())
        lost = (remained[late] - limits[late]).sum() * _POSTINGS_PER_BLOCK
        # Building postings does not pay off for a few queries without a threshold.
        lost += (plan.expected_postings[plain] * _POSTINGS_PER_BLOCK).sum()
        if index.has_postings(superblock) or lost > making or not fits[plain].all():
            use_exhaustive |= late
            plain = plain | late
        else:
            others = np.flatnonzero(plain | late)
            if len(others):
                no_limits = np.full(len(limits), np.inf)
                search_maxscore(index, superblock, plan, others, no_limits, candidates)
            return num_held, num_pruned + len(others)
    if plain.any():
        search_exhaustive(index, superblock, plan, np.flatnonzero(plain), candidates)
    return num_held, num_pruned


def _remaining(
    index: ShardIndex,
    superblock: int,
    plan: QueryPlan,
    numbers: NDArray[np.int64],
    limits: NDArray[np.float64],
    candidates: Candidates,
) -> NDArray[np.float64]:
    """Run `search_maxscore` on some queries; return the remaining blocks per query (B,).

    A few queries are probed first. If too many blocks remain for most probes, the other queries are
    not searched, and their remaining blocks are estimated from the probes: the thresholds of a wave
    are mostly too low for all queries or for few.
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
