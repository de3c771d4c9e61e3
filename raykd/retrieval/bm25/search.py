"""All queries against one shard: the best hits of each, term after term."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from raykd.config import Config
from raykd.retrieval.bm25.candidates import Candidates
from raykd.retrieval.bm25.exhaustive import search_exhaustive
from raykd.retrieval.bm25.index import ShardIndex
from raykd.retrieval.bm25.maxscore import MAX_DISTINCT_TERMS, MAX_QUERY_LENGTH, search_maxscore
from raykd.retrieval.bm25.query_plan import QueryPlan
from raykd.retrieval.bm25.scoring import Bm25Config
from raykd.retrieval.bm25.statistics import QueryTerms
from raykd.retrieval.dense.config import DenseConfig
from raykd.retrieval.fusion import FusionConfig
from raykd.retrieval.hits import MAX_TOP_K
from raykd.retrieval.queries import Keywords, StopWords
from raykd.text.analyzer import AnalyzerConfig

# To score the units of a block takes as long as to go through so many postings, and to make the
# postings of a superblock as long as to go through so many for each of its units.
_POSTINGS_A_BLOCK = 220
_POSTINGS_A_UNIT = 60
# One query in so many is tried before the others, and such a share of those are most.
_PROBE_STRIDE = 16
_PROBE_FAIL_SHARE = 0.8

Method = Literal["bm25", "dense", "hybrid"]


class RetrievalConfig(Config):
    """How units are ranked for each query.

    `dense` and `fusion` are sections of the methods that read embeddings; `keywords`,
    `keyword_stop_words`, `bm25` and `analyzer` of those that read terms.
    """

    method: Method = Field(
        "bm25",
        description="bm25: exact BM25 on terms; dense: embeddings; hybrid: both, fused by their "
        "ranks.",
    )
    top_k: int = Field(
        ge=1,
        le=MAX_TOP_K,
        description="Hits per query. Liu et al. 2022 take 10 (MNLI) to 1000 (RTE) from a corpus "
        "of 160 GB.",
    )
    keywords: Keywords = Field(
        "rake",
        description="Queries of terms: rake (the sentence's RAKE keywords, as in TLM's code) or "
        "none (the whole sentence).",
    )
    keyword_stop_words: StopWords = Field(
        "nltk",
        description="Words at which RAKE ends a keyword phrase: nltk (NLTK's English list, as "
        "rake-nltk 1.0.6 takes it), raykd (a longer list of English function words), or a list of "
        "words.",
    )
    bm25: Bm25Config = Field(
        Bm25Config(),
        description="Parameters of BM25; the defaults are those of Lucene and Elasticsearch.",
    )
    analyzer: AnalyzerConfig = Field(
        AnalyzerConfig(),
        description="Processing of words after lower-casing: stop words and stemming.",
    )
    dense: DenseConfig | None = Field(
        None,
        description="Encoder and index of a search by embeddings; required by dense and hybrid.",
    )
    fusion: FusionConfig = Field(
        FusionConfig(), description="How hybrid joins the two rankings (reciprocal rank fusion)."
    )

    @property
    def query_keywords(self) -> Keywords:
        """How queries of terms are made; a dense search reads the anchors themselves."""
        return "none" if self.method == "dense" else self.keywords

    @model_validator(mode="after")
    def _keys_of_the_method(self) -> Self:
        for key, methods in _METHODS_OF_KEYS.items():
            default = type(self).model_fields[key].default
            if self.method not in methods and getattr(self, key) != default:
                raise ValueError(
                    f"method {self.method!r} does not read the key {key!r}; remove it, or set "
                    f"method: {' or '.join(methods)}"
                )
        if self.method in _METHODS_OF_KEYS["dense"] and self.dense is None:
            raise ValueError(
                f"method {self.method!r} needs the section dense, with the model that embeds: "
                "dense: {model: ...}"
            )
        return self


# The keys that not all methods read.
_METHODS_OF_KEYS = {
    "keywords": ("bm25", "hybrid"),
    "keyword_stop_words": ("bm25", "hybrid"),
    "bm25": ("bm25", "hybrid"),
    "analyzer": ("bm25", "hybrid"),
    "dense": ("dense", "hybrid"),
    "fusion": ("hybrid",),
}


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
    making = _POSTINGS_A_UNIT * index.superblock_units
    limits = plan.expected_postings / _POSTINGS_A_BLOCK
    # Where the postings are there already, a few queries are not worth block maxima of their own.
    are_few = plan.expected_postings[pruned].sum() < making
    if are_few and index.has_postings(superblock) and not index.has_maxima(superblock):
        pruned, plain = np.zeros_like(pruned), pruned | plain
    if pruned.any():
        remained = _remaining(index, superblock, plan, np.flatnonzero(pruned), limits, candidates)
        late = pruned & (remained > limits)
        lost = (remained[late] - limits[late]).sum() * _POSTINGS_A_BLOCK
        # A few queries without a threshold are not worth postings of their own.
        lost += (plan.expected_postings[plain] * _POSTINGS_A_BLOCK).sum()
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
