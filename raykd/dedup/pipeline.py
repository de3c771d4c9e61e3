"""A whole corpus without its duplicates, on Ray: one task a shard, one task a partition of keys."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raykd.cluster import tasks as cluster
from raykd.config import Config
from raykd.corpus import custom_units
from raykd.corpus.custom_corpus import write_given
from raykd.corpus.custom_units import AS_FOUND, Reading
from raykd.corpus.pipeline import (
    check_layout,
    one_of_equal,
    shard_paths,
    sources_with_digests,
)
from raykd.corpus.shards import QUARANTINE_FILE, SHARD_BYTES, check_apart
from raykd.dedup import steps
from raykd.dedup.minhash import NearDuplicatesConfig
from raykd.dedup.steps import Job
from raykd.storage.locations import Location
from raykd.storage.manifest import (
    Draft,
    Manifest,
    check_output,
    digest_of,
    manifest_of_source,
    write_once,
)
from raykd.storage.outputs import output_path
from raykd.storage.working_files import beside, sweep_parts

REMOVED_FILE = "removed.parquet"
UNITS_FOLDER = "units"


class DedupConfig(Config):
    """What is removed from a corpus: units of equal text, and near duplicates where asked for."""

    near_duplicates: NearDuplicatesConfig | None = None
    output_shard_bytes: int = SHARD_BYTES


@dataclass(frozen=True)
class Sizes:
    """How the work is cut; makes no difference to what is written.

    `shard_bytes` of text are a task's, `units_per_partition` and `keys_per_partition` (a unit has
    one a band) those of a task that compares.
    """

    shard_bytes: int = SHARD_BYTES
    units_per_partition: int = 1_000_000
    keys_per_partition: int = 4_000_000


def dedup(
    corpus: Sequence[Location],
    out: Path,
    config: DedupConfig,
    sizes: Sizes | None = None,
    reading: Reading = AS_FOUND,
) -> Manifest:
    """Write the units that are kept, `out/units/units-00000.parquet` and on, and what was not.

    `out/removed.parquet` has the columns of `steps.removed_schema`, `out/quarantine.parquet` holds
    rows that could not be read. Of units that say the same, the one with the smallest id is kept.
    The units stand in the order of their ids. The output is the same bytes for any order of files
    and rows that have ids, any number of workers, and any sizes. A job that was interrupted goes on
    where it stood.

    Args:
        corpus: files and directories of rows with `text`, and optionally `unit_id` or `doc_id`
            (string or int64, kept) and `title` (put before the text), or what `ingest` wrote.
            Files of equal content are read once, where rows have no ids.
        out: the output directory.
        config: what is removed.
        sizes: how the work is cut.
        reading: how the files of the corpus are read.

    Raises:
        InputError: a file or column is missing, an id is missing or repeated, a file is damaged,
            too many rows cannot be read, or `out` lies in a directory that is read, holds what is
            read or what raykd did not write, or cannot be written.
    """
    out = output_path(out)
    check_apart(out, corpus)
    check_output(out)
    files = [file for given in corpus for file in _files_of(given)]
    sources = sources_with_digests(files, out, exclude=reading.exclude)
    custom_units.check_copies(sources, reading)
    by_digest = one_of_equal(sources)
    check_layout(reading.layout, by_digest)
    inputs = {"corpus": digest_of(list(by_digest))}
    settings = config.model_dump(mode="json") | reading.settings()
    sizes = sizes or Sizes()

    def write(draft: Draft) -> None:
        written = write_given(by_digest, beside(out, "units"), sizes.shard_bytes, reading)
        (draft.directory / UNITS_FOLDER).mkdir()
        pq.write_table(custom_units.quarantine(written), draft.directory / QUARANTINE_FILE)
        job = Job(
            parts=beside(out, "parts"),
            given=tuple(custom_units.unit_files(written)),
            near=config.near_duplicates,
            settings={**settings, **vars(sizes)},
            inputs=inputs,
        )
        _write_units(job, config, sizes, draft)
        draft.counts.update(custom_units.dropped(written))
        draft.counts["num_duplicate_files"] = len(sources) - len(by_digest)

    sweep_parts(out)
    manifest = write_once(out, "dedup", settings, inputs, write)
    for name in ("parts", "units"):
        shutil.rmtree(beside(out, name), ignore_errors=True)
    return manifest


def _files_of(location: Location) -> list[Location]:
    manifest = manifest_of_source(location) if isinstance(location, Path) else None
    if manifest is None or manifest.stage != "ingest":
        return [location]
    assert isinstance(location, Path)
    return list(shard_paths(location))


def _write_units(job: Job, config: DedupConfig, sizes: Sizes, draft: Draft) -> None:
    job = _find_duplicates(job, sizes)
    shards = range(job.num_shards)
    kept = cluster.for_each(steps.sample_kept, shards, label="order", shared={"job": job})
    num_bytes = sum(sample.num_bytes for sample in kept)
    num_ranges = -(-num_bytes // config.output_shard_bytes)
    job = replace(job, bounds=_bounds(pa.concat_arrays([part.ids for part in kept]), num_ranges))
    cluster.for_each(steps.route_shard, shards, label="send", shared={"job": job})
    ranges = range(len(job.bounds) + 1)
    counts = cluster.for_each(
        steps.write_range, ranges, label="write", unit="files", shared={"job": job}
    )
    _collect(job, len(ranges), draft)
    num_exact = sum(count.num_exact for count in counts)
    num_near = sum(count.num_near for count in counts)
    num_kept = sum(count.num_kept for count in counts)
    assert num_kept + num_exact + num_near == job.starts[-1], "no unit is lost or made"
    draft.counts.update(
        num_units=num_kept,
        num_units_read=int(job.starts[-1]),
        num_exact_duplicates=num_exact,
        num_near_duplicates=num_near,
        num_bytes=num_bytes,
    )


def _find_duplicates(job: Job, sizes: Sizes) -> Job:
    """The job with all that its last steps need."""
    shards = range(job.num_shards)
    # Bytes bound the number of units, which is not known before they are read.
    counted = [pq.read_metadata(path).num_rows for path in job.given]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counted, dtype=np.int64)])
    num_units = int(starts[-1])
    job = replace(
        job, starts=starts, num_partitions=-(-num_units // sizes.units_per_partition) or 1
    )
    _for_each(steps.hash_shard, shards, "hash", "shards", job)
    _for_each(steps.find_equal, range(job.num_partitions), "find equal", "partitions", job)
    if job.near is None:
        return job
    num_keys = num_units * job.near.num_bands
    job = replace(job, num_key_partitions=-(-num_keys // sizes.keys_per_partition) or 1)
    _for_each(steps.key_shard, shards, "shingle", "shards", job)
    _for_each(steps.find_near, range(job.num_key_partitions), "compare", "partitions", job)
    return _choose_near(job)


def _choose_near(job: Job) -> Job:
    """Decide which near duplicates are removed, until no two units kept are found to be near.

    A unit that was not compared with others of its bucket, because it is near to one before it,
    must be once that one is removed itself. This is rare, and found in few rounds.
    """
    while True:
        _for_each(steps.choose_near, [job.num_checks], "choose", "steps", job)
        num_found = cluster.for_each(
            steps.check_near,
            range(job.num_key_partitions),
            label="check",
            unit="partitions",
            shared={"job": job},
        )
        if not sum(num_found):
            return job
        job = replace(job, num_checks=job.num_checks + 1)


def _for_each(function: Any, items: Sequence[int], label: str, unit: str, job: Job) -> None:
    cluster.for_each(function, items, label=label, unit=unit, shared={"job": job})


def _bounds(sample: pa.Array, num_ranges: int) -> pa.Array:
    """The first id of every range but the first, so that ranges have about equally many units."""
    ordered = sample.take(pc.sort_indices(sample))
    positions: NDArray[np.int64] = np.arange(1, num_ranges) * len(ordered) // max(num_ranges, 1)
    return pc.unique(ordered.take(pa.array(positions)))


def _collect(job: Job, num_ranges: int, draft: Draft) -> None:
    """Put what the tasks wrote together; units by a second name of the file, not by a copy."""
    schema = steps.removed_schema(job.id_type)
    with pq.ParquetWriter(draft.directory / REMOVED_FILE, schema, compression="zstd") as writer:
        for number in range(num_ranges):
            directory = job.directory("range", number)
            writer.write_table(pq.read_table(directory / steps.REMOVED_FILE))
            target = draft.directory / UNITS_FOLDER / f"units-{number:05d}.parquet"
            source = directory / steps.KEPT_FILE
            try:
                os.link(source, target)
            except OSError:
                shutil.copyfile(source, target)
