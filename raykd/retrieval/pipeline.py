"""Retrieval on Ray: search of shards of units for the queries of one or more tasks."""

import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raykd import progress
from raykd.cluster import datasets
from raykd.corpus.custom import units as custom_units
from raykd.corpus.custom.corpus import write_custom_units
from raykd.corpus.custom.units import AS_FOUND, Reading
from raykd.corpus.pipeline import check_layout, one_of_equal, sources_with_digests
from raykd.corpus.shards import QUARANTINE_FILE, SHARD_BYTES, check_apart
from raykd.corpus.unit_lookup import id_range, ids_between, units_of, write_units_of
from raykd.errors import InputError
from raykd.retrieval.bm25.scoring import Bm25Config
from raykd.retrieval.config import Ranker, RetrievalConfig
from raykd.retrieval.dense.config import DenseConfig
from raykd.retrieval.dense.embeddings import Embedder
from raykd.retrieval.fusion import FusionConfig
from raykd.retrieval.kept import Answers, Kept, write_known_and_new
from raykd.retrieval.queries import Keywords, read_queries
from raykd.retrieval.query_sets import QuerySet
from raykd.retrieval.rankers import Models, write_all_hits
from raykd.storage.delimited import AS_NAMED, Layout
from raykd.storage.formats import source_digest
from raykd.storage.locations import Location
from raykd.storage.manifest import (
    Draft,
    Manifest,
    check_output,
    digest_of,
    write_once,
    write_unless_kept,
)
from raykd.storage.outputs import output_path
from raykd.storage.remote.task_files import TaskFiles
from raykd.storage.schemas import UNITS
from raykd.storage.working_files import discard_parts, sweep_parts, working_directory
from raykd.text.analyzer import AnalyzerConfig

# The hits of the one set that a run or a search of files has.
HITS_FILE = "hits.parquet"

# What `gather_into` writes.
GATHERED_FILES = "units-*.parquet"


def search_corpus(
    unit_shards: Sequence[Path],
    query_sets: Sequence[QuerySet],
    config: RetrievalConfig,
    out: Path,
    inputs: Mapping[str, str],
    embedder: Embedder | None = None,
    embeddings: Path | None = None,
    keep: Path | None = None,
) -> Manifest:
    """Find the best `top_k` units of every query; write them to `out/<name of the set>.parquet`.

    All sets are searched in one pass over the corpus. The bytes of the hits do not depend on the
    number and order of shards, the number of workers, or the other sets. Finished shards are kept
    next to `out` until the whole search is complete.

    Args:
        unit_shards: Parquet files with `unit_id` (string or int64, the same in all) and `text`.
        query_sets: queries, and hits kept per query.
        config: settings; `keywords` only says how the queries were made, and `top_k` is not used.
        out: output directory.
        inputs: digests of the inputs of shards and queries.
        embedder: encoder of `config.dense`, where the ranker reads it.
        embeddings: where the embeddings of units are kept for other searches; None: they are
            removed when the search is finished.
        keep: directory of results that later searches use again (see `kept`); None: none are kept.
            Hits are kept of one set, if `inputs` has the digest `units`.

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
    parts = working_directory(out, "parts")
    models = _models(embedder, embeddings or working_directory(out, "embeddings"))
    units = {name: digest for name, digest in inputs.items() if name == "units"}
    kept = Kept(keep.absolute()) if keep else None
    job = _KeepingSearch(config, models, parts, kept)

    def write(draft: Draft) -> None:
        job.write_hits(unit_shards, query_sets, draft, settings, units)

    inputs = dict(inputs) | _model_inputs(embedder)
    manifest, was_complete = write_unless_kept(out, "search", settings, inputs, write)
    # A search verifies what it uses.
    if kept is not None and was_complete:
        kept.remove_damaged()
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
    keep: Path | None = None,
    reading: Reading = AS_FOUND,
    query_layout: Layout = AS_NAMED,
) -> Manifest:
    """Search any corpus for any queries; write `out/hits.parquet` and `out/quarantine.parquet`.

    Args:
        corpus: files and directories of rows with `text`, and optionally `unit_id` or `doc_id`
            (string or int64, kept) and `title` (searched with the text). Every row is one unit.
            Files of equal content are read once if their rows have no ids.
        queries: table with `query_id` (string or int64) and `text`.
        out: output directory.
        top_k: hits kept per query.
        bm25: parameters of BM25; None: the defaults.
        analyzer: settings of the analyzer; None: the defaults.
        keywords: "rake" to search the RAKE phrases of each text, "none" for the whole text.
        shard_bytes: bytes of text per shard; None: the default. The hits do not depend on it.
        ranker: what is searched: terms, embeddings, or both.
        dense: settings of the embeddings and their index, for "dense" and "hybrid".
        fusion: rank fusion of "hybrid"; None: the defaults.
        embedder: encoder of `dense`.
        embeddings: see `search_corpus`.
        keep: directory of units and other results that later searches use again (see `kept`); it
            is for one corpus, which may grow. None: none are kept.
        reading: format options of the corpus files.
        query_layout: format options of a CSV or TSV file of queries.

    Raises:
        InputError: a file or column is missing, an id is missing or repeated, a file is damaged,
            more than `MAX_BAD_FRACTION` of the rows cannot be read, there is nothing to search, or
            `out` is inside an input directory, contains an input or files that raykd did not write,
            or cannot be written.
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
    kept = None
    if keep is not None:
        kept = Kept(output_path(keep, "--keep"))
        check_apart(kept.folder, [*corpus, queries])
        if kept.folder.is_relative_to(out) or out.is_relative_to(kept.folder):
            raise InputError(
                f"--keep {keep}: is inside --out {out}, or contains it; keep it elsewhere"
            )
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
    models = _models(embedder, embeddings or working_directory(out, "embeddings"))

    job = _KeepingSearch(config, models, working_directory(out, "parts"), kept)

    def write(draft: Draft) -> None:
        units = kept.units if kept else working_directory(out, "units")
        written = write_custom_units(by_digest, units, shard_bytes or SHARD_BYTES, reading)
        pq.write_table(custom_units.quarantine(written), draft.directory / QUARANTINE_FILE)
        query_set = QuerySet("hits", query_table, top_k)
        shards = custom_units.unit_files(written)
        job.write_hits(shards, [query_set], draft, settings, {"corpus": inputs["corpus"]})
        draft.counts.update(custom_units.noted_counts(written))
        draft.counts["num_duplicate_files"] = len(sources) - len(by_digest)

    sweep_parts(out)
    with kept.locked() if kept else nullcontext():
        manifest = write_once(out, "search files", settings, inputs, write)
    discard_parts(out)
    return manifest


@dataclass(frozen=True)
class _KeepingSearch:
    """Search that uses kept results, and keeps its own."""

    config: RetrievalConfig
    models: Models | None
    parts: Path
    kept: Kept | None

    def write_hits(
        self,
        shards: Sequence[Path],
        query_sets: Sequence[QuerySet],
        draft: Draft,
        settings: Mapping[str, Any],
        corpus: Mapping[str, str],
    ) -> None:
        """Write the hits of all sets and their counts into the draft.

        Args:
            shards: files of units.
            query_sets: queries.
            draft: output directory.
            settings: what determines the hits, except corpus and queries.
            corpus: digest of the corpus, by name; if it is empty, no hits are kept.
        """
        if self.kept is None or not corpus or len(query_sets) > 1 or self.config.ranker != "bm25":
            self._search(shards, query_sets, draft)
            return
        [query_set] = query_sets
        hits = draft.directory / f"{query_set.name}.parquet"
        if (answers := self.kept.earlier(settings, corpus)) is None:
            self._search(shards, query_sets, draft)
        else:
            self._search_new(shards, query_set, answers, hits, draft)
        self.kept.keep(query_set, hits, settings, corpus, draft.counts)

    def _search(self, shards: Sequence[Path], query_sets: Sequence[QuerySet], draft: Draft) -> None:
        statistics = self.kept.statistics if self.kept else None
        write_all_hits(shards, query_sets, self.config, self.models, self.parts, draft, statistics)

    def _search_new(
        self,
        shards: Sequence[Path],
        query_set: QuerySet,
        answers: Answers,
        hits: Path,
        draft: Draft,
    ) -> None:
        """Search for the queries without earlier hits, and take over the hits of the others."""
        table = query_set.table
        positions = answers.positions_of(table)
        new = table.filter(pa.array(positions < 0))
        num_known = table.num_rows - new.num_rows
        if num_known:
            progress.say(f"search: {num_known:,} of {table.num_rows:,} queries as before")
        folder = self.parts / "new"
        found = None
        draft.counts.update(answers.counts, num_empty_queries=0)
        if new.num_rows:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            found = Draft(folder)
            self._search(shards, [replace(query_set, table=new)], found)
            draft.counts.update(found.counts)
        new_hits = folder / hits.name if found else None
        draft.counts["num_hits"] = write_known_and_new(
            hits, query_set, answers, positions, new_hits
        )
        draft.counts["num_queries"] = table.num_rows
        draft.counts["num_fallback_queries"] = pc.sum(table["is_fallback"], min_count=0).as_py()


def gather(unit_shards: Sequence[Path], unit_ids: pa.Array) -> pa.Table:
    """Look up units by id, with one pass per shard.

    Args:
        unit_shards: files of `schemas.UNITS`.
        unit_ids: ids of the units; ids that are in no shard are ignored.

    Returns:
        A table of `schemas.UNITS`, in the order of the shards.
    """
    tables = datasets.for_each(
        units_of,
        _ids_by_shard(unit_shards, unit_ids),
        label="gather",
        files=lambda item: TaskFiles((item[0],)),
    )
    return pa.concat_tables([UNITS.empty_table(), *tables])


def gather_into(folder: Path, unit_shards: Sequence[Path], unit_ids: pa.ChunkedArray) -> None:
    """Write the units of `gather` to files `GATHERED_FILES`, which can be passed to `gather`.

    One pass over the shards then serves several calls, without all texts in memory.
    """
    items = [
        (*item, folder / f"units-{number:05d}.parquet")
        for number, item in enumerate(_ids_by_shard(unit_shards, unit_ids))
    ]
    datasets.for_each(
        write_units_of,
        items,
        label="gather",
        files=lambda item: TaskFiles((item[0],), (item[2],)),
    )


def _ids_by_shard(
    unit_shards: Sequence[Path], unit_ids: pa.Array | pa.ChunkedArray
) -> list[tuple[Path, pa.Array]]:
    """List the shards that may contain some of the ids, each with these ids, ascending."""
    ordered = unit_ids.unique()
    ordered = ordered.take(pc.sort_indices(ordered))
    items = [(path, ids_between(ordered, *id_range(path))) for path in unit_shards]
    return [item for item in items if len(item[1])]


def _settings(config: RetrievalConfig) -> dict[str, Any]:
    """Settings that determine the hits; the model is an input, by its digest."""
    return config.model_dump(mode="json", exclude={"top_k": True, "dense": {"model"}})


def _models(embedder: Embedder | None, folder: Path) -> Models | None:
    return Models(embedder, folder) if embedder else None


def _model_inputs(embedder: Embedder | None) -> dict[str, str]:
    return {"model": embedder.digest} if embedder else {}
