"""Custom units: the rows of any corpus as units, with their own ids."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.corpus.lines import place_of
from raykd.corpus.read import read_slice
from raykd.corpus.rows import QUOTES_COUNTS, BadRow, Columns, Document, EmptyRow, QuotesNote
from raykd.corpus.shards import (
    MAX_BAD_FRACTION,
    NO_TEXT,
    QUARANTINE_FILE,
    Empty,
    Part,
    check_empty,
    digest_of_parts,
    quarantined_rows,
)
from raykd.corpus.slices import Slice
from raykd.corpus.units import unit_id
from raykd.corpus.write import ShardWriter
from raykd.errors import InputError
from raykd.storage.delimited import AS_NAMED, Layout
from raykd.storage.locations import Location
from raykd.storage.manifest import Draft, read_manifest, write_unless_kept
from raykd.storage.schemas import QUARANTINE

_UNITS_FILE = "units-{:05d}.parquet"
_ID_TYPES = {"string": pa.string(), "int64": pa.int64(), "made": pa.string()}
_ID_WORDS = {"string": "a string", "int64": "a whole number", "made": "missing"}
_BATCH_ROWS = 8192
_BATCH_CHARS = 8 << 20
_NUM_ROWS_SHOWN = 5
# Counts that are reported, in addition to the quarantined rows.
_NOTED_COUNTS = ("num_empty", "num_odd_titles", *QUOTES_COUNTS)

_Kind = Literal["string", "int64", "made"]
_Unit = tuple[str | int, str]


@dataclass(frozen=True)
class Reading:
    """Options for reading the files of a custom corpus.

    Attributes:
        exclude: patterns of files and folders to leave out (see `directories.list_files`).
        layout: format options of CSV and TSV files.
        empty: handling of documents without text.
    """

    exclude: tuple[str, ...] = ()
    layout: Layout = AS_NAMED
    empty: Empty = "skip"

    def settings(self) -> dict[str, Any]:
        """Settings that determine the units, in addition to the files."""
        columns = self.layout.columns
        return {
            "columns": None if columns is None else list(columns),
            "quoting": self.layout.quoting,
            "empty": self.empty,
        }


AS_FOUND = Reading()


def check_copies(sources: Sequence[tuple[str, Location]], reading: Reading = AS_FOUND) -> None:
    """Check that no two files of equal content have row ids, which would all be repeated.

    Args:
        sources: pairs (digest, file), sorted by digest.
        reading: format options of the files.

    Raises:
        InputError: two such files exist; the message has the files and the first id.
    """
    for (digest, path), (next_digest, copy) in pairwise(sources):
        if digest != next_digest:
            continue
        rows = read_slice(Slice(path, 0, None, 0), Columns(layout=reading.layout))
        first = next((row for row in rows if isinstance(row, Document)), None)
        if first is not None and first.unit_id is not None:
            raise InputError(
                f"{path} and {copy}: the id {first.unit_id!r} appears twice, as the files are "
                "equal; give one of them"
            )


def write_shard(
    parts: Sequence[Part], directory: Path, shard_bytes: int, reading: Reading = AS_FOUND
) -> bool:
    """Write the units of one shard, titles prepended, and quarantine the unreadable rows.

    Empty documents are counted and skipped; if they are errors, they are quarantined.

    Rows without ids get `units.unit_id`. Memory: about 16 MiB of text, or two rows; CSV and TSV
    files are read whole.

    Args:
        parts: slices of files that make up the shard.
        directory: output directory.
        shard_bytes: bytes of text per file of units; only unsliceable files need several.
        reading: format options of the files.

    Returns:
        True if the shard was complete already.

    Raises:
        InputError: a file is damaged or has no text column, only some rows have an id, or ids are
            of two types.
    """

    def write(draft: Draft) -> None:
        kinds: Counter[str] = Counter()
        noted = Counter(dict.fromkeys(_NOTED_COUNTS, 0))
        with ShardWriter(draft.directory, QUARANTINE_FILE, QUARANTINE, "reason") as quarantined:
            batches = _batches(_rows(parts, quarantined, kinds, noted, reading))
            # The first rows determine the type of the ids.
            first = next(batches)
            id_type = _ID_TYPES[next(iter(kinds), "made")]
            schema = pa.schema([("unit_id", id_type), ("text", pa.string())])
            with ShardWriter(draft.directory, _UNITS_FILE, schema, "text", shard_bytes) as units:
                for columns in chain([first], batches):
                    units.write(pa.record_batch(list(columns), schema=schema))
        draft.counts["num_units"] = kinds.total()
        draft.counts["num_made_ids"] = kinds["made"]
        draft.counts.update(noted)
        num_bad = pq.read_metadata(draft.directory / QUARANTINE_FILE).num_rows
        if reading.empty == "error":
            num_bad -= noted["num_empty"]
        draft.counts["num_quarantined"] = num_bad

    settings = {"shard_bytes": shard_bytes, **reading.settings()}
    inputs = {"slices": digest_of_parts(parts)}
    return write_unless_kept(directory, "given units", settings, inputs, write)[1]


def unit_files(written: Sequence[Path]) -> list[Path]:
    """List the files of units in the directories of shards, in order."""
    return [path for directory in written for path in sorted(directory.glob("units-*.parquet"))]


def _batches(rows: Iterable[_Unit]) -> Iterator[tuple[list[str | int], list[str]]]:
    """Group rows into batches of ids and texts; the last batch may be empty."""
    ids: list[str | int] = []
    texts: list[str] = []
    num_chars = 0
    for unit, text in rows:
        ids.append(unit)
        texts.append(text)
        num_chars += len(text)
        if len(ids) == _BATCH_ROWS or num_chars >= _BATCH_CHARS:
            yield ids, texts
            ids, texts, num_chars = [], [], 0
    yield ids, texts


def _rows(
    parts: Sequence[Part],
    quarantined: ShardWriter,
    kinds: Counter[str],
    noted: Counter[str],
    reading: Reading,
) -> Iterator[_Unit]:
    first = None
    columns = Columns(layout=reading.layout)
    for part in parts:
        for row in read_slice(part.piece, columns):
            if isinstance(row, QuotesNote):
                noted[row.count_name] += 1
                continue
            if isinstance(row, EmptyRow):
                noted["num_empty"] += 1
                if reading.empty == "skip":
                    continue
                row = BadRow(row.source, row.offset, NO_TEXT)
            if isinstance(row, BadRow):
                values = [[getattr(row, name)] for name in QUARANTINE.names]
                quarantined.write(pa.record_batch(values, schema=QUARANTINE))
                continue
            noted["num_odd_titles"] += row.has_odd_title
            first = first or row.source
            kind = _kind_of(row)
            kinds[kind] += 1
            if len(kinds) > 1:
                where = f"{row.source}, {place_of(row.source, row.offset)}"
                if first != row.source:
                    where = f"{first} and {where}"
                raise InputError(f"{where}: {_mixed(kind, next(iter(kinds)))}")
            own_id = row.unit_id
            unit = unit_id(part.digest, row.offset, 0) if own_id is None else own_id
            yield unit, f"{row.title} {row.text}" if row.title else row.text


def _kind_of(row: Document) -> _Kind:
    if row.unit_id is None:
        return "made"
    return "int64" if isinstance(row.unit_id, int) else "string"


def _mixed(kind: str, other: str) -> str:
    remedy = "give every row an id of one type, or none at all"
    if {kind, other} == {"string", "int64"}:
        remedy += (
            "; as a CSV or TSV file of digits alone holds whole numbers, give its rows as JSONL "
            "with the ids in quotation marks"
        )
    return (
        f"the id (unit_id or doc_id) is {_ID_WORDS[kind]}, in an earlier row it is "
        f"{_ID_WORDS[other]}; {remedy}"
    )


def check(
    shards: Sequence[Sequence[Part]], written: Sequence[Path], reading: Reading = AS_FOUND
) -> int:
    """Check the counts and id types of all shards; `check_ids` checks for repeated ids.

    Args:
        shards: planned shards.
        written: directories of the shards.
        reading: format options of the files.

    Returns:
        The number of units.

    Raises:
        InputError: there are no units, empty documents although they are errors, too many bad rows,
            or ids of different types.
    """
    counts = [_counts(directory) for directory in written]
    num_units = sum(count["num_units"] for count in counts)
    num_bad = sum(count["num_quarantined"] for count in counts)
    num_empty = int(sum(count["num_empty"] for count in counts))
    num_rows = int(num_units + num_bad + num_empty)
    check_empty(reading.empty, num_empty, num_rows, written, "--empty skip")
    if num_bad > MAX_BAD_FRACTION * (num_units + num_bad):
        shown = "; ".join(islice(quarantined_rows(written), _NUM_ROWS_SHOWN))
        raise InputError(
            f"{num_bad:.0f} of {num_units + num_bad:.0f} rows of the corpus cannot be read, more "
            f"than {MAX_BAD_FRACTION:.0%}; correct or remove them. The first: {shown}"
        )
    if num_units == 0:
        problem = f"all {num_empty:,} documents of the corpus are empty"
        raise InputError(
            f"{problem if num_empty else 'the corpus has no rows'}; give files with text"
        )
    kinds: dict[str, Location] = {}
    for parts, directory, count in zip(shards, written, counts, strict=True):
        if count["num_units"]:
            id_type = pq.read_schema(unit_files([directory])[0]).field("unit_id").type
            kind = "made" if count["num_made_ids"] else str(id_type)
            kinds.setdefault(kind, parts[0].piece.path)
    if len(kinds) > 1:
        (first, path), (other, other_path) = list(kinds.items())[:2]
        raise InputError(f"{path} and {other_path}: {_mixed(other, first)}")
    return int(num_units)


def noted_counts(written: Sequence[Path]) -> dict[str, float]:
    """Count empty documents, non-text titles and TSV files with quotation marks in all shards."""
    counts = [_counts(directory) for directory in written]
    return {name: sum(count[name] for count in counts) for name in _NOTED_COUNTS}


def quarantine(written: Sequence[Path]) -> pa.Table:
    """Read the quarantined rows of all shards; `check` has bounded their number."""
    return pa.concat_tables([pq.read_table(path / QUARANTINE_FILE) for path in written])


def _counts(directory: Path) -> dict[str, float]:
    manifest = read_manifest(directory)
    assert manifest is not None, directory
    return manifest.counts
