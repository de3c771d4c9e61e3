"""Peers of `bench_search_job.py`: BM25 engines that index all units, then search all queries.

Every peer analyzes the text of the units itself, keeps stop words, does not stem, and has k1=1.2
and b=0.75. A term that occurs twice in a query counts twice. What the peers do not have in common:

- Terms: infino's are raykd's (UAX #29). bm25s splits at all but letters, digits and underscores,
  tantivy at underscores too, PISA as its `EnglishTokenizer` (ASCII letters and digits).
- Scores: bm25s, tantivy and infino have Lucene's idf, ln(1 + (N - df + 0.5) / (df + 0.5)). PISA has
  max(1e-6, ln((N - df + 0.5) / (df + 0.5))): a term of more than half of the units scores nearly 0.
- Lengths: tantivy and infino round those of units down, to about four significant bits.
"""

import contextlib
import json
import math
import os
import re
import resource
import signal
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raykd.text.analyzer import terms

# The paper's units per task sentence, from a corpus of 160 GB: 3.6e8 units of 445 bytes.
PAPER_TOP_K = {"rte": 1000, "mrpc": 800, "cola": 900, "sst2": 150, "stsb": 500}
PAPER_UNITS = 360_000_000
K1, B = 1.2, 0.75
# Packages of the peers.
PACKAGES = {
    "bm25s": "bm25s",
    "tantivy": "tantivy",
    "infino": "infino",
    "pisa": "pyterrier_pisa",
}
_QUERIES_PER_CHUNK = 500
_CHECKED_UNITS = 2000
_CHECKED_QUERIES = 50
_CHECKED_HITS = 10
# Largest relative difference of scores that 32-bit numbers explain.
_TOLERANCE = 1e-4
# Lengths of units are rounded in one byte: tantivy's as Lucene's `SmallFloat.intToByte4`.
_EXACT_LENGTHS = {"tantivy": 24, "infino": 0}
# A term that all analyzers leave whole.
_PLAIN_TERM = re.compile("[a-z]{2,30}")

# Queries by the number of hits per query; a query is its terms.
Queries = Mapping[int, Sequence[Sequence[str]]]
# Scores of the hits per query, in the order of the queries.
Scores = list[Sequence[float]]


class Peer(ABC):
    """Engine with an index in a folder, for `cpus` threads or processes."""

    def __init__(self, folder: Path, cpus: int) -> None:
        self._folder, self._cpus = folder, cpus

    @abstractmethod
    def index(self, texts: Sequence[str]) -> None:
        """Index all texts."""

    @abstractmethod
    def search(self, queries: Queries) -> Scores:
        """Search for all queries; hits have scores above 0."""


class _Bm25s(Peer):
    """bm25s, numba backend, all scores in memory."""

    def index(self, texts: Sequence[str]) -> None:
        import bm25s

        self._num_units = len(texts)
        self._engine = bm25s.BM25(method="lucene", k1=K1, b=B, backend="numba")
        self._engine.index(_bm25s_tokens(list(texts)), show_progress=False)

    def search(self, queries: Queries) -> Scores:
        result: Scores = []
        for top_k, some in queries.items():
            tokens = _bm25s_tokens([" ".join(query) for query in some])
            _, scores = self._engine.retrieve(
                tokens, k=min(top_k, self._num_units), n_threads=self._cpus, show_progress=False
            )
            result += [row[row > 0] for row in scores]
        return result


def _bm25s_tokens(texts: list[str]) -> Any:
    import bm25s

    # The default pattern has no words of one letter.
    return bm25s.tokenize(texts, token_pattern=r"(?u)\b\w+\b", stopwords=None, show_progress=False)


class _Tantivy(Peer):
    """tantivy, index threads and search processes, an index without positions."""

    def index(self, texts: Sequence[str]) -> None:
        import tantivy

        builder = tantivy.SchemaBuilder()
        builder.add_text_field("text", stored=False, tokenizer_name="default", index_option="freq")
        index = tantivy.Index(builder.build(), path=str(self._folder))
        writer = index.writer(heap_size=1 << 30, num_threads=self._cpus)
        for text in texts:
            writer.add_document(tantivy.Document(text=text))
        writer.commit()
        writer.wait_merging_threads()

    def search(self, queries: Queries) -> Scores:
        with get_context("spawn").Pool(self._cpus) as pool:
            result = pool.map(partial(_tantivy_scores, self._folder), _chunks(queries), 1)
            pool.close()
            pool.join()
        return [scores for part in result for scores in part]


def _tantivy_scores(folder: Path, chunk: tuple[int, Sequence[Sequence[str]]]) -> Scores:
    import tantivy

    top_k, queries = chunk
    index = tantivy.Index.open(str(folder))
    searcher = index.searcher()
    analyzer = (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(tantivy.Filter.remove_long(40))
        .filter(tantivy.Filter.lowercase())
        .build()
    )
    result: Scores = []
    for query in queries:
        parts = [
            (
                tantivy.Occur.Should,
                tantivy.Query.term_query(index.schema, "text", term, index_option="freq"),
            )
            for term in analyzer.analyze(" ".join(query))
        ]
        found = searcher.search(tantivy.Query.boolean_query(parts), top_k, count=False)
        result.append([score for score, _ in found.hits])
    return result


class _Infino(Peer):
    """infino, an index-only column of a local folder."""

    def index(self, texts: Sequence[str]) -> None:
        import infino

        schema = pa.schema([pa.field("body", pa.large_utf8(), nullable=False)])
        spec = infino.IndexSpec().fts("body", stored=False, k1=K1, b=B)
        self._table = infino.connect(str(self._folder)).create_table("units", schema, spec)
        self._table.append(pa.table([pa.array(texts, pa.large_utf8())], schema=schema))

    def search(self, queries: Queries) -> Scores:
        with ThreadPoolExecutor(self._cpus) as pool:
            result = list(pool.map(self._scores, _chunks(queries)))
        return [scores for part in result for scores in part]

    def _scores(self, chunk: tuple[int, Sequence[Sequence[str]]]) -> Scores:
        top_k, queries = chunk
        return [
            self._table.bm25_search("body", " ".join(query), top_k)["score"].to_pylist()
            for query in queries
        ]


class _Pisa(Peer):
    """PISA, by pyterrier_pisa."""

    def index(self, texts: Sequence[str]) -> None:
        from pyterrier_pisa import PisaIndex

        units = ({"docno": str(number), "text": text} for number, text in enumerate(texts))
        self._index = PisaIndex(
            str(self._folder),
            text_field="text",
            stemmer="none",
            stops="none",
            threads=self._cpus,
            overwrite=True,
        )
        with _silence():
            self._index.index(units)

    def search(self, queries: Queries) -> Scores:
        with _silence():
            return self._search(queries)

    def _search(self, queries: Queries) -> Scores:
        import pandas as pd

        result: Scores = []
        for top_k, some in queries.items():
            # Without query_weighted, a repeated term of a query counts once. MaxScore, not the
            # default block_max_wand: the queries are long (Mallia et al. 2019, "An Experimental
            # Study of Index Compression and DAAT Query Processing Methods", ECIR 2019).
            engine = self._index.bm25(
                k1=K1, b=B, num_results=top_k, query_weighted=True, query_algorithm="maxscore"
            )
            table = pd.DataFrame({"qid": range(len(some)), "query": map(" ".join, some)})
            hits = engine(table)
            # Queries come in the order of their ends, the hits of each query together.
            numbers, scores = hits["qid"].to_numpy(), hits["score"].to_numpy()
            bounds = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
            found = {
                int(numbers[first]): scores[first:last]
                for first, last in pairwise(bounds)
                if last > first
            }
            result += [found.get(number, ()) for number in range(len(some))]
        return result


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Discard what C++ code prints: PISA's log, which has no switch, and its progress bars."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


PEERS: dict[str, type[Peer]] = {
    "bm25s": _Bm25s,
    "tantivy": _Tantivy,
    "infino": _Infino,
    "pisa": _Pisa,
}


def run_peer(
    name: str, folder: Path, tasks: Sequence[str], cpus: int, limit_s: float
) -> dict[str, Any]:
    """Index all units and search all queries; SIGALRM ends the process after `limit_s` of that."""
    texts = [text for path in shards_of(folder) for text in pq.read_table(path)["text"].to_pylist()]
    tables = {task: query_keys(folder, task) for task in tasks}
    top_k = {task: top_k_of(task, len(texts)) for task in tasks}
    top_k_by_query: dict[tuple[str, ...], int] = defaultdict(int)
    for task, keys in tables.items():
        for key in filter(None, keys):
            top_k_by_query[key] = max(top_k_by_query[key], top_k[task])
    queries: dict[int, list[tuple[str, ...]]] = defaultdict(list)
    for key, number in top_k_by_query.items():
        queries[number].append(key)
    # Loads the peer's libraries, and compiles those of numba.
    difference = checked_difference(name, texts, list(top_k_by_query), cpus)
    with tempfile.TemporaryDirectory() as scratch:
        peer = PEERS[name](Path(scratch), cpus)
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        started, cpu_started = time.monotonic(), _cpu_s()
        peer.index(texts)
        index_s = time.monotonic() - started
        print(json.dumps({"index_s": index_s}), flush=True)
        scores = peer.search(queries)
        wall_s, cpu_s = time.monotonic() - started, _cpu_s() - cpu_started
        signal.setitimer(signal.ITIMER_REAL, 0)
    keys = [key for some in queries.values() for key in some]
    found = dict(zip(keys, map(len, scores), strict=True))
    return {
        "version": metadata.version(PACKAGES[name]),
        "wall_s": wall_s,
        "index_s": index_s,
        "cpu_s": cpu_s,
        # Like raykd's, of all queries, repeated ones too.
        "num_hits": sum(
            min(found.get(key, 0), top_k[task]) for task, keys in tables.items() for key in keys
        ),
        "num_queries": sum(map(len, tables.values())),
        "num_distinct_queries": len(found),
        "difference_from_brute_force": f"{difference:.1e}",
    }


def query_keys(folder: Path, task: str) -> list[tuple[str, ...]]:
    """List the sorted terms of each query."""
    queries = pq.read_table(folder / "queries" / f"{task}.parquet")["query"].to_pylist()
    return [tuple(sorted(terms(query))) for query in queries]


def shards_of(folder: Path, number: int | None = None) -> list[Path]:
    return sorted((folder / "units").glob("*.parquet"))[:number]


def top_k_of(task: str, num_units: int) -> int:
    return math.ceil(PAPER_TOP_K[task] * num_units / PAPER_UNITS)


def checked_difference(
    name: str, texts: Sequence[str], queries: Sequence[Sequence[str]], cpus: int
) -> float:
    """Compare the peer's ten best scores of some queries in some units with its formula.

    The units and queries are reduced to the terms that all analyzers share.

    Returns:
        The largest relative difference.
    """
    units = [_plain(terms(text)) for text in texts[:_CHECKED_UNITS]]
    some = [_plain(query) for query in queries[:: max(1, len(queries) // _CHECKED_QUERIES)]]
    some = [query for query in some if query][:_CHECKED_QUERIES]
    with tempfile.TemporaryDirectory() as scratch:
        peer = PEERS[name](Path(scratch), cpus)
        peer.index([" ".join(unit) for unit in units])
        found = peer.search({_CHECKED_HITS: some})
    expected = brute_force(name, units, some)
    assert list(map(len, found)) == list(map(len, expected)), f"{name} misses hits"
    pairs = ((sorted(own, reverse=True), other) for own, other in zip(found, expected, strict=True))
    difference = max(
        abs(float(own_score) - score) / score
        for own, other in pairs
        for own_score, score in zip(own, other, strict=True)
    )
    assert difference < _TOLERANCE, f"{name}: scores differ by {difference:.2g} from brute force"
    return difference


def _plain(words: Iterable[str]) -> list[str]:
    return [word for word in words if _PLAIN_TERM.fullmatch(word)]


def brute_force(name: str, units: list[list[str]], queries: list[list[str]]) -> list[list[float]]:
    """Score all units by the peer's formula, and keep the ten best per query."""
    lengths = [len(unit) for unit in units]
    mean = sum(lengths) / len(lengths)
    if name in _EXACT_LENGTHS:
        lengths = [_rounded_length(length, _EXACT_LENGTHS[name]) for length in lengths]
    norms = [K1 * (1 - B + B * length / mean) for length in lengths]
    factor = {"bm25s": 1, "infino": 1, "tantivy": 1 + K1, "pisa": 1 + K1}[name]
    postings: dict[str, dict[int, int]] = defaultdict(dict)
    for number, unit in enumerate(units):
        for term, count in Counter(unit).items():
            postings[term][number] = count
    result = []
    for query in queries:
        scores: dict[int, float] = defaultdict(float)
        for term in query:
            units_of_term = postings.get(term, {})
            odds = (len(units) - len(units_of_term) + 0.5) / (len(units_of_term) + 0.5)
            idf = max(1e-6, math.log(odds)) if name == "pisa" else math.log(1 + odds)
            for number, count in units_of_term.items():
                scores[number] += factor * idf * count / (count + norms[number])
        result.append(sorted(scores.values(), reverse=True)[:_CHECKED_HITS])
    return result


def _rounded_length(length: int, exact: int) -> int:
    """Round what exceeds `exact` down to its four highest bits."""
    above = max(length - exact, 0)
    shift = max(above.bit_length() - 4, 0)
    return length - above + (above >> shift << shift)


def _chunks(queries: Queries) -> list[tuple[int, Sequence[Sequence[str]]]]:
    return [
        (top_k, some[start : start + _QUERIES_PER_CHUNK])
        for top_k, some in queries.items()
        for start in range(0, len(some), _QUERIES_PER_CHUNK)
    ]


def _cpu_s() -> float:
    """CPU seconds of this process and of its ended children."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
