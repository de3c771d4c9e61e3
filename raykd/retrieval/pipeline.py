"""Retrieval on Ray: two passes over the shards (statistics, search), then one merge."""

import functools
import operator
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from raykd import cluster, progress
from raykd.corpus.pipeline import one_of_equal, sources_with_digests
from raykd.corpus.shards import QUARANTINE_FILE, SHARD_BYTES, Part, check_apart, plan_shards
from raykd.errors import InputError
from raykd.manifest import Draft, Manifest, digest_of, digest_of_file, write_once
from raykd.retrieval import given_units, index, statistics, topk
from raykd.retrieval import search as shard_search
from raykd.retrieval.queries import Keywords, read_queries
from raykd.retrieval.scoring import Bm25Config
from raykd.retrieval.search import RetrievalConfig, query_blocks
from raykd.retrieval.statistics import QueryTerms, Statistics, Vocabulary, analyse_queries
from raykd.schemas import UNITS, hits_schema
from raykd.tables import explained, source_digest

HITS_FILE = "hits.parquet"

_READ_ROWS = 32_768
_DF_FILE = "df.npy"
_PARTIAL_FILE = "hits.arrow"
# With the rows of a block this bounds the memory of the merge, whatever the number of shards.
_SHARDS_MERGED_AT_ONCE = 8


@dataclass(frozen=True)
class _Shard:
    number: int
    units: Path


@dataclass(frozen=True)
class _Job:
    """What every task of a search must know."""

    parts: Path
    vocabulary: Vocabulary
    queries: QueryTerms
    digest: str
    config: RetrievalConfig


def search(
    unit_shards: Sequence[Path],
    queries: pa.Table,
    config: RetrievalConfig,
    out: Path,
    inputs: Mapping[str, str],
) -> Manifest:
    """Find the best `top_k` units of every query and write them to `out/hits.parquet`.

    The hits are the same bytes for any number and order of shards and any number of workers.
    Finished shards are kept beside `out` until the whole search is finished.

    Args:
        unit_shards: Parquet files with `unit_id` (string or int64, the same in all) and `text`.
        queries: columns as in `schemas.QUERIES`; `query_id` may also be int64.
        config: settings; `keywords` only says how the queries were made.
        out: the output directory.
        inputs: digests of what the shards and the queries were made of.

    Raises:
        InputError: a shard is missing or damaged, or there is no unit at all.
    """
    write = functools.partial(_write_hits, unit_shards, queries, config, _beside(out, "parts"))
    manifest = write_once(out, "search", config.model_dump(mode="json"), inputs, write)
    shutil.rmtree(_beside(out, "parts"), ignore_errors=True)
    return manifest


def search_files(
    corpus: Sequence[Path],
    queries: Path,
    out: Path,
    *,
    top_k: int,
    bm25: Bm25Config | None = None,
    keywords: Keywords = "none",
) -> Manifest:
    """Search any corpus with any queries; writes `out/hits.parquet` and `out/quarantine.parquet`.

    Args:
        corpus: files and directories of rows with `text`, and optionally `unit_id` or `doc_id`
            (string or int64, kept) and `title` (searched with the text). Every row is one unit.
            Files of equal content are read once, where rows have no ids.
        queries: a table with `query_id` (string or int64) and `text`.
        out: the output directory.
        top_k: hits wanted a query.
        bm25: parameters of BM25; None for the defaults.
        keywords: "rake" to search the RAKE phrases of each text, "none" for the text as it is.

    Raises:
        InputError: a file or column is missing, an id is missing or repeated, a file is damaged,
            more than `MAX_BAD_FRACTION` of the rows cannot be read, there is nothing to search, or
            `out` lies in a directory that is searched.
    """
    config = RetrievalConfig.parse(
        {"top_k": top_k, "keywords": keywords, "bm25": bm25 or Bm25Config()}, "search"
    )
    check_apart(out, corpus)
    query_table = read_queries(queries, keywords)
    sources = sources_with_digests(corpus)
    given_units.check_copies(sources)
    by_digest = one_of_equal(sources)
    inputs = {"corpus": digest_of(list(by_digest)), "queries": source_digest(queries)}
    settings = config.model_dump(mode="json")

    def write(draft: Draft) -> None:
        written = _write_given(by_digest, _beside(out, "units"))
        pq.write_table(given_units.quarantine(written), draft.directory / QUARANTINE_FILE)
        shards = [path / given_units.UNITS_FILE for path in written]
        _write_hits(shards, query_table, config, _beside(out, "parts"), draft)

    manifest = write_once(out, "search files", settings, inputs, write)
    for name in ("parts", "units"):
        shutil.rmtree(_beside(out, name), ignore_errors=True)
    return manifest


def gather(unit_shards: Sequence[Path], unit_ids: pa.Array) -> pa.Table:
    """The units of these ids, one read a shard.

    Args:
        unit_shards: files of `schemas.UNITS`.
        unit_ids: ids to find; those that no shard holds are left out.

    Returns:
        A table of `schemas.UNITS`, in the order of the shards.
    """
    found = cluster.for_each(
        _units_of, list(unit_shards), label="gather", shared={"unit_ids": unit_ids}
    )
    return pa.concat_tables([UNITS.empty_table(), *found])


def _beside(out: Path, name: str) -> Path:
    """Where the parts of an unfinished output are kept."""
    out = out.absolute()
    return out.with_name(f".{out.name}.{name}")


def _digest_of(path: Path) -> str:
    with explained(path):
        return digest_of_file(path)


def _units_of(path: Path, *, unit_ids: pa.Array) -> pa.Table:
    with pq.ParquetFile(path) as file:
        batches = [
            batch.filter(pc.is_in(batch.column("unit_id"), value_set=unit_ids))
            for batch in file.iter_batches(_READ_ROWS, columns=UNITS.names)
        ]
    return pa.Table.from_batches(batches, UNITS)


def _write_given(by_digest: Mapping[str, Path], out: Path) -> list[Path]:
    shards = plan_shards(by_digest, SHARD_BYTES)
    written = [out / f"shard-{number:05d}" for number in range(len(shards))]
    cluster.for_each(_write_given_shard, list(zip(shards, written, strict=True)), label="read")
    given_units.check(shards, written)
    hashes = cluster.for_each(given_units.id_hashes, written, label="check ids")
    given_units.check_ids(hashes, shards, written)
    return written


def _write_given_shard(shard: tuple[tuple[Part, ...], Path]) -> None:
    given_units.write_shard(*shard)


def _write_hits(
    unit_shards: Sequence[Path],
    queries: pa.Table,
    config: RetrievalConfig,
    parts: Path,
    draft: Draft,
) -> None:
    texts = queries["query"].to_pylist()
    vocabulary, query_terms = analyse_queries(texts)
    job = _Job(parts, vocabulary, query_terms, digest_of(texts), config)
    shards = [_Shard(number, path.absolute()) for number, path in enumerate(unit_shards)]
    counted = cluster.for_each(_count_shard, shards, label="statistics", shared={"job": job})
    total = functools.reduce(operator.add, counted, Statistics.empty(len(vocabulary.terms)))
    if total.num_units == 0:
        raise InputError("the corpus holds no unit; give files with text")
    partial_hits = cluster.for_each(
        _search_shard, shards, label="search", shared={"job": job, "total": total, "idf": total.idf}
    )
    draft.counts.update(
        num_queries=query_terms.num_queries,
        num_empty_queries=query_terms.num_empty,
        num_fallback_queries=pc.sum(queries["is_fallback"], min_count=0).as_py(),
        num_hits=_merge(partial_hits, queries, config.top_k, draft.directory / HITS_FILE),
        num_units=total.num_units,
        average_length=total.average_length,
    )


def _count_shard(shard: _Shard, *, job: _Job) -> Statistics:
    def write(draft: Draft) -> None:
        with explained(shard.units), pq.ParquetFile(shard.units) as file:
            batches = file.iter_batches(_READ_ROWS, columns=["text"])
            counted = statistics.of_units(
                (batch.column("text").to_pylist() for batch in batches), job.vocabulary
            )
        np.save(draft.directory / _DF_FILE, counted.df)
        draft.counts.update(num_units=counted.num_units, total_length=counted.total_length)

    inputs = {"units": _digest_of(shard.units), "queries": job.digest}
    out = job.parts / f"statistics-{shard.number:05d}"
    counts = write_once(out, "statistics", {}, inputs, write).counts
    df = np.load(out / _DF_FILE, allow_pickle=False)
    return Statistics(int(counts["num_units"]), int(counts["total_length"]), df)


def _search_shard(shard: _Shard, *, job: _Job, total: Statistics, idf: NDArray[np.float64]) -> Path:
    """Write the shard's own best hits, one record batch a block of queries."""

    def write(draft: Draft) -> None:
        with explained(shard.units), pq.ParquetFile(shard.units) as file:
            batches = file.iter_batches(_READ_ROWS, columns=["unit_id", "text"])
            shard_index = index.build(
                batches,
                file.schema_arrow.field("unit_id").type,
                job.vocabulary,
                total,
                idf,
                job.config.bm25,
            )
        schema = topk.partial_schema(shard_index.unit_ids.type)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        path = draft.directory / _PARTIAL_FILE
        top_k = job.config.top_k
        with pa.ipc.new_file(path, schema, options=options) as writer:
            for block in query_blocks(job.queries.num_queries, top_k):
                writer.write_batch(shard_search.search(shard_index, job.queries, top_k, block))

    settings = job.config.model_dump(mode="json", include={"top_k", "bm25"})
    corpus = [total.num_units, total.total_length, xxh3_128_hexdigest(total.df.tobytes())]
    inputs = {
        "units": _digest_of(shard.units),
        "queries": job.digest,
        "statistics": digest_of(corpus),
    }
    out = job.parts / f"hits-{shard.number:05d}"
    write_once(out, "shard search", settings, inputs, write)
    return out / _PARTIAL_FILE


def _merge(partial_hits: Sequence[Path], queries: pa.Table, top_k: int, path: Path) -> int:
    """Merge the hits of all shards, a block of queries at a time; returns the number of hits."""
    query_ids = queries["query_id"].combine_chunks()
    num_blocks = len(query_blocks(len(query_ids), top_k))
    empty = _read_block(partial_hits[0], None)
    schema = hits_schema(query_ids.type, empty.schema.field("unit_id").type)
    num_hits = 0
    num_parts = num_blocks * len(partial_hits)
    with (
        pq.ParquetWriter(path, schema, compression="zstd") as writer,
        progress.track("merge", num_parts, "blocks of hits") as advance,
    ):
        for block in range(num_blocks):
            merged = empty
            for start in range(0, len(partial_hits), _SHARDS_MERGED_AT_ONCE):
                group = partial_hits[start : start + _SHARDS_MERGED_AT_ONCE]
                parts = [merged, *(_read_block(part, block) for part in group)]
                merged = topk.merge(pa.concat_tables(parts), top_k)
                advance(len(group))
            writer.write_table(topk.ranked(merged, query_ids))
            num_hits += merged.num_rows
    return num_hits


def _read_block(path: Path, block: int | None) -> pa.Table:
    """One shard's hits of one block of queries; None: only their columns."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
        batches = [] if block is None else [reader.get_batch(block)]
        return pa.Table.from_batches(batches, reader.schema)
