"""Search over shards, against dense oracles and other engines."""

import math
import random
from collections.abc import Sequence
from typing import Any

import bm25s
import numpy as np
import pyarrow as pa
import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_bm25 import best_hits
from rank_bm25 import BM25Okapi

from raykd.retrieval.bm25 import index, scoring
from raykd.retrieval.bm25.forward_index import ForwardIndex
from raykd.retrieval.bm25.index import ShardIndex
from raykd.retrieval.bm25.scoring import Bm25Config, lucene_length
from raykd.retrieval.bm25.search import search_shard
from raykd.retrieval.bm25.statistics import QueryTerms, Statistics, analyze_queries
from raykd.retrieval.hits import RankedHits, merge
from raykd.text.analyzer import TermLookup

Unit = tuple[Any, str]


def shards_of(units: Sequence[Unit], num_shards: int) -> list[list[Unit]]:
    return [list(units[number::num_shards]) for number in range(num_shards)]


def ranked_hits_of(
    shard: ShardIndex, queries: QueryTerms, top_k: int, block: tuple[int, int]
) -> RankedHits:
    num_queries = queries.num_queries
    hits = search_shard(
        shard, queries, np.full(num_queries, top_k, np.int32), np.zeros(num_queries), block
    )
    return RankedHits.of_shard(
        hits.num_hits, hits.units, hits.scores, shard.unit_ids, shard.id_rank
    )


def hits_of(
    shards: Sequence[Sequence[Unit]],
    queries: Sequence[str],
    top_k: int,
    config: Bm25Config | None = None,
) -> list[tuple[int, Any, float]]:
    """Search shards as a job does, without Ray and files."""
    bm25 = config or Bm25Config()
    vocabulary, query_terms = analyze_queries(queries)
    lookup = TermLookup(vocabulary.terms)
    total = Statistics.empty(len(vocabulary.terms))
    known = []
    for shard in shards:
        texts = pa.array([text for _, text in shard], pa.string())
        # In two batches, as a shard of many units has them.
        batches = [texts[: len(texts) // 2], texts[len(texts) // 2 :]]
        terms, counted = ForwardIndex.of(batches, lookup, len(vocabulary.terms))
        known.append(terms)
        total += counted
    is_int = any(isinstance(unit_id, int) for shard in shards for unit_id, _ in shard)
    id_type = pa.int64() if is_int else pa.string()
    parts = []
    idf = scoring.idf(total.df, total.num_units, bm25)
    for shard, terms in zip(shards, known, strict=True):
        ids = pa.array([unit_id for unit_id, _ in shard], id_type)
        shard_index = index.build(terms, ids, total, idf, bm25)
        parts.append(ranked_hits_of(shard_index, query_terms, top_k, (0, len(queries))))
    merged = merge(parts, np.full(len(queries), top_k, np.int32))
    numbers = np.repeat(np.arange(len(queries)), merged.num_hits).tolist()
    ids = merged.unit_ids.take(pa.array(merged.units)).to_pylist()
    return list(zip(numbers, ids, merged.scores.tolist(), strict=True))


WORDS = ("ape", "bee", "cat", "dog")
texts = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(
    unit_texts=st.lists(texts, min_size=1, max_size=24),
    queries=st.lists(texts, min_size=1, max_size=5),
    top_k=st.sampled_from([1, 2, 3, 10, 100]),
    k1=st.sampled_from([0.0, 0.9, 1.2]),
    b=st.sampled_from([0.0, 0.4, 0.75, 1.0]),
    seed=st.integers(0, 9),
)
def test_any_number_and_order_of_shards_equals_the_dense_oracle_bit_for_bit(
    unit_texts: list[str], queries: list[str], top_k: int, k1: float, b: float, seed: int
) -> None:
    shuffled = random.Random(seed)
    units = [(f"unit-{number:02d}", text) for number, text in enumerate(unit_texts)]
    expected = best_hits(units, queries, top_k, k1=k1, b=b)
    for num_shards in (1, 2, 3, 7):
        shuffled.shuffle(units)
        assert (
            hits_of(shards_of(units, num_shards), queries, top_k, Bm25Config(k1=k1, b=b))
            == expected
        )


def test_scores_match_hand_computed_values() -> None:
    # N = 2, df = 1: idf = ln(1 + 1.5 / 1.5); avgdl = 3: norm = 1.2 * (0.25 + 0.75 * 4 / 3) = 1.5
    hits = hits_of([[("a", "Cat, cat. A dog"), ("b", "the dog")]], ["cat"], 10)
    assert hits == [(0, "a", pytest.approx(math.log(2) * 2 / (2 + 1.5), rel=1e-15))]


def test_a_repeated_query_term_counts_twice() -> None:
    shard = [("a", "cat dog"), ("b", "dog bee"), ("c", "bee")]
    [(_, _, once)] = hits_of([shard], ["cat"], 10)
    [(_, _, twice)] = hits_of([shard], ["cat cat"], 10)
    assert twice == 2 * once


def test_equal_scores_are_in_ascending_order_of_ids() -> None:
    shards = [[("b", "cat"), ("Z", "cat")], [("é", "cat"), ("a", "cat")]]
    assert [unit_id for _, unit_id, _ in hits_of(shards, ["cat"], 3)] == ["Z", "a", "b"]


def test_ids_of_integers_keep_their_type_and_order_as_numbers() -> None:
    shards = [[(10, "cat"), (-3, "cat")], [(9, "cat"), (2**62, "cat dog")]]
    hits = hits_of(shards, ["cat"], 10)
    assert [unit_id for _, unit_id, _ in hits] == [-3, 9, 10, 2**62]


def test_empty_units_count_in_the_average_but_are_never_hits() -> None:
    hits = hits_of([[("a", ""), ("b", "?!"), ("c", "cat")]], ["cat", "", "?", "zebra"], 10)
    assert [(query, unit_id) for query, unit_id, _ in hits] == [(0, "c")]
    idf = math.log(1 + 2.5 / 1.5)
    assert hits[0][2] == pytest.approx(idf / (1 + 1.2 * (0.25 + 0.75 * 3)), rel=1e-15)


def test_a_corpus_of_empty_units_has_no_hits() -> None:
    assert hits_of([[("a", ""), ("b", "")]], ["cat"], 10) == []


def test_a_score_does_not_depend_on_the_other_queries() -> None:
    shard = [("a", "cat dog bee"), ("b", "dog ape ape"), ("c", "bee")]
    alone = hits_of([shard], ["dog cat bee ape"], 10)
    together = hits_of([shard], ["dog cat bee ape", "zebra ape aardvark cow"], 10)
    assert [hit for hit in together if hit[0] == 0] == alone


def test_lengths_as_lucene_stores_them() -> None:
    lengths = np.array([0, 23, 24, 39, 40, 41, 42, 55, 56, 57, 59, 60, 64, 100_000])
    stored = [0, 23, 24, 39, 40, 40, 42, 54, 56, 56, 56, 60, 64, 98_328]
    assert lucene_length(lengths).tolist() == stored


def random_corpus(num_units: int, max_words: int) -> tuple[list[str], list[str]]:
    rng = random.Random(3)
    words = [f"w{number}" for number in range(200)]
    weights = [1 / (number + 1) for number in range(200)]

    def text(num_words: int) -> str:
        return " ".join(rng.choices(words, weights, k=num_words))

    units = [text(rng.randint(1, max_words)) for _ in range(num_units)]
    return units, [text(rng.randint(1, 12)) for _ in range(20)]


def scores_of(units: Sequence[str], query: str, config: Bm25Config) -> np.ndarray:
    scores = np.zeros(len(units))
    for _, unit, score in hits_of([list(enumerate(units))], [query], len(units), config):
        scores[unit] = score
    return scores


def test_scores_equal_bm25s_in_its_lucene_form() -> None:
    units, queries = random_corpus(300, 120)
    engine = bm25s.BM25(method="lucene", k1=1.2, b=0.75, dtype="float64")
    engine.index([unit.split() for unit in units], show_progress=False)
    for query in queries:
        known = [word for word in query.split() if word in engine.vocab_dict]
        np.testing.assert_allclose(
            scores_of(units, query, Bm25Config()), engine.get_scores(known), rtol=1e-6
        )


def test_scores_of_one_term_equal_rank_bm25_up_to_idf_and_its_constant() -> None:
    # BM25Okapi has another idf and a factor k1 + 1; the rest of the formula is the same.
    units, _ = random_corpus(200, 60)
    engine = BM25Okapi([unit.split() for unit in units], k1=1.2, b=0.75)
    for word in ("w3", "w40", "w150"):
        df = sum(word in unit.split() for unit in units)
        idf = math.log(1 + (len(units) - df + 0.5) / (df + 0.5))
        expected = engine.get_scores([word]) / engine.idf[word] * idf / 2.2
        np.testing.assert_allclose(scores_of(units, word, Bm25Config()), expected, rtol=1e-12)


def test_lucene_norms_equal_tantivy() -> None:
    units, queries = random_corpus(300, 150)
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("text", stored=False, tokenizer_name="whitespace")
    builder.add_integer_field("number", stored=True)
    engine = tantivy.Index(builder.build())
    writer = engine.writer(heap_size=50_000_000, num_threads=1)
    for number, unit in enumerate(units):
        writer.add_document(tantivy.Document(text=unit, number=number))
    writer.commit()
    engine.reload()
    searcher = engine.searcher()
    for repetitive in queries:
        # Its query parser drops repeated terms.
        query = " ".join(dict.fromkeys(repetitive.split()))
        expected = np.zeros(len(units))
        for score, address in searcher.search(
            engine.parse_query(query, ["text"]), limit=len(units)
        ).hits:
            expected[searcher.doc(address)["number"][0]] = score / 2.2
        np.testing.assert_allclose(
            scores_of(units, query, Bm25Config(norms="lucene")), expected, rtol=1e-5
        )
