"""Rankers: BM25, dense, and hybrid retrieval, each prepared from the queries before the search."""

import functools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raykd.cluster import datasets
from raykd.errors import InputError
from raykd.retrieval import waves
from raykd.retrieval.bm25.searcher import SearchJob, count
from raykd.retrieval.bm25.statistics import analyze_queries
from raykd.retrieval.config import RetrievalConfig
from raykd.retrieval.dense.embeddings import Embedder, embed_shard, embed_texts
from raykd.retrieval.dense.searcher import DenseSearcher
from raykd.retrieval.fusion import HitsReader, fuse
from raykd.retrieval.hits_file import read_block
from raykd.retrieval.query_sets import (
    QuerySet,
    Rows,
    blocks_of,
    distinct_queries,
    distinct_texts,
    write_hits,
    write_rows,
)
from raykd.storage.manifest import Draft, digest_of, write_once
from raykd.storage.remote.task_files import TaskFiles
from raykd.text.analyzer import TermLookup

# Queries that one task embeds.
_QUERIES_PER_TASK = 8192
_ID_COLUMNS = ("query_id", "text", "query")


@dataclass(frozen=True)
class Models:
    """Encoder of a dense search, and directory of the units' embeddings."""

    embedder: Embedder
    folder: Path


@dataclass(frozen=True)
class _Prepared:
    """Prepared queries and shards of one ranker.

    Attributes:
        searcher: search of one shard.
        shards: shards of the corpus.
        num_units: number of units that can be hits.
        top_k: (D,) hits kept per distinct query.
        numbers: for each set, the position of each of its queries among the distinct ones.
        is_empty: (D,) queries without terms or embedding.
        facts: additional counts of this ranker.
    """

    searcher: waves.Searcher
    shards: waves.Shards
    num_units: int
    top_k: NDArray[np.int32]
    numbers: tuple[NDArray[np.int64], ...]
    is_empty: NDArray[np.bool_]
    facts: Mapping[str, float] = field(default_factory=dict)


def write_all_hits(
    unit_shards: Sequence[Path],
    query_sets: Sequence[QuerySet],
    config: RetrievalConfig,
    models: Models | None,
    parts: Path,
    draft: Draft,
    statistics: Path | None = None,
) -> None:
    """Search all shards for all queries, and write `<name of the set>.parquet` into the draft.

    Args:
        unit_shards: files of units.
        query_sets: queries of the tasks.
        config: settings.
        models: encoder of `dense` and `hybrid`.
        parts: directory of intermediate results.
        draft: output directory, and counts over all sets and per set.
        statistics: directory of the forward indexes, kept for later searches; None: they are
            intermediate results.

    Raises:
        InputError: a shard is missing or damaged, or there are no units.
    """
    paths = [path.absolute() for path in unit_shards]
    if config.ranker == "bm25":
        prepared = _prepare_bm25(paths, query_sets, config, parts, statistics)
        _search_prepared(prepared, query_sets, parts, draft)
    elif config.ranker == "dense":
        prepared = _prepare_dense(paths, query_sets, config, models, parts)
        _search_prepared(prepared, query_sets, parts, draft)
    else:
        _search_both(paths, query_sets, config, models, parts, draft, statistics)


def _prepare_bm25(
    paths: Sequence[Path],
    query_sets: Sequence[QuerySet],
    config: RetrievalConfig,
    parts: Path,
    statistics: Path | None,
) -> _Prepared:
    texts = [text for one in query_sets for text in one.table["query"].to_pylist()]
    vocabulary, terms = analyze_queries(texts, config.analyzer)
    searched = distinct_queries(terms, query_sets)
    job = SearchJob(
        statistics or parts,
        statistics is not None,
        TermLookup(vocabulary.terms, config.analyzer),
        len(vocabulary.terms),
        searched.terms,
        digest_of([texts, config.analyzer.model_dump(mode="json")]),
        config.bm25,
    )
    shards, searcher = count(job, paths)
    return _Prepared(
        searcher,
        shards,
        searcher.total.num_units,
        searched.top_k,
        searched.numbers,
        searched.is_empty,
        {"average_length": searcher.total.average_length},
    )


def _prepare_dense(
    paths: Sequence[Path],
    query_sets: Sequence[QuerySet],
    config: RetrievalConfig,
    models: Models | None,
    parts: Path,
) -> _Prepared:
    assert config.dense is not None
    assert models is not None
    settings, embedder = config.dense, models.embedder
    embed = functools.partial(datasets.for_each, num_gpus=embedder.num_gpus)
    folder = models.folder.absolute()
    shards = embed(
        functools.partial(embed_shard, folder=folder, prefix=settings.unit_prefix),
        paths,
        label="embed units",
        shared={"embedder": embedder},
        files=lambda path: TaskFiles((path,), adds=(folder,)),
    )
    num_units = sum(shard.num_units for shard in shards)
    if num_units == 0:
        raise InputError("the corpus has no units; give files with text")
    [unit_id_type] = {shard.unit_id_type for shard in shards if shard.num_units}
    texts, top_k, numbers = distinct_texts(query_sets)
    chunks = [
        texts.slice(start, _QUERIES_PER_TASK) for start in range(0, len(texts), _QUERIES_PER_TASK)
    ]
    embedded = embed(
        functools.partial(embed_texts, folder=parts, prefix=settings.query_prefix),
        chunks,
        label="embed queries",
        unit="parts",
        shared={"embedder": embedder},
        files=lambda chunk: TaskFiles(adds=(parts,)),
    )
    width = max(part.vectors.shape[1] for part in embedded)
    # An empty query has no embedding: its row is zero, and it gets no hits.
    queries = np.zeros((len(texts), width), np.float32)
    is_empty = np.ones(len(texts), np.bool_)
    for number, part in enumerate(embedded):
        rows = part.texts + number * _QUERIES_PER_TASK
        queries[rows] = part.vectors
        is_empty[rows] = False
    return _Prepared(
        DenseSearcher(queries, is_empty, folder, embedder.digest, settings),
        waves.Shards(tuple(paths), tuple(shard.digest for shard in shards), unit_id_type),
        num_units,
        top_k,
        numbers,
        is_empty,
    )


def _search_prepared(
    prepared: _Prepared, query_sets: Sequence[QuerySet], parts: Path, draft: Draft
) -> None:
    num_units = prepared.num_units
    top_k = np.minimum(prepared.top_k, num_units).astype(np.int32)
    blocks = blocks_of(top_k)

    def write(merged: Sequence[Path]) -> list[int]:
        return [
            write_hits(
                draft.directory / f"{query_set.name}.parquet",
                query_set,
                numbers,
                blocks,
                lambda block: read_block(merged[block], 0),
                num_units,
            )
            for query_set, numbers in zip(query_sets, prepared.numbers, strict=True)
        ]

    num_hits = waves.search_shards(prepared.searcher, prepared.shards, top_k, blocks, parts, write)
    num_empty = [int(prepared.is_empty[numbers].sum()) for numbers in prepared.numbers]
    _set_counts(draft, query_sets, num_empty, num_hits)
    draft.counts.update(num_units=num_units, **prepared.facts)


def _search_both(
    paths: Sequence[Path],
    query_sets: Sequence[QuerySet],
    config: RetrievalConfig,
    models: Models | None,
    parts: Path,
    draft: Draft,
    statistics: Path | None,
) -> None:
    """Search with both rankers, each with its own complete output, and fuse their hits."""
    assert models is not None
    candidates = config.fusion.candidates or 0
    sets = [QuerySet(one.name, one.table, max(one.top_k, candidates)) for one in query_sets]
    dense = _prepare_dense(paths, sets, config, models, parts)
    sides = {"bm25": _prepare_bm25(paths, sets, config, parts, statistics), "dense": dense}
    settings = {"sets": {one.name: one.top_k for one in sets}}
    queries = digest_of([[one.table[name].to_pylist() for name in _ID_COLUMNS] for one in sets])
    folders = []
    for name, side in sides.items():
        inputs = {
            "search": side.searcher.digest,
            "shards": digest_of(sorted(side.shards.digests)),
            "queries": queries,
        }
        folders.append(parts / f"side-{name}")
        write = functools.partial(_search_prepared, side, sets, parts / name)
        write_once(folders[-1], f"{name} side of a search", settings, inputs, write)
    num_hits = [
        _write_fused(
            draft.directory / f"{query_set.name}.parquet",
            query_set,
            [folder / f"{query_set.name}.parquet" for folder in folders],
            config.fusion.constant,
            dense.num_units,
            candidates,
        )
        for query_set in query_sets
    ]
    num_empty = [int(dense.is_empty[numbers].sum()) for numbers in dense.numbers]
    _set_counts(draft, query_sets, num_empty, num_hits)
    draft.counts.update(num_units=dense.num_units, **sides["bm25"].facts)


def _write_fused(
    path: Path,
    query_set: QuerySet,
    sides: Sequence[Path],
    constant: float,
    max_hits: int,
    candidates: int,
) -> int:
    rows_per_query = len(sides) * min(max(query_set.top_k, candidates), max_hits)
    query_ids = query_set.table["query_id"].combine_chunks()
    with ExitStack() as stack:
        readers = [stack.enter_context(HitsReader(side)) for side in sides]

        def fused(start: int, stop: int) -> Rows:
            own_ids = query_ids.slice(start, stop - start)
            top_k = np.full(stop - start, min(query_set.top_k, max_hits), np.int32)
            hits = fuse([reader.next_hits(own_ids) for reader in readers], top_k, constant)
            return hits.num_hits, hits.unit_ids.take(pa.array(hits.units)), hits.scores

        return write_rows(path, query_set, fused, readers[0].unit_id_type, rows_per_query)


def _set_counts(
    draft: Draft, query_sets: Sequence[QuerySet], num_empty: Sequence[int], num_hits: Sequence[int]
) -> None:
    counts = [
        {
            "num_queries": query_set.table.num_rows,
            "num_empty_queries": empty,
            "num_fallback_queries": pc.sum(query_set.table["is_fallback"], min_count=0).as_py(),
            "num_hits": hits_of_set,
        }
        for query_set, empty, hits_of_set in zip(query_sets, num_empty, num_hits, strict=True)
    ]
    for name in counts[0]:
        draft.counts[name] = sum(count[name] for count in counts)
    if len(query_sets) > 1:
        for query_set, count in zip(query_sets, counts, strict=True):
            draft.counts |= {f"{query_set.name}.{name}": value for name, value in count.items()}
