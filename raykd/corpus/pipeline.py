"""Ingest on Ray: source files to shards of units, one task per shard."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from raykd import progress
from raykd.cluster import datasets, metrics
from raykd.corpus.config import CorpusConfig
from raykd.corpus.dataset.copy import copy_documents
from raykd.corpus.dataset.readers import files_of
from raykd.corpus.left_out import check_counts, report_counts
from raykd.corpus.rows import QUOTES_COUNTS, BadRow, Columns
from raykd.corpus.shards import (
    NO_TEXT,
    QUARANTINE_FILE,
    SHARD_BYTES,
    Part,
    check_apart,
    digest_of_parts,
    files_of_parts,
    folders_of,
    local_files,
    plan_shards,
    remove_stale,
    say_reused,
)
from raykd.corpus.slices import list_sources
from raykd.corpus.texts import read_texts
from raykd.corpus.units import cut
from raykd.corpus.write import ShardWriter
from raykd.errors import InputError
from raykd.storage.delimited import Layout
from raykd.storage.formats import named_format, source_digest
from raykd.storage.locations import Location, Remote, explained, shown, size_of
from raykd.storage.manifest import (
    FILE_NAME,
    Draft,
    Manifest,
    digest_of,
    finished,
    stage_key,
    write_manifest,
    write_unless_kept,
)
from raykd.storage.remote.task_files import TaskFiles
from raykd.storage.schemas import QUARANTINE, UNITS
from raykd.storage.working_files import working_directory

_STAGE = "ingest"
_COUNTS = (
    "num_documents",
    "num_units",
    "num_bytes",
    "num_quarantined",
    "num_dropped_short",
    "num_dropped_documents",
    "num_empty",
    *QUOTES_COUNTS,
)
_NUM_SHOWN = 5


@dataclass(frozen=True)
class _Shard:
    directory: Path
    parts: tuple[Part, ...]


def ingest(config: CorpusConfig, paths: Sequence[Location], out: Path) -> Manifest:
    """Read a corpus into shards of units, `out/shard-*/units-*.parquet`.

    The output depends on the contents of the files and on the settings, not on names or order.
    Files of equal content are read once. The units are sorted by `unit_id` across shards. Complete
    shards are kept when an interrupted run is repeated, and those of unchanged files when files
    are added or removed.

    Args:
        config: settings; its `paths` are ignored.
        paths: files and directories, on a disk or in an object store; not used with a reader.
        out: output directory.

    Raises:
        InputError: a source cannot be read, more than `max_bad_fraction` of the rows are bad or
            `max_dropped_fraction` of the documents too short, there are no units, or `out` is
            inside an input directory.
    """
    started_s = time.monotonic()
    out = out.absolute()
    documents = working_directory(out, "documents")
    settings = config.model_dump(mode="json", exclude={"paths", "exclude", "reader"})
    if config.reader is None:
        sources = sources_with_digests(paths, out, exclude=config.exclude)
        check_layout(config.layout, dict(sources))
        inputs = {"corpus": digest_of(sorted({digest for digest, _ in sources}))}
    else:
        # Its documents are known only when they are read.
        state = {"reader": config.reader.model_dump(mode="json"), "files": files_of(config.reader)}
        inputs = {"reader": digest_of(state)}
    if manifest := finished(out, stage_key(_STAGE, settings, inputs)):
        report_counts(manifest.counts)
        return manifest
    where = ", ".join(shown(path) for path in paths[:_NUM_SHOWN])
    if config.reader is not None:
        where = f"reader {config.reader.name}"
        copied = copy_documents(
            config.reader, config.text_column, documents, config.shard_bytes, inputs
        )
        sources = sources_with_digests(copied, out)
        config = config.model_copy(update={"text_column": "text"})
    by_digest = one_of_equal(sources)
    # From here on an older manifest is not valid for `out`.
    (out / FILE_NAME).unlink(missing_ok=True)
    planned = plan_shards(by_digest.items(), config.shard_bytes)
    shards = list(map(_Shard, folders_of(out, planned), planned))
    results = datasets.for_each(
        _ingest_shard,
        shards,
        label="ingest",
        unit="shards",
        shared={"config": config},
        files=lambda shard: TaskFiles(files_of_parts(shard.parts), (shard.directory,)),
    )
    say_reused("ingest", planned, [is_kept for _, is_kept in results])
    counts = {name: sum(result[name] for result, _ in results) for name in _COUNTS}
    check_counts(counts, config, [shard.directory for shard in shards], where)
    report_counts(counts)
    remove_stale(out, (shard.directory for shard in shards))
    counts["num_files"] = len(by_digest)
    counts["num_duplicate_files"] = len(sources) - len(by_digest)
    counts["num_shards"] = len(shard_paths(out))
    manifest = write_manifest(
        out, _STAGE, settings, inputs, counts, duration_s=time.monotonic() - started_s
    )
    shutil.rmtree(documents, ignore_errors=True)
    return manifest


def shard_paths(out: Path) -> list[Path]:
    """List the files of units that `ingest` wrote, in order.

    A shard has several files if a compressed file or a Parquet row group is much larger than
    `shard_bytes`.
    """
    return sorted(out.glob("shard-*/units-*.parquet"))


def sources_with_digests(
    paths: Sequence[Location], out: Path, *, exclude: Sequence[str] = ()
) -> list[tuple[str, Location]]:
    """List the source files with their `source_digest`, sorted by digest, then path.

    Files that are left out are reported.

    Args:
        paths: files, folders and patterns.
        out: output directory, which must not be in an input folder.
        exclude: patterns of files and folders to leave out.

    Raises:
        InputError: a file cannot be read; see `list_sources` and `check_apart`.
    """
    check_apart(out, paths)
    listing = list_sources(
        [path.absolute() if isinstance(path, Path) else path for path in paths], exclude
    )
    check_apart(out, [file for file in listing.files if isinstance(file, Remote)])
    if listing.holds(out):
        raise InputError(
            f"{', '.join(map(shown, paths))}: would contain the output, {out}; write the output "
            "elsewhere"
        )
    for line in listing.lines():
        progress.say(f"corpus: {line}")
    sources = listing.files
    batches: list[list[Location]] = []
    num_bytes = SHARD_BYTES
    for path in sources:
        if num_bytes >= SHARD_BYTES:
            batches.append([])
            num_bytes = 0
        batches[-1].append(path)
        with explained(path):
            num_bytes += size_of(path)
    digests = datasets.for_each(
        _digests_of_batch,
        batches,
        label="digest",
        unit="batches",
        files=lambda batch: TaskFiles(local_files(batch)),
    )
    pairs = zip((digest for batch in digests for digest in batch), sources, strict=True)
    return sorted(pairs, key=lambda pair: (pair[0], str(pair[1])))


def one_of_equal(sources: Sequence[tuple[str, Location]]) -> dict[str, Location]:
    """Map each digest to its first file; report the other files."""
    by_digest: dict[str, Location] = {}
    equal = []
    for digest, path in sources:
        if (first := by_digest.setdefault(digest, path)) != path:
            equal.append(f"{shown(path)} equals {shown(first)}")
    if equal:
        more = f" and {len(equal) - _NUM_SHOWN:,} more" if len(equal) > _NUM_SHOWN else ""
        progress.say(f"corpus: equal files are read once: {', '.join(equal[:_NUM_SHOWN])}{more}")
    return by_digest


def check_layout(layout: Layout, by_digest: Mapping[str, Location]) -> None:
    """Check that there are CSV or TSV files if `layout.columns` is set.

    Raises:
        InputError: there are no such files.
    """
    if layout.columns is None:
        return
    formats = {named_format(path)[0] for path in by_digest.values()}
    if formats.isdisjoint(("csv", "tsv")):
        path = next(iter(by_digest.values()))
        raise InputError(
            f"{path}: names of columns ({', '.join(layout.columns)}) are given, which only CSV and "
            "TSV files without a header line need; leave them out"
        )


def _digests_of_batch(paths: Sequence[Location]) -> list[str]:
    return [source_digest(path) for path in paths]


def _ingest_shard(shard: _Shard, *, config: CorpusConfig) -> tuple[Mapping[str, float], bool]:
    """Write one shard unless it is complete; return its counts, and whether it was complete."""
    settings = config.model_dump(
        mode="json", include={"text_column", "columns", "quoting", "empty", "units", "shard_bytes"}
    )
    inputs = {"slices": digest_of_parts(shard.parts)}

    def write(draft: Draft) -> None:
        counts = write_shard(shard.parts, config, draft.directory)
        draft.counts.update(counts)
        metrics.record("raykd_documents_total", counts["num_documents"])
        metrics.record("raykd_units_total", counts["num_units"])
        metrics.record("raykd_quarantined_rows_total", counts["num_quarantined"])

    manifest, is_kept = write_unless_kept(shard.directory, "ingest shard", settings, inputs, write)
    return manifest.counts, is_kept


def write_shard(parts: Sequence[Part], config: CorpusConfig, directory: Path) -> dict[str, int]:
    """Read documents, cut them, and write the units of one shard; quarantine unreadable rows.

    Returns:
        Counts of documents, units, bytes of units, bad rows, too short pieces, documents without a
        unit, empty documents, and TSV files with quotation marks.

    Raises:
        InputError: see `texts.read_texts`.
    """
    counts = dict.fromkeys(_COUNTS, 0)
    columns = Columns(config.text_column, ids=(), title=None, layout=config.layout)
    with (
        ShardWriter(directory, "units-{:05d}.parquet", UNITS, "text", config.shard_bytes) as units,
        ShardWriter(directory, QUARANTINE_FILE, QUARANTINE, "reason") as quarantine,
    ):
        for part in parts:
            for texts in read_texts(part.piece, columns):
                made, num_short, num_without_unit = cut(texts, part.digest, config.units)
                counts["num_documents"] += len(texts.offsets)
                counts["num_units"] += made.num_rows
                counts["num_bytes"] += units.write(made)
                counts["num_dropped_short"] += num_short
                counts["num_dropped_documents"] += num_without_unit
                counts["num_quarantined"] += len(texts.bad)
                counts["num_empty"] += len(texts.empty)
                if texts.quotes is not None:
                    counts[texts.quotes.count_name] += 1
                rows = list(texts.bad)
                if config.empty == "error":
                    source = shown(part.piece.path)
                    rows += [BadRow(source, offset, NO_TEXT) for offset in texts.empty]
                values = [[getattr(row, name) for row in rows] for name in QUARANTINE.names]
                quarantine.write(pa.record_batch(values, schema=QUARANTINE))
    return counts
