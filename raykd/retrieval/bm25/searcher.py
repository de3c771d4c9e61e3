"""BM25 over shards: statistics pass, and search of one shard."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from raykd import progress
from raykd.cluster import datasets, metrics
from raykd.corpus.shards import digest_of_shard
from raykd.errors import InputError
from raykd.retrieval.bm25 import index, scoring, search
from raykd.retrieval.bm25.forward_index import ForwardIndex
from raykd.retrieval.bm25.scoring import Bm25Config
from raykd.retrieval.bm25.statistics import QueryTerms, Statistics
from raykd.retrieval.hits import RankedHits
from raykd.retrieval.waves import Shards
from raykd.storage.locations import explained
from raykd.storage.manifest import Draft, digest_of, write_unless_kept
from raykd.storage.remote.task_files import TaskFiles, need
from raykd.text.analyzer import TermLookup

_READ_ROWS = 32_768
_DF_FILE = "df.arrow"


@dataclass(frozen=True)
class SearchJob:
    """Parameters of all tasks of a search.

    Attributes:
        statistics: directory of the forward indexes and statistics of the shards.
        is_kept: whether later searches use this directory.
        lookup: lookup of the query vocabulary.
        num_terms: size V of the vocabulary.
        queries: terms of the D distinct queries.
        digest: digest of terms, queries and analyzer.
        config: parameters of BM25.
    """

    statistics: Path
    is_kept: bool
    lookup: TermLookup
    num_terms: int
    queries: QueryTerms
    digest: str
    config: Bm25Config


@dataclass(frozen=True)
class Bm25Searcher:
    """BM25 search of one shard at a time.

    A task needs memory for its index (`index.build`), and for the queries and their terms (12 bytes
    per term and 20 per query, mapped from the object store).

    Attributes:
        job: parameters of the search.
        total: statistics of all units.
        idf: (V,) idf of all terms.
    """

    job: SearchJob
    total: Statistics
    idf: NDArray[np.float64]

    @property
    def digest(self) -> str:
        """Digest of queries, settings and statistics."""
        total = self.total
        facts = [total.num_units, total.total_length, xxh3_128_hexdigest(total.df.tobytes())]
        return digest_of(
            {
                "job": self.job.digest,
                "settings": self.job.config.model_dump(mode="json"),
                "corpus": facts,
            }
        )

    def search_shard(
        self,
        path: Path,
        digest: str,
        unit_id_type: pa.DataType,
        top_k: NDArray[np.int32],
        thresholds: NDArray[np.float64],
        blocks: Sequence[tuple[int, int]],
    ) -> Iterator[RankedHits]:
        """Find the best hits of one shard; see `waves.Searcher`."""
        with explained(path):
            unit_ids = pq.read_table(path, columns=["unit_id"])["unit_id"].combine_chunks()
        # Written by the statistics pass, and again if it was damaged since.
        folder = _counted(path, digest, self.job).folder
        shard_index = index.build(
            ForwardIndex.read(folder),
            unit_ids.cast(unit_id_type),
            self.total,
            self.idf,
            self.job.config,
        )
        for block in blocks:
            hits = search.search_shard(shard_index, self.job.queries, top_k, thresholds, block)
            metrics.record("raykd_queries_total", block[1] - block[0])
            metrics.record("raykd_pruned_share", hits.pruned_share)
            yield RankedHits.of_shard(
                hits.num_hits, hits.units, hits.scores, shard_index.unit_ids, shard_index.id_rank
            )


def count(job: SearchJob, paths: Sequence[Path]) -> tuple[Shards, Bm25Searcher]:
    """Run the statistics pass, one task per shard.

    Raises:
        InputError: a shard is missing or damaged, or there is no unit at all.
    """
    total = Statistics.empty(job.num_terms)
    digests = [""] * len(paths)
    num_kept = 0
    results = datasets.as_completed(
        _count_shard,
        paths,
        label="statistics",
        shared={"job": job},
        files=lambda path: TaskFiles((path,), adds=(job.statistics,) if job.is_kept else ()),
    )
    types = set()
    for number, (digest, unit_id_type, counted, is_kept) in results:
        total += counted
        num_kept += is_kept
        digests[number] = digest
        if counted.num_units:
            types.add(unit_id_type)
    if num_kept:
        progress.say(f"statistics: {num_kept:,} of {len(paths):,} shards as before")
    current = {_folder_of(digest, job) for digest in digests}
    for folder in set(job.statistics.glob("statistics-*")) - current:
        shutil.rmtree(folder, ignore_errors=True)
    if total.num_units == 0:
        raise InputError("the corpus has no units; give files with text")
    [unit_id_type] = types
    idf = scoring.idf(total.df, total.num_units, job.config)
    return Shards(tuple(paths), tuple(digests), unit_id_type), Bm25Searcher(job, total, idf)


def _count_shard(path: Path, *, job: SearchJob) -> tuple[str, pa.DataType, Statistics, bool]:
    digest = digest_of_shard(path)
    folder, counts, is_kept = _counted(path, digest, job)
    with pa.OSFile(str(folder / _DF_FILE)) as file, pa.ipc.open_file(file) as reader:
        df = reader.read_all()["df"].to_numpy().astype(np.int64)
    return (
        digest,
        pq.read_schema(path).field("unit_id").type,
        Statistics(int(counts["num_units"]), int(counts["total_length"]), df),
        is_kept,
    )


class _Counted(NamedTuple):
    folder: Path
    counts: Mapping[str, float]
    is_kept: bool


def _folder_of(digest: str, job: SearchJob) -> Path:
    return job.statistics / f"statistics-{digest}"


def _counted(path: Path, digest: str, job: SearchJob) -> _Counted:
    """Write the forward index and statistics of a shard, unless they exist."""

    def write(draft: Draft) -> None:
        with explained(path), pq.ParquetFile(path) as file:
            batches = file.iter_batches(_READ_ROWS, columns=["text"])
            forward, counted = ForwardIndex.of(
                (batch.column("text") for batch in batches), job.lookup, job.num_terms
            )
        forward.write(draft.directory)
        # Most query terms occur in few units of a shard, so the counts compress well.
        table = pa.table({"df": counted.df.astype(np.int32)})
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(draft.directory / _DF_FILE, table.schema, options=options) as writer:
            writer.write_table(table)
        draft.counts.update(num_units=counted.num_units, total_length=counted.total_length)

    folder = _folder_of(digest, job)
    if job.is_kept:
        need(folder)
    inputs = {"units": digest, "job": job.digest}
    manifest, is_kept = write_unless_kept(folder, "statistics", {}, inputs, write)
    return _Counted(folder, manifest.counts, is_kept)
