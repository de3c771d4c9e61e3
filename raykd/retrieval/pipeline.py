"""Retrieval on Ray: queries of one or more tasks against shards of units."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raykd.cluster import tasks as cluster
from raykd.corpus import custom_units
from raykd.corpus.custom_corpus import write_given
from raykd.corpus.custom_units import AS_FOUND, Reading
from raykd.corpus.pipeline import check_layout, one_of_equal, sources_with_digests
from raykd.corpus.shards import QUARANTINE_FILE, SHARD_BYTES, check_apart
from raykd.corpus.unit_lookup import id_range, ids_between, units_of, write_units_of
from raykd.errors import InputError
from raykd.retrieval.bm25.scoring import Bm25Config
from raykd.retrieval.config import Ranker, RetrievalConfig
from raykd.retrieval.dense.config import DenseConfig
from raykd.retrieval.dense.embeddings import Embedder
from raykd.retrieval.fusion import FusionConfig
from raykd.retrieval.queries import Keywords, read_queries
from raykd.retrieval.query_sets import QuerySet
from raykd.retrieval.rankers import Models, write_all_hits
from raykd.storage.delimited import AS_NAMED, Layout
from raykd.storage.formats import source_digest
from raykd.storage.locations import Location
from raykd.storage.manifest import Draft, Manifest, check_output, digest_of, write_once
from raykd.storage.outputs import output_path
from raykd.storage.schemas import UNITS
from raykd.storage.working_files import beside, discard_parts, sweep_parts
from raykd.text.analyzer import AnalyzerConfig

# The hits of the one set that a run or a search of files has.
HITS_FILE = "hits.parquet"

# What `gather_into` writes.
GATHERED_FILES = "units-*.parquet"


def search(
    unit_shards: Sequence[Path],
    query_sets: Sequence[QuerySet],
    config: RetrievalConfig,
    out: Path,
    inputs: Mapping[str, str],
    embedder: Embedder | None = None,
    embeddings: Path | None = None,
) -> Manifest:
    """Find the best `top_k` units of every query and write them to `out/<name of the set>.parquet`.

    All sets are searched in one pass over the corpus. The hits are the same bytes for any number
    and order of shards, any number of workers, and whatever other sets are searched with them.
    Finished shards are kept beside `out` until the whole search is finished.

    Args:
        unit_shards: Parquet files with `unit_id` (string or int64, the same in all) and `text`.
        query_sets: the queries, and how many units each is to find.
        config: settings; `keywords` only says how the queries were made, and `top_k` is not used.
        out: the output directory.
        inputs: digests of what the shards and the queries were made of.
        embedder: the encoder of `config.dense`, where the ranker reads it.
        embeddings: where the embeddings of units are kept for other searches; None: they are
            removed when the search is finished.

    Returns:
        The manifest, with counts over all sets, and with several sets also those of each, as
        `<name>.num_hits`.

    Raises:
        InputError: a shard is missing or damaged, or there is no unit at all.
    """
    settings = _settings(config)
    settings["top_k"] = {query_set.name: query_set.top_k for query_set in query_sets}
    assert len(settings["top_k"]) == len(query_sets), "two sets have one name"
    sweep_parts(out)
    parts = beside(out, "parts")
    models = _models(embedder, embeddings or beside(out, "embeddings"))
    write = functools.partial(write_all_hits, unit_shards, query_sets, config, models, parts)
    inputs = dict(inputs) | _model_inputs(embedder)
    manifest = write_once(out, "search", settings, inputs, write)
    discard_parts(out)
    return manifest


def search_files(
    corpus: Sequence[Location],
    queries: Location,
    out: Path,
    *,
    top_k: int,
    bm25: Bm25Config | None = None,
    analyzer: AnalyzerConfig | None = None,
    keywords: Keywords = "none",
    shard_bytes: int | None = None,
    ranker: Ranker = "bm25",
    dense: DenseConfig | None = None,
    fusion: FusionConfig | None = None,
    embedder: Embedder | None = None,
    embeddings: Path | None = None,
    reading: Reading = AS_FOUND,
    query_layout: Layout = AS_NAMED,
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
        analyzer: how corpus and queries become terms; None for the defaults.
        keywords: "rake" to search the RAKE phrases of each text, "none" for the text as it is.
        shard_bytes: text of a shard; None for the default. The hits do not depend on it.
        ranker: what is searched: terms, embeddings, or both.
        dense: settings of the embeddings and their index, for "dense" and "hybrid".
        fusion: how "hybrid" joins both; None for the defaults.
        embedder: the encoder of `dense`.
        embeddings: see `search`.
        reading: how the files of the corpus are read.
        query_layout: how a CSV or TSV file of queries is written.

    Raises:
        InputError: a file or column is missing, an id is missing or repeated, a file is damaged,
            more than `MAX_BAD_FRACTION` of the rows cannot be read, there is nothing to search, or
            `out` lies in a directory that is searched, holds what is read or what raykd did not
            write, or cannot be written.
    """
    config = RetrievalConfig.parse(
        {
            "ranker": ranker,
            "top_k": top_k,
            "keywords": keywords if ranker != "dense" else "rake",
            "bm25": bm25 or Bm25Config(),
            "analyzer": analyzer or AnalyzerConfig(),
            "dense": dense,
            "fusion": fusion or FusionConfig(),
        },
        "search",
    )
    if shard_bytes is not None and shard_bytes < 1:
        raise InputError(f"search: shard_bytes is {shard_bytes}; give 1 or more, or leave it out")
    out = output_path(out)
    if embeddings is not None:
        embeddings = output_path(embeddings, "--embeddings")
    check_apart(out, [*corpus, queries])
    check_output(out)
    query_table = read_queries(queries, keywords, query_layout)
    sources = sources_with_digests(corpus, out, exclude=reading.exclude)
    custom_units.check_copies(sources, reading)
    by_digest = one_of_equal(sources)
    check_layout(reading.layout, by_digest)
    inputs = {"corpus": digest_of(list(by_digest)), "queries": source_digest(queries)}
    inputs |= _model_inputs(embedder)
    settings = _settings(config) | {"top_k": top_k, **reading.settings()}
    settings["query_columns"] = query_layout.columns
    models = _models(embedder, embeddings or beside(out, "embeddings"))

    def write(draft: Draft) -> None:
        units = beside(out, "units")
        written = write_given(by_digest, units, shard_bytes or SHARD_BYTES, reading)
        pq.write_table(custom_units.quarantine(written), draft.directory / QUARANTINE_FILE)
        query_set = QuerySet("hits", query_table, top_k)
        shards = custom_units.unit_files(written)
        write_all_hits(shards, [query_set], config, models, beside(out, "parts"), draft)
        draft.counts.update(custom_units.dropped(written))
        draft.counts["num_duplicate_files"] = len(sources) - len(by_digest)

    sweep_parts(out)
    manifest = write_once(out, "search files", settings, inputs, write)
    discard_parts(out)
    return manifest


def gather(unit_shards: Sequence[Path], unit_ids: pa.Array) -> pa.Table:
    """The units of these ids, one read a shard.

    Args:
        unit_shards: files of `schemas.UNITS`.
        unit_ids: ids to find; those that no shard holds are left out.

    Returns:
        A table of `schemas.UNITS`, in the order of the shards.
    """
    found = cluster.for_each(units_of, _wanted(unit_shards, unit_ids), label="gather")
    return pa.concat_tables([UNITS.empty_table(), *found])


def gather_into(folder: Path, unit_shards: Sequence[Path], unit_ids: pa.ChunkedArray) -> None:
    """Write what `gather` finds to a folder, `GATHERED_FILES`, to be gathered from in its turn.

    So that one read of the shards serves many, and the texts of all never stand in memory.
    """
    wanted = [
        (*item, folder / f"units-{number:05d}.parquet")
        for number, item in enumerate(_wanted(unit_shards, unit_ids))
    ]
    cluster.for_each(write_units_of, wanted, label="gather")


def _wanted(
    unit_shards: Sequence[Path], unit_ids: pa.Array | pa.ChunkedArray
) -> list[tuple[Path, pa.Array]]:
    """The shards that may hold any of the ids, each with those that it may hold, ascending."""
    ordered = unit_ids.unique()
    ordered = ordered.take(pc.sort_indices(ordered))
    wanted = [(path, ids_between(ordered, *id_range(path))) for path in unit_shards]
    return [item for item in wanted if len(item[1])]


def _settings(config: RetrievalConfig) -> dict[str, Any]:
    """What decides the hits besides the inputs: the model stands there by its digest."""
    return config.model_dump(mode="json", exclude={"top_k": True, "dense": {"model"}})


def _models(embedder: Embedder | None, folder: Path) -> Models | None:
    return Models(embedder, folder) if embedder else None


def _model_inputs(embedder: Embedder | None) -> dict[str, str]:
    return {"model": embedder.digest} if embedder else {}
