"""Deduplication of a whole corpus on Ray: one task per shard and one per partition of keys."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from raykd.cluster import datasets
from raykd.config import Config
from raykd.corpus.custom import units as custom_units
from raykd.corpus.custom.corpus import write_custom_units
from raykd.corpus.custom.units import AS_FOUND, Reading
from raykd.corpus.pipeline import (
    check_layout,
    one_of_equal,
    shard_paths,
    sources_with_digests,
)
from raykd.corpus.shards import QUARANTINE_FILE, SHARD_BYTES, check_apart
from raykd.dedup import steps
from raykd.dedup.minhash import NearDuplicatesConfig
from raykd.dedup.steps import DedupJob
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
from raykd.storage.working_files import sweep_parts, working_directory

REMOVED_FILE = "removed.parquet"
UNITS_FOLDER = "units"


class DedupConfig(Config):
    """Units to remove from a corpus: exact duplicates, and near duplicates if configured."""

    near_duplicates: NearDuplicatesConfig | None = None
    output_shard_bytes: int = SHARD_BYTES


@dataclass(frozen=True)
class Sizes:
    """Sizes of the tasks; they do not change the output.

    Attributes:
        shard_bytes: bytes of text per shard.
        units_per_partition: units per task that finds exact duplicates.
        keys_per_partition: band keys per task that finds near duplicates.
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
    """Write the kept units to `out/units/units-*.parquet`, and list the removed ones.

    `out/removed.parquet` has the columns of `steps.removed_schema`; `out/quarantine.parquet` holds
    the rows that could not be read. Of equal units the one with the smallest id is kept. The units
    are sorted by id. The output bytes do not depend on the order of files and of rows with ids, the
    number of workers, or `sizes`. Rerunning an interrupted job resumes it.

    Args:
        corpus: files and directories of rows with `text`, and optionally `unit_id` or `doc_id`
            (string or int64, kept) and `title` (prepended to the text), or output of `ingest`.
            Files of equal content are read once if their rows have no ids.
        out: output directory.
        config: definition of the units to remove.
        sizes: task sizes.
        reading: format options of the corpus files.

    Raises:
        InputError: a file or column is missing, an id is missing or repeated, a file is damaged,
            too many rows cannot be read, or `out` is inside an input directory, contains an input
            or files that raykd did not write, or cannot be written.
    """
    out = output_path(out)
    check_apart(out, corpus)
    check_output(out)
    files = [file for source in corpus for file in _files_of(source)]
    sources = sources_with_digests(files, out, exclude=reading.exclude)
    custom_units.check_copies(sources, reading)
    by_digest = one_of_equal(sources)
    check_layout(reading.layout, by_digest)
    inputs = {"corpus": digest_of(list(by_digest))}
    settings = config.model_dump(mode="json") | reading.settings()
    sizes = sizes or Sizes()

    def write(draft: Draft) -> None:
        written = write_custom_units(
            by_digest, working_directory(out, "units"), sizes.shard_bytes, reading
        )
        (draft.directory / UNITS_FOLDER).mkdir()
        pq.write_table(custom_units.quarantine(written), draft.directory / QUARANTINE_FILE)
        job = DedupJob(
            parts=working_directory(out, "parts"),
            unit_files=tuple(custom_units.unit_files(written)),
            near=config.near_duplicates,
            settings={**settings, **vars(sizes)},
            inputs=inputs,
        )
        _write_units(job, config, sizes, draft)
        draft.counts.update(custom_units.noted_counts(written))
        draft.counts["num_duplicate_files"] = len(sources) - len(by_digest)

    sweep_parts(out)
    manifest = write_once(out, "dedup", settings, inputs, write)
    for name in ("parts", "units"):
        shutil.rmtree(working_directory(out, name), ignore_errors=True)
    return manifest


def _files_of(location: Location) -> list[Location]:
    manifest = manifest_of_source(location) if isinstance(location, Path) else None
    if manifest is None or manifest.stage != "ingest":
        return [location]
    assert isinstance(location, Path)
    return list(shard_paths(location))


def _write_units(job: DedupJob, config: DedupConfig, sizes: Sizes, draft: Draft) -> None:
    job = _find_duplicates(job, sizes)
    shards = range(job.num_shards)
    kept = datasets.for_each(
        steps.sample_kept, shards, label="order", shared={"job": job}, files=None
    )
    num_bytes = sum(sample.num_bytes for sample in kept)
    num_ranges = -(-num_bytes // config.output_shard_bytes)
    job = replace(job, bounds=_bounds(pa.concat_arrays([part.ids for part in kept]), num_ranges))
    datasets.for_each(
        steps.route_shard,
        shards,
        label="send",
        shared={"job": job},
        files=partial(job.output, "send"),
    )
    ranges = range(len(job.bounds) + 1)
    counts = datasets.for_each(
        steps.write_range,
        ranges,
        label="write",
        unit="files",
        shared={"job": job},
        files=partial(job.output, "range"),
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


def _find_duplicates(job: DedupJob, sizes: Sizes) -> DedupJob:
    """Run the steps that find duplicates; return the job with the sizes that later steps need."""
    shards = range(job.num_shards)
    # Shards are planned by bytes; the number of units is known only after they are written.
    counted = [pq.read_metadata(path).num_rows for path in job.unit_files]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counted, dtype=np.int64)])
    num_units = int(starts[-1])
    job = replace(
        job, starts=starts, num_partitions=-(-num_units // sizes.units_per_partition) or 1
    )
    _for_each(steps.hash_shard, shards, "hash", "hash", "shards", job)
    _for_each(steps.find_equal, range(job.num_partitions), "equal", "find equal", "partitions", job)
    if job.near is None:
        return job
    num_keys = num_units * job.near.num_bands
    job = replace(job, num_key_partitions=-(-num_keys // sizes.keys_per_partition) or 1)
    _for_each(steps.key_shard, shards, "keys", "shingle", "shards", job)
    _for_each(
        steps.find_near, range(job.num_key_partitions), "compare", "compare", "partitions", job
    )
    return _choose_near(job)


def _choose_near(job: DedupJob) -> DedupJob:
    """Choose the near duplicates to remove until no two kept units are near duplicates.

    A unit is not compared with the rest of its bucket if it is a near duplicate of an earlier unit.
    If that unit is itself removed, the comparison is made up for. This is rare; few rounds suffice.
    """
    while True:
        _for_each(steps.choose_near, [job.num_checks], "choose", "choose", "steps", job)
        num_pairs = datasets.for_each(
            steps.check_near,
            range(job.num_key_partitions),
            label="check",
            unit="partitions",
            shared={"job": job},
            files=partial(job.output, f"check{job.num_checks}"),
        )
        if not sum(num_pairs):
            return job
        job = replace(job, num_checks=job.num_checks + 1)


def _for_each(
    function: Any, items: Sequence[int], step: str, label: str, unit: str, job: DedupJob
) -> None:
    datasets.for_each(
        function,
        items,
        label=label,
        unit=unit,
        shared={"job": job},
        files=partial(job.output, step),
    )


def _bounds(sample: pa.Array, num_ranges: int) -> pa.Array:
    """Split the ids into ranges of about equal size; return the first id of all later ranges."""
    ordered = sample.take(pc.sort_indices(sample))
    positions: NDArray[np.int64] = np.arange(1, num_ranges) * len(ordered) // max(num_ranges, 1)
    return pc.unique(ordered.take(pa.array(positions)))


def _collect(job: DedupJob, num_ranges: int, draft: Draft) -> None:
    """Collect the outputs of the tasks; hard-link the files of units instead of copying them."""
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
