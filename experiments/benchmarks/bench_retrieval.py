"""Retrieval on one core, compared with other search engines.

    python experiments/benchmarks/bench_retrieval.py [PART ...]

Prints JSON. All engines run in this process, on the same units and terms, alternating over several
rounds, and the best round is reported: temporary load slows all of them. Times are CPU seconds, so
that other load on the machine has less effect. `k_eff` describes how good a threshold is: it is the
k_eff-th best score among `seed_units` other units.
"""

import argparse
import functools
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from enlarged_corpus import METHOD, enlarged_units
from floors import held_against
from numpy.typing import NDArray
from retrieval_peers import Bm25s, Tantivy, per_unit, rank_bm25_seconds, tantivy_build_seconds

from raykd.retrieval.bm25 import index, scoring
from raykd.retrieval.bm25.forward_index import ForwardIndex
from raykd.retrieval.bm25.index import ShardIndex
from raykd.retrieval.bm25.scoring import Bm25Config
from raykd.retrieval.bm25.search import BlockHits, search_shard
from raykd.retrieval.bm25.statistics import QueryTerms, analyze_queries
from raykd.retrieval.hits import RankedHits, merge
from raykd.retrieval.queries import make_queries
from raykd.text.analyzer import TermLookup

TASKS = {"rte": "rte_train", "sst2": "sst2_train", "cola": "cola_train"}
BM25 = Bm25Config()


@dataclass
class Bench:
    """Inputs of all measurements. The first `shard_units` units are the measured shard."""

    texts: pa.StringArray
    terms: tuple[str, ...]
    queries: dict[str, QueryTerms]
    shard_units: int
    num_peer_queries: int
    rounds: int

    def __post_init__(self) -> None:
        self.lookup = TermLookup(self.terms)
        start = time.process_time()
        _, self.total = ForwardIndex.of(self._batches(self.texts), self.lookup, len(self.terms))
        self.statistics_s = time.process_time() - start
        self.idf = scoring.idf(self.total.df, self.total.num_units, BM25)
        self.shard = self.index_of(0, self.shard_units)
        self.seeds = {name: self._hits(self._seed_index(), name) for name in self.queries}

    def _batches(self, texts: pa.StringArray) -> list[pa.StringArray]:
        return [texts.slice(start, 32_768) for start in range(0, len(texts), 32_768)]

    def index_of(self, first: int, last: int) -> ShardIndex:
        """Index the units [first, last) as a shard."""
        names = unit_ids(0, first, last)
        batches = self._batches(self.texts.slice(first, last - first))
        known, _ = ForwardIndex.of(batches, self.lookup, len(self.terms))
        return index.build(known, names, self.total, self.idf, BM25)

    def _seed_index(self) -> ShardIndex:
        if not hasattr(self, "_seed"):
            self._seed = self.index_of(self.shard_units, len(self.texts))
        return self._seed

    def _hits(self, shard: ShardIndex, name: str) -> BlockHits:
        return self.run(shard, self.queries[name], 1000, None)

    def run(
        self, shard: ShardIndex, queries: QueryTerms, k: int, floors: NDArray[np.float64] | None
    ) -> BlockHits:
        """Search all queries, with or without thresholds."""
        num_queries = queries.num_queries
        thresholds = np.zeros(num_queries) if floors is None else floors
        return search_shard(
            shard, queries, np.full(num_queries, k, np.int32), thresholds, (0, num_queries)
        )

    def floors(self, hits: BlockHits, k_eff: int) -> NDArray[np.float64]:
        """Return the k_eff-th best score per query, 0 with fewer hits."""
        ends = np.cumsum(hits.num_hits)
        starts = ends - hits.num_hits
        has = hits.num_hits >= k_eff
        speedups = np.zeros(len(ends))
        speedups[has] = hits.scores[starts[has] + k_eff - 1]
        return speedups


# Query set, measured variant, and k.
Key = tuple[str, str, int]


class Rounds:
    """Measurements in alternation, so that temporary load affects all sides equally."""

    def __init__(self) -> None:
        self._seconds_of: dict[Key, Callable[[], float]] = {}
        self._num_queries: dict[Key, int] = {}

    def add(self, key: Key, num_queries: int, seconds_of: Callable[[], float]) -> None:
        """Add work for a number of queries; it returns its CPU seconds."""
        self._seconds_of[key], self._num_queries[key] = seconds_of, num_queries

    def best_us(self, num_rounds: int) -> dict[Key, float]:
        """Microseconds per query, best of all rounds."""
        best = dict.fromkeys(self._seconds_of, float("inf"))
        for _ in range(num_rounds):
            for key, seconds_of in self._seconds_of.items():
                best[key] = min(best[key], seconds_of() / self._num_queries[key] * 1e6)
        return {key: round(value, 1) for key, value in best.items()}


def unit_ids(source: int, first: int, last: int) -> pa.Array:
    """Make ids like those of ingested units: a digest of the source, and positions in it."""
    return pa.array([f"{source:016x}-{unit:012d}-{0:08d}" for unit in range(first, last)])


def seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def best_of(repeats: int, work: Callable[[], Any]) -> tuple[float, Any]:
    best, result = float("inf"), None
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        best = min(best, time.process_time() - start)
    return best, result


def first_of(queries: QueryTerms, number: int) -> QueryTerms:
    end = queries.offsets[number]
    return QueryTerms(queries.offsets[: number + 1], queries.term_ids[:end], queries.counts[:end])


SEEDED = {f"seeded, k_eff={k_eff}": k_eff for k_eff in (1, 3, 10, 30, 100, 300)}
PEERS = ("bm25s", "tantivy")


def add_peers(bench: Bench, rounds: Rounds) -> None:
    stream = bench.lookup.stream(bench.texts.slice(0, bench.shard_units))
    units = per_unit(stream)
    engines = [Bm25s(units, len(bench.terms)), Tantivy(units)]
    del units
    assert tuple(engine.name for engine in engines) == PEERS
    for name, queries in bench.queries.items():
        chosen = first_of(queries, min(bench.num_peer_queries, queries.num_queries))
        for engine in engines:
            for k in (10, 100, 1000):
                work = functools.partial(engine.seconds, chosen, k)
                rounds.add((name, engine.name, k), chosen.num_queries, work)


def add_own(bench: Bench, rounds: Rounds) -> dict[Key, float]:
    """Add searches of the measured shard and merges of their hits; return hits per query."""
    # Thresholds from one shard of the same size, as for the second shard of a job.
    second = bench.index_of(bench.shard_units, 2 * bench.shard_units)
    num_hits: dict[Key, float] = {}
    for name, queries in bench.queries.items():
        before = bench.run(second, queries, 1000, None)
        floors_of: dict[tuple[str, int], NDArray[np.float64] | None] = {
            ("first shard", k): None for k in (10, 100, 1000)
        }
        floors_of |= {("second shard", k): bench.floors(before, k) for k in (10, 100, 1000)}
        for side, k_eff in SEEDED.items():
            floors = bench.floors(bench.seeds[name], k_eff)
            floors_of |= {(side, 10): floors, (side, 1000): floors}
        every = bench.run(bench.shard, queries, 1000, None)
        check_against_brute_force(bench, name, every)
        for (side, k), floors in floors_of.items():
            search_all = functools.partial(bench.run, bench.shard, queries, k, floors)
            hits = search_all()
            if side in SEEDED and k == 1000:
                assert floors is not None
                check_prefix(hits, every, floors)
            num_hits[name, side, k] = round(float(hits.num_hits.mean()), 2)
            num_queries = queries.num_queries
            rounds.add((name, side, k), num_queries, functools.partial(seconds, search_all))
            merge = functools.partial(seconds, merge_of(bench, hits, k))
            # Per query and per shard of the eight merged ones.
            rounds.add((name, f"{side}, merge", k), num_queries * 8, merge)
    return num_hits


def merge_of(bench: Bench, hits: BlockHits, k: int) -> Callable[[], Any]:
    """Merge the hits of the shard with those of seven shards of other sources."""
    num_units = bench.shard.num_units
    shards = [
        RankedHits.of_shard(
            hits.num_hits, hits.units, hits.scores, unit_ids(source, 0, num_units), ranks
        )
        for source, ranks in enumerate([bench.shard.id_rank] * 8)
    ]
    top_k = np.full(len(hits.num_hits), k, np.int32)
    return lambda: merge(shards, top_k)


def check_prefix(hits: BlockHits, every: BlockHits, floors: NDArray[np.float64]) -> None:
    """Check that seeded hits are the hits of an unseeded search that reach the threshold."""
    numbers = np.repeat(np.arange(len(floors)), every.num_hits)
    reached = every.scores >= floors[numbers]
    assert np.array_equal(hits.units, every.units[reached])
    assert np.array_equal(hits.scores, every.scores[reached])


def check_against_brute_force(bench: Bench, name: str, hits: BlockHits, sample: int = 5) -> None:
    """Compute the scores of all units in float64 by the formula; ids break ties."""
    stream = bench.lookup.stream(bench.texts.slice(0, bench.shard_units))
    unit_of = np.repeat(np.arange(bench.shard_units), np.diff(stream.offsets))
    norm = scoring.length_norm(stream.lengths, bench.total.average_length, BM25)
    queries = bench.queries[name]
    ends = np.cumsum(hits.num_hits)
    for query in range(sample):
        scores = np.zeros(bench.shard_units)
        for i in range(queries.offsets[query], queries.offsets[query + 1]):
            term = queries.term_ids[i]
            tf = np.bincount(unit_of[stream.term_ids == term], minlength=bench.shard_units)
            held = tf > 0
            counted = bench.idf[term] * (tf[held] / (tf[held] + norm[held]))
            scores[held] += queries.counts[i] * counted
        order = np.lexsort((np.arange(bench.shard_units), -scores))[: hits.num_hits[query]]
        first = ends[query] - hits.num_hits[query]
        assert np.array_equal(hits.units[first : ends[query]], order)
        assert np.array_equal(hits.scores[first : ends[query]], scores[order])


def measure_build(bench: Bench) -> dict[str, float]:
    """Measure the time and memory of building an index from Arrow text."""
    texts = bench.texts.slice(0, bench.shard_units)
    text_mb = (texts.nbytes - 4 * len(texts)) / 1e6

    def searchable() -> ShardIndex:
        shard = bench.index_of(0, bench.shard_units)
        for superblock in range(shard.num_superblocks):
            shard.maxima(superblock)
        return shard

    names_s, _ = best_of(2, lambda: unit_ids(0, 0, bench.shard_units))
    seconds, shard = best_of(3, searchable)
    analyse_s, _ = best_of(3, lambda: bench.lookup.stream(texts))
    sample = texts.slice(0, bench.shard_units // 4)
    tantivy_s = tantivy_build_seconds(sample) * 4
    plain = bench.index_of(0, bench.shard_units)
    for superblock in range(plain.num_superblocks):
        plain.postings(superblock)
    own = text_mb / (seconds - names_s)
    return {
        "text_mb": round(text_mb, 1),
        "own_mb_s": round(own, 1),
        "after_analysis_mb_s": round(text_mb / (seconds - names_s - analyse_s), 1),
        "statistics_mb_s": round((bench.texts.nbytes / 1e6) / bench.statistics_s, 1),
        "tantivy_mb_s": round(text_mb / tantivy_s, 1),
        "times_tantivy": round(own * tantivy_s / text_mb, 2),
        "bytes_per_unit": round(shard.nbytes / bench.shard_units, 1),
        "bytes_per_unit_unseeded": round(plain.nbytes / bench.shard_units, 1),
    }


def measure_rank_bm25(bench: Bench, num_units: int = 32_768, num_queries: int = 3) -> Any:
    """Measure rank-bm25 on a part of the shard that is feasible."""
    units = per_unit(bench.lookup.stream(bench.texts.slice(0, num_units)))
    queries = first_of(bench.queries["rte"], num_queries)
    theirs = rank_bm25_seconds(units, queries) / num_queries * 1e6
    shard = bench.index_of(0, num_units)
    every = bench.queries["rte"]
    bench.run(shard, every, 10, None)
    seconds, _ = best_of(bench.rounds, lambda: bench.run(shard, every, 10, None))
    own = seconds / every.num_queries * 1e6
    return {
        "units": num_units,
        "rank_bm25_us": round(theirs),
        "own_first_shard_us": round(own, 1),
        "times": round(theirs / own),
    }


def ratios(bench: Bench, us: dict[Key, float]) -> dict[str, float]:
    """Speedup over the faster peer, for every figure with a floor."""
    speedups: dict[str, float] = {}
    for name in bench.queries:

        def times(side: str, k: int, *, merged: bool, name: str = name) -> float:
            own = us[name, side, k] + (us[name, f"{side}, merge", k] if merged else 0)
            return min(us[name, peer, k] for peer in PEERS) / own

        for k in (10, 1000):
            speedups[f"{name}: first shard, k={k}"] = times("first shard", k, merged=False)
        one, ten = "seeded, k_eff=1", "seeded, k_eff=10"
        speedups[f"{name}: {one}, k=10"] = times(one, 10, merged=False)
        speedups[f"{name}: {ten}, k=1000, merged"] = times(ten, 1000, merged=True)
        for k in (10, 100, 1000):
            speedups[f"{name}: second shard, k={k}"] = times("second shard", k, merged=True)
    return {name: round(value, 2) for name, value in speedups.items()}


def prepare(arguments: argparse.Namespace) -> Bench:
    texts = enlarged_units(arguments.corpus, 1 if arguments.quick else 4)
    num_units = 393_216 if arguments.quick else 1_110_144
    texts = texts.slice(0, min(num_units, len(texts)))
    sentences = {}
    for name, file in TASKS.items():
        table = pq.read_table(arguments.tasks / f"{file}.parquet")
        columns = [column for column in table.column_names if column.startswith("sentence")]
        rows = [text for column in columns for text in table[column].to_pylist() if text.strip()]
        sentences[name] = list(dict.fromkeys(rows))
        random.Random(5).shuffle(sentences[name])
    query_texts = {
        name: make_queries(rows, "rake")["query"].to_pylist() for name, rows in sentences.items()
    }
    # The vocabulary is that of all sentences; only some of the queries are timed.
    vocabulary, _ = analyze_queries(
        [query for queries in query_texts.values() for query in queries]
    )
    lookup = {term: number for number, term in enumerate(vocabulary.terms)}
    queries = {
        name: renumbered(rows[: arguments.queries], lookup) for name, rows in query_texts.items()
    }
    return Bench(
        texts=texts,
        terms=vocabulary.terms,
        queries=queries,
        shard_units=131_072 if arguments.quick else 262_144,
        num_peer_queries=100 if arguments.quick else 300,
        rounds=arguments.rounds,
    )


def renumbered(texts: list[str], lookup: dict[str, int]) -> QueryTerms:
    vocabulary, queries = analyze_queries(texts)
    numbers = np.array([lookup[term] for term in vocabulary.terms], np.int32)
    return QueryTerms(queries.offsets, numbers[queries.term_ids], queries.counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["search", "build", "rank_bm25"])
    parser.add_argument("--corpus", type=Path, required=True, help="a table: text, source")
    parser.add_argument("--tasks", type=Path, required=True, help="folder of GLUE tables")
    parser.add_argument("--quick", action="store_true", help="fewer units and peer queries")
    parser.add_argument("--queries", type=int, default=2000, help="timed queries per task")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    bench = prepare(arguments)
    report: dict[str, Any] = {
        "corpus": {
            "units": len(bench.texts),
            "bytes": bench.texts.nbytes - 4 * len(bench.texts),
            "method": METHOD,
            "terms_per_unit": round(bench.total.average_length, 1),
            "vocabulary": len(bench.terms),
        },
        "shard_units": bench.shard_units,
        "seed_units": len(bench.texts) - bench.shard_units,
        "terms_per_query": {
            name: round(len(queries.term_ids) / queries.num_queries, 1)
            for name, queries in bench.queries.items()
        },
    }
    if "search" in arguments.parts:
        rounds = Rounds()
        add_peers(bench, rounds)
        num_hits = add_own(bench, rounds)
        us = rounds.best_us(arguments.rounds)
        report["us_per_query"] = {
            f"{name}: {side}, k={k}": us[name, side, k] for name, side, k in us
        }
        report["hits_per_query"] = {": ".join(map(str, key)): n for key, n in num_hits.items()}
        report["k_eff_of_second_shard"] = {
            k: round(k * len(bench.texts) / bench.shard_units - k) for k in (10, 100, 1000)
        }
        report["times_the_faster_peer"] = ratios(bench, us)
    if "build" in arguments.parts:
        report["build"] = measure_build(bench)
    if "rank_bm25" in arguments.parts:
        report["rank_bm25"] = measure_rank_bm25(bench)
    if not arguments.quick:
        report |= held_against("retrieval", figures_of(report))
    print(json.dumps(report, indent=1))


def figures_of(report: dict[str, Any]) -> dict[str, float]:
    """Figures with a floor, by the names of the floors."""
    figures = dict(report.get("times_the_faster_peer", {}))
    if build := report.get("build"):
        figures["build, MB/s"] = build["own_mb_s"]
        figures["build, times tantivy"] = build["times_tantivy"]
        figures["units per 300 bytes"] = round(300 / build["bytes_per_unit"], 3)
    if "rank_bm25" in report:
        figures["times rank-bm25"] = report["rank_bm25"]["times"]
    return figures


if __name__ == "__main__":
    main()
