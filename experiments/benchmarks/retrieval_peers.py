"""Search engines for comparison, each on one core and one segment."""

import time
from collections.abc import Sequence
from itertools import pairwise

import bm25s
import numpy as np
import pyarrow as pa
import tantivy
from bm25s.tokenization import Tokenized
from rank_bm25 import BM25Okapi

from raykd.retrieval.bm25.statistics import QueryTerms
from raykd.text.analyzer import TermStream

_HEAP_BYTES = 1_500_000_000


def per_unit(stream: TermStream) -> list[list[int]]:
    ends = stream.offsets.tolist()
    ids = stream.term_ids.tolist()
    return [ids[first:last] for first, last in pairwise(ends)]


def per_query(queries: QueryTerms, *, repeats: bool) -> list[list[int]]:
    return [
        np.repeat(
            queries.term_ids[first:last],
            queries.counts[first:last].astype(int) if repeats else 1,
        ).tolist()
        for first, last in pairwise(queries.offsets)
    ]


class Bm25s:
    """bm25s, numba backend, one thread."""

    name = "bm25s"

    def __init__(self, units: Sequence[list[int]], num_terms: int) -> None:
        self._vocabulary = {str(term): term for term in range(num_terms)}
        self._engine = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numba")
        self._engine.index(Tokenized(ids=list(units), vocab=self._vocabulary), show_progress=False)

    def seconds(self, queries: QueryTerms, k: int) -> float:
        """Measure CPU seconds of all queries."""
        given = Tokenized(ids=per_query(queries, repeats=True), vocab=self._vocabulary)
        start = time.process_time()
        self._engine.retrieve(
            given, k=k, n_threads=1, show_progress=False, backend_selection="numba"
        )
        return time.process_time() - start


class Tantivy:
    """tantivy, one segment, one thread, without counting all matches."""

    name = "tantivy"

    def __init__(self, units: Sequence[list[int]]) -> None:
        self._schema, index = _empty_index("whitespace", "freq")
        writer = index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        for unit in units:
            writer.add_document(tantivy.Document(text=" ".join(map(str, unit))))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        self._searcher = index.searcher()
        self.num_segments = self._searcher.num_segments

    def seconds(self, queries: QueryTerms, k: int) -> float:
        """Measure CPU seconds of all queries."""
        query_terms = [
            tantivy.Query.boolean_query(
                [
                    (
                        tantivy.Occur.Should,
                        tantivy.Query.term_query(self._schema, "text", str(term), "freq"),
                    )
                    for term in terms
                ]
            )
            for terms in per_query(queries, repeats=False)
        ]
        start = time.process_time()
        for query in query_terms:
            _ = self._searcher.search(query, limit=k, count=False).hits
        return time.process_time() - start


def tantivy_build_seconds(texts: pa.StringArray) -> float:
    """Measure CPU seconds from texts to a searchable index, with tantivy's own analyzer."""
    given = texts.to_pylist()
    _, index = _empty_index("default", "freq")
    start = time.process_time()
    writer = index.writer(heap_size=_HEAP_BYTES, num_threads=1)
    for text in given:
        writer.add_document(tantivy.Document(text=text))
    writer.commit()
    writer.wait_merging_threads()
    return time.process_time() - start


def rank_bm25_seconds(units: Sequence[list[int]], queries: QueryTerms) -> float:
    """Measure CPU seconds of rank-bm25 without building its index."""
    engine = BM25Okapi(list(units), k1=1.2, b=0.75)
    query_terms = per_query(queries, repeats=True)
    start = time.process_time()
    for terms in query_terms:
        engine.get_scores(terms)
    return time.process_time() - start


def _empty_index(tokenizer: str, option: str) -> tuple[tantivy.Schema, tantivy.Index]:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("text", stored=False, tokenizer_name=tokenizer, index_option=option)
    schema = builder.build()
    return schema, tantivy.Index(schema)
