"""Ingest on Ray: source files to shards of units, one task per shard."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
from pydantic import Field, field_validator

from raykd import progress
from raykd.cluster import datasets
from raykd.config import Config
from raykd.corpus.rows import QUOTES_COUNTS, BadRow, Columns
from raykd.corpus.shards import (
    MAX_BAD_FRACTION,
    NO_TEXT,
    QUARANTINE_FILE,
    SHARD_BYTES,
    Empty,
    Part,
    check_apart,
    check_empty,
    digest_of_parts,
    plan_shards,
    quarantined_rows,
)
from raykd.corpus.slices import list_sources
from raykd.corpus.texts import read_texts
from raykd.corpus.units import UnitsConfig, cut
from raykd.corpus.write import ShardWriter
from raykd.errors import InputError
from raykd.storage.delimited import Layout, Quoting
from raykd.storage.formats import named_format, source_digest
from raykd.storage.locations import Location, explained, location_of, shown, size_of
from raykd.storage.manifest import (
    FILE_NAME,
    Draft,
    Manifest,
    digest_of,
    finished,
    stage_key,
    write_manifest,
    write_once,
)
from raykd.storage.schemas import QUARANTINE, UNITS

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


class CorpusConfig(Config):
    """Files of the corpus, and how documents are cut into units."""

    paths: tuple[str, ...] = Field(
        min_length=1,
        description="Files, folders and patterns with *, ?, [abc] and ** (any folders); local or "
        "s3:// and gs:// URLs.",
    )
    exclude: tuple[str, ...] = Field(
        (),
        description="Patterns of files and folders to leave out: of a name, or of a path (with /) "
        "relative to the given folder.",
    )
    text_column: str = Field(
        "text", description="Column or field of the text in tables and JSON lines."
    )
    columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Names of the columns of CSV and TSV files without a header line.",
    )
    quoting: Quoting = Field(
        "auto",
        description="Whether quotation marks enclose fields: standard, none, or auto (CSV: yes; "
        "TSV: where every line is as a writer with quotes would write it).",
    )
    empty: Empty = Field(
        "skip",
        description="Documents whose text is null, empty or white space: skip and count them, or "
        "error.",
    )
    max_bad_fraction: float = Field(
        MAX_BAD_FRACTION,
        ge=0,
        le=1,
        description="Largest share of records that cannot be read (0 to 1); they are counted, and "
        "ingest stops above it.",
    )
    max_dropped_fraction: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Largest share of the documents with text that may be dropped whole because "
        "all their pieces have fewer than units.min_words words (0 to 1); ingest stops above it.",
    )
    units: UnitsConfig = Field(
        UnitsConfig(),
        description="How a document is cut into units, the passages that are retrieved.",
    )
    shard_bytes: int = Field(
        SHARD_BYTES,
        ge=1,
        description="Size of a shard in bytes of text; a shard is what one task reads.",
    )

    @field_validator("paths")
    @classmethod
    def _name_places(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        for path in paths:
            location_of(path)
        return paths

    @property
    def layout(self) -> Layout:
        """Format options of CSV and TSV files."""
        return Layout(self.columns, self.quoting)


@dataclass(frozen=True)
class _Shard:
    directory: Path
    parts: tuple[Part, ...]


def ingest(config: CorpusConfig, paths: Sequence[Location], out: Path) -> Manifest:
    """Read a corpus into shards of units, `out/shard-00000/` and so on.

    The output depends on the contents of the files and on the settings, not on names or order.
    Files of equal content are read once. The units are sorted by `unit_id` across shards. Complete
    shards are kept when an interrupted run is repeated.

    Args:
        config: settings; its `paths` are ignored.
        paths: files and directories, on a disk or in an object store.
        out: output directory.

    Raises:
        InputError: a source cannot be read, more than `max_bad_fraction` of the rows are bad or
            `max_dropped_fraction` of the documents too short, there are no units, or `out` is
            inside an input directory.
    """
    started_s = time.monotonic()
    out = out.absolute()
    sources = sources_with_digests(paths, out, exclude=config.exclude)
    by_digest = one_of_equal(sources)
    check_layout(config.layout, by_digest)
    settings = config.model_dump(mode="json", exclude={"paths", "exclude"})
    inputs = {"corpus": digest_of(list(by_digest))}
    if manifest := finished(out, stage_key(_STAGE, settings, inputs)):
        _report(manifest.counts)
        return manifest
    # From here on an older manifest is not valid for `out`.
    (out / FILE_NAME).unlink(missing_ok=True)
    shards = [
        _Shard(out / f"shard-{number:05d}", parts)
        for number, parts in enumerate(plan_shards(by_digest, config.shard_bytes))
    ]
    results = datasets.for_each(
        _ingest_shard, shards, label="ingest", unit="shards", shared={"config": config}
    )
    counts = {name: sum(result[name] for result in results) for name in _COUNTS}
    _check(counts, config, shards, paths)
    _report(counts)
    _remove_stale(out, shards)
    counts["num_files"] = len(by_digest)
    counts["num_duplicate_files"] = len(sources) - len(by_digest)
    counts["num_shards"] = len(shard_paths(out))
    return write_manifest(
        out, _STAGE, settings, inputs, counts, duration_s=time.monotonic() - started_s
    )


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
    digests = datasets.for_each(_digests_of_batch, batches, label="digest", unit="batches")
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


def _ingest_shard(shard: _Shard, *, config: CorpusConfig) -> Mapping[str, float]:
    """Write one shard unless it is complete; return its counts."""
    settings = config.model_dump(
        mode="json", include={"text_column", "columns", "quoting", "empty", "units", "shard_bytes"}
    )
    inputs = {"slices": digest_of_parts(shard.parts)}

    def write(draft: Draft) -> None:
        draft.counts.update(write_shard(shard.parts, config, draft.directory))

    return write_once(shard.directory, "ingest shard", settings, inputs, write).counts


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


def _check(
    counts: Mapping[str, float],
    config: CorpusConfig,
    shards: Sequence[_Shard],
    paths: Sequence[Location],
) -> None:
    where = ", ".join(str(path) for path in paths[:_NUM_SHOWN])
    num_bad = int(counts["num_quarantined"])
    num_rows = int(counts["num_documents"]) + num_bad
    num_empty = int(counts["num_empty"])
    check_empty(
        config.empty, num_empty, num_rows + num_empty, (s.directory for s in shards), "empty: skip"
    )
    if num_rows == 0:
        problem = f"each of its {num_empty:,} documents is" if num_empty else "the corpus is"
        raise InputError(f"{where}: {problem} empty; give files with text")
    if num_bad > config.max_bad_fraction * num_rows:
        shown = "; ".join(islice(quarantined_rows(s.directory for s in shards), _NUM_SHOWN))
        raise InputError(
            f"{num_bad} of {num_rows} rows cannot be read, more than max_bad_fraction = "
            f"{config.max_bad_fraction} of them. The first: {shown}. "
            f"All are listed in {shards[0].directory.parent}/shard-*/{QUARANTINE_FILE}. "
            "Correct the rows, or raise max_bad_fraction to continue without them"
        )
    if counts["num_units"] == 0:
        raise InputError(
            f"{where}: every piece of text has fewer than units.min_words = "
            f"{config.units.min_words} words; lower it, or choose units.policy line"
        )
    num_dropped, num_documents = int(counts["num_dropped_documents"]), int(counts["num_documents"])
    if num_dropped > config.max_dropped_fraction * num_documents:
        raise InputError(
            f"{where}: {num_dropped:,} of {num_documents:,} documents are dropped, more than "
            f"max_dropped_fraction = {config.max_dropped_fraction}: none of their pieces has "
            f"units.min_words = {config.units.min_words} words. Lower units.min_words, choose "
            "units.policy line, or raise max_dropped_fraction to leave these documents out"
        )


def _losses(counts: Mapping[str, float]) -> list[str]:
    """Describe the dropped rows, documents and pieces, with their counts."""
    num_documents = int(counts["num_documents"])
    reasons = (
        ("num_quarantined", f"rows that cannot be read, listed in each shard's {QUARANTINE_FILE}"),
        ("num_empty", "empty documents"),
        ("num_dropped_documents", f"of {num_documents:,} documents, all pieces too short"),
        ("num_dropped_short", "pieces with fewer than units.min_words words"),
    )
    return [f"{int(counts[name]):,} {reason}" for name, reason in reasons if counts[name]]


def _report(counts: Mapping[str, float]) -> None:
    if lines := _losses(counts):
        progress.say(f"corpus: left out: {'; '.join(lines)}")
    removed, kept = (int(counts[name]) for name in QUOTES_COUNTS)
    if removed:
        progress.say(
            f"corpus: TSV files whose quotation marks enclose fields: {removed:,} (quoting: none "
            "keeps them as text)"
        )
    if kept:
        progress.say(
            f"corpus: TSV files whose quotation marks are kept as text: {kept:,} (quoting: "
            "standard removes them)"
        )


def _remove_stale(out: Path, shards: Sequence[_Shard]) -> None:
    """Remove shards of an earlier plan, and partial shards of killed processes."""
    current = {shard.directory for shard in shards}
    for directory in [*out.glob("shard-*"), *out.glob(".shard-*.partial-*")]:
        if directory not in current:
            shutil.rmtree(directory)
