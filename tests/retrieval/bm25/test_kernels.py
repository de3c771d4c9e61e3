"""MaxScore and exhaustive search at all boundaries, against the dense oracle."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_bm25 import best_hits

from raykd.retrieval.bm25 import index, postings, scoring, search
from raykd.retrieval.bm25.block_bounds import refine, take_reaching
from raykd.retrieval.bm25.block_max import LISTED
from raykd.retrieval.bm25.candidates import keep_best, sort_best_first
from raykd.retrieval.bm25.forward_index import ForwardIndex
from raykd.retrieval.bm25.index import ShardIndex
from raykd.retrieval.bm25.maxscore import search_maxscore
from raykd.retrieval.bm25.scoring import Bm25Config
from raykd.retrieval.bm25.statistics import QueryTerms, analyze_queries
from raykd.text.analyzer import TermLookup

Hit = tuple[int, int, float]
ALWAYS_PRUNED, NEVER_PRUNED_TWICE = (1e-9, 1e9), (1e9, -1e9)


def index_of(
    texts: Sequence[str], queries: Sequence[str], config: Bm25Config, **sizes: int
) -> tuple[ShardIndex, QueryTerms]:
    vocabulary, query_terms = analyze_queries(queries)
    lookup = TermLookup(vocabulary.terms)
    arrow = pa.array(texts, pa.string())
    known, total = ForwardIndex.of([arrow], lookup, len(vocabulary.terms))
    unit_ids = pa.array(range(len(texts)), pa.int64())
    idf = scoring.idf(total.df, total.num_units, config)
    shard = index.build(known, unit_ids, total, idf, config, **sizes)
    return shard, query_terms


def hits_of(
    shard: ShardIndex, queries: QueryTerms, top_k: Sequence[int], thresholds: Sequence[float]
) -> list[Hit]:
    found = search.search_shard(
        shard,
        queries,
        np.array(top_k, np.int32),
        np.array(thresholds, np.float64),
        (0, queries.num_queries),
    )
    numbers = np.repeat(np.arange(queries.num_queries), found.num_hits)
    return list(zip(numbers.tolist(), found.units.tolist(), found.scores.tolist(), strict=True))


def expected_hits(
    units: Sequence[tuple[int, str]], queries: Sequence[str], top_k: Sequence[int], **bm25: Any
) -> list[Hit]:
    every = best_hits(units, queries, len(units), **bm25)
    by_query = [[hit for hit in every if hit[0] == query] for query in range(len(queries))]
    return [hit for hits, k in zip(by_query, top_k, strict=True) for hit in hits[:k]]


WORDS = [f"w{number}" for number in range(12)]
texts = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)


@settings(max_examples=150, deadline=None)
@given(
    units=st.lists(texts, min_size=1, max_size=40),
    queries=st.lists(texts, min_size=1, max_size=4),
    top_k=st.lists(st.sampled_from([1, 2, 5, 50]), min_size=4, max_size=4),
    sizes=st.sampled_from([(1, 1), (2, 2), (6, 4), (16, 4), (65536, 4)]),
    variant=st.sampled_from(["lucene", "robertson", "atire", "bm25l", "bm25+"]),
    k1=st.sampled_from([0.0, 1.2]),
    b=st.sampled_from([0.0, 0.75, 1.0]),
    seeded=st.sampled_from(["none", "score", "below", "some"]),
    effort=st.sampled_from([ALWAYS_PRUNED, NEVER_PRUNED_TWICE, (80, 200)]),
)
def test_any_safe_threshold_gives_the_hits_of_the_dense_oracle_bit_for_bit(
    units: list[str],
    queries: list[str],
    top_k: list[int],
    sizes: tuple[int, int],
    variant: Any,
    k1: float,
    b: float,
    seeded: str,
    effort: tuple[float, float],
) -> None:
    config = Bm25Config(variant=variant, k1=k1, b=b)
    delta = scoring.saturation_form(config)[2]
    top_k = top_k[: len(queries)]
    numbered = list(enumerate(units))
    expected = expected_hits(numbered, queries, top_k, k1=k1, b=b, variant=variant, delta=delta)
    shard, query_terms = index_of(
        units, queries, config, superblock_units=sizes[0], block_units=sizes[1]
    )
    thresholds = []
    for number, k in enumerate(top_k):
        scores = [score for query, _, score in expected if query == number]
        is_seeded = seeded != "none" and len(scores) == k and (seeded != "some" or number % 2)
        thresholds.append(scores[-1] * (0.9 if seeded == "below" else 1.0) if is_seeded else 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_POSTINGS_PER_BLOCK", effort[0])
        patch.setattr(search, "_POSTINGS_PER_UNIT", effort[1])
        for _ in range(2):
            assert hits_of(shard, query_terms, top_k, thresholds) == expected


def test_units_that_reach_the_threshold_exactly_are_kept() -> None:
    shard, queries = index_of(["cat dog"] * 9 + ["cat"], ["cat"], Bm25Config())
    best = hits_of(shard, queries, [10], [0.0])
    tied = best[1][2]
    assert hits_of(shard, queries, [10], [tied]) == best
    assert hits_of(shard, queries, [10], [np.nextafter(tied, 9.0)]) == best[:1]


def long_corpus() -> tuple[list[str], list[str]]:
    rng = random.Random(4)
    words = [f"w{number}" for number in range(3000)]
    weights = [1 / (number + 1) for number in range(3000)]
    units = [" ".join(rng.choices(words, weights, k=rng.randint(0, 30))) for _ in range(120)]
    units += [" ".join(rng.choices(words, weights, k=100_000))]
    queries = [" ".join(rng.choices(words, weights, k=70)) for _ in range(2)]
    return units, [*queries, "w1 " * 256 + "w0", "w1 " * 257 + "w0", "w9 " * 70_000, "zebra", ""]


def test_long_units_long_queries_and_very_often_repeated_terms_are_exact() -> None:
    units, queries = long_corpus()
    top_k = [7] * len(queries)
    expected = expected_hits(list(enumerate(units)), queries, top_k)
    for sizes in ((65536, 4), (64, 4)):
        shard, query_terms = index_of(
            units, queries, Bm25Config(), superblock_units=sizes[0], block_units=sizes[1]
        )
        assert hits_of(shard, query_terms, top_k, [0.0] * len(queries)) == expected
        worst = {query: score for query, _, score in expected}
        thresholds = [worst.get(query, 0.0) for query in range(len(queries))]
        assert hits_of(shard, query_terms, top_k, thresholds) == expected


def zipf_corpus() -> tuple[list[str], list[str]]:
    """Some terms have a list of blocks and some a row of all."""
    rng = random.Random(7)
    words = [f"w{number}" for number in range(2000)]
    weights = [1 / (number + 1) for number in range(2000)]
    units = [" ".join(rng.choices(words, weights, k=rng.randint(0, 40))) for _ in range(3000)]
    queries = [" ".join(rng.choices(words, weights, k=rng.randint(1, 12))) for _ in range(150)]
    return units, queries


def test_if_maxscore_fails_for_the_probes_the_other_queries_are_searched_exhaustively(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    units, queries = zipf_corpus()
    shard, query_terms = index_of(units, queries, Bm25Config(), superblock_units=512)
    top_k = [3] * len(queries)
    plain = hits_of(shard, query_terms, top_k, [0.0] * len(queries))
    thresholds = [min(score for q, _, score in plain if q == n) for n in range(len(queries))]
    tried: list[int] = []

    def count_and_search(*given: Any) -> Any:
        tried.append(len(given[3]))
        return search_maxscore(*given)

    monkeypatch.setattr(search, "search_maxscore", count_and_search)
    for effort, numbers_tried in ((NEVER_PRUNED_TWICE, [10]), (ALWAYS_PRUNED, [10, 140] * 6)):
        monkeypatch.setattr(search, "_POSTINGS_PER_BLOCK", effort[0])
        monkeypatch.setattr(search, "_POSTINGS_PER_UNIT", effort[1])
        tried.clear()
        shard, _ = index_of(units, queries, Bm25Config(), superblock_units=512)
        assert hits_of(shard, query_terms, top_k, thresholds) == plain
        assert tried == numbers_tried


@pytest.mark.parametrize("share", [1.0, 0.5, 1e-9])
def test_any_share_of_the_best_score_as_threshold_gives_the_exhaustive_hits(
    monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    # At the smallest share more blocks remain than wait to be scored at once.
    units, queries = zipf_corpus()
    shard, query_terms = index_of(units, queries, Bm25Config())
    numbers = range(len(queries))
    plain = hits_of(shard, query_terms, [3000] * len(queries), [0.0] * len(queries))
    best = {query: score for query, _, score in reversed(plain)}
    thresholds = [share * best[query] for query in numbers]
    monkeypatch.setattr(search, "_POSTINGS_PER_BLOCK", ALWAYS_PRUNED[0])
    monkeypatch.setattr(search, "_POSTINGS_PER_UNIT", ALWAYS_PRUNED[1])
    # Where the postings are there already, they might be used.
    without_postings, _ = index_of(units, queries, Bm25Config())
    found = hits_of(without_postings, query_terms, [3000] * len(queries), thresholds)
    assert not without_postings.has_postings(0)
    assert len(found) >= len(queries)
    assert found == [hit for hit in plain if hit[2] >= thresholds[hit[0]]]


@pytest.mark.parametrize("needed", [1, 2, 700, 65_535])
def test_blocks_that_reach_the_bound_are_selected_and_bounds_are_reset(needed: int) -> None:
    rng = np.random.default_rng(3)
    for number in (1, 3):
        bounds = rng.choice(
            np.array([0, 1, 2, 699, 700, 701, 65_534, 65_535], np.uint16), 256 * number
        )
        bounds[:256] = 0
        bounds[[31, 32, 255]] = 65_535
        blocks = np.flatnonzero(bounds >= needed)
        expected = np.stack([blocks, bounds[blocks]])
        survivors = np.empty((2, len(bounds)), np.int32)
        num = take_reaching(bounds, needed, survivors)
        assert np.array_equal(survivors[:, :num], expected)
        assert not bounds.any()


def test_nonessential_terms_add_their_block_maxima_from_lists_and_dense_rows() -> None:
    rng = np.random.default_rng(5)
    # Five terms that are listed, one with a row of all blocks, and one that no unit holds, whose
    # list starts where another one does.
    lists = [np.sort(rng.choice(4096, size, replace=False)) for size in (1, 2, 3, 100, 511)]
    by_hand = np.zeros((7, 4096), np.int64)
    for term, blocks_of_term in enumerate(lists):
        by_hand[term, blocks_of_term] = rng.integers(1, 256, len(blocks_of_term))
    by_hand[5] = rng.integers(0, 256, 4096)
    ends = np.cumsum([len(blocks_of_term) for blocks_of_term in lists])
    starts = [0, *ends]
    rows = [LISTED] * 5 + [0, LISTED]
    sizes = [*map(len, lists), 0, 0]
    entries = np.array(
        [[starts[t % 6], sizes[t], by_hand[t].max(), rows[t]] for t in range(7)], np.int32
    )
    blocks = np.concatenate(lists).astype(np.uint16)
    maxima = np.concatenate([by_hand[t][lists[t]] for t in range(5)]).astype(np.uint8)
    terms, counts = np.arange(7, dtype=np.int32), np.array([1, 2, 1, 3, 1, 1, 1], np.uint16)
    most = int((counts * by_hand.max(1)).sum())
    summed = 40 + (counts[:, None] * by_hand).sum(0)
    for threshold in (41, 200, 400, 41 + most):
        survivors = np.stack([np.arange(4096), np.full(4096, 40)]).astype(np.int32)
        num = refine(
            terms, counts, 0, 7, entries, blocks, maxima, by_hand[5:6].astype(np.uint8),
            threshold, most, survivors, 4096,
        )  # fmt: skip
        expected = np.flatnonzero(summed >= threshold)
        assert survivors[:, :num].tolist() == [expected.tolist(), summed[expected].tolist()]


def test_a_vocabulary_that_16_bits_cannot_number_is_exact() -> None:
    words = [f"w{number}" for number in range(70_000)]
    queries = [" ".join(words), "w69999 w3", "w5 w65536 w65535"]
    units = ["w69999 w3 w3", "w65535 w65536 w65536", "w5", "w66000 w5 w69998"]
    shard, query_terms = index_of(units, queries, Bm25Config())
    top_k = [4, 4, 4]
    expected = expected_hits(list(enumerate(units)), queries, top_k)
    worst = {query: score for query, _, score in expected}
    for thresholds in ([0.0] * 3, [worst[query] for query in range(3)]):
        assert hits_of(shard, query_terms, top_k, thresholds) == expected


@pytest.mark.parametrize(("square", "codes"), [(4, 8), (1, 1), (64, 1 << 16)])
def test_rare_pairs_of_tf_and_length_have_their_own_codes(
    monkeypatch: pytest.MonkeyPatch, square: int, codes: int
) -> None:
    rng = random.Random(2)
    units = [" ".join(rng.choices(WORDS, k=rng.randint(0, 60))) for _ in range(50)]
    queries = ["w1 w2 w3", "w4"]
    expected = expected_hits(list(enumerate(units)), queries, [50, 50])
    monkeypatch.setattr(postings, "_NUM_SQUARE_CODES", square)
    monkeypatch.setattr(postings, "_NUM_CODES", codes)
    shard, query_terms = index_of(units, queries, Bm25Config())
    assert hits_of(shard, query_terms, [50, 50], [0.0, 0.0]) == expected


@pytest.mark.parametrize("num_distinct", [1, 3, 5000])
@pytest.mark.parametrize("num_hits", [2, 65, 5000])
def test_the_top_k_are_kept_and_sorted_by_score_and_then_by_id(
    num_hits: int, num_distinct: int
) -> None:
    rng = np.random.default_rng(num_hits)
    units = rng.permutation(num_hits).astype(np.int32)
    scores = rng.integers(1, num_distinct + 1, num_hits) / 7
    id_rank = rng.permutation(num_hits).astype(np.int32)
    order = np.lexsort((id_rank[units], -scores))
    expected = list(zip(units[order].tolist(), scores[order].tolist(), strict=True))
    for k in {1, num_hits // 2, num_hits - 1}:
        kept_units, kept_scores = units.copy(), scores.copy()
        assert keep_best(kept_units, kept_scores, id_rank, k) == expected[k - 1][1]
        best_units, best_scores = kept_units[:k], kept_scores[:k]
        sort_best_first(best_units, best_scores, id_rank)
        assert list(zip(best_units.tolist(), best_scores.tolist(), strict=True)) == expected[:k]
