"""Rows of any corpus as units, taken as they are, with the ids they were given."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from raykd.corpus.lines import place_of
from raykd.corpus.read import BadRow, Document, read_slice
from raykd.corpus.shards import MAX_BAD_FRACTION, QUARANTINE_FILE, Part, digest_of_parts
from raykd.corpus.slices import Slice
from raykd.corpus.units import unit_id
from raykd.corpus.write import ShardWriter
from raykd.errors import InputError
from raykd.locations import Location
from raykd.manifest import Draft, read_manifest, write_once
from raykd.schemas import QUARANTINE

_UNITS_FILE = "units-{:05d}.parquet"
_ID_TYPES = {"string": pa.string(), "int64": pa.int64(), "made": pa.string()}
_ID_WORDS = {"string": "a string", "int64": "a whole number", "made": "missing"}
_BATCH_ROWS = 8192
_BATCH_CHARS = 8 << 20
_NUM_FILES_SHOWN = 3
_NUM_ROWS_SHOWN = 5
_NUM_SUSPECTS = 1000

_Kind = Literal["string", "int64", "made"]
_Unit = tuple[str | int, str]


def check_copies(sources: Sequence[tuple[str, Location]]) -> None:
    """Check that files of equal content give their rows no ids, which would all be repeated.

    Args:
        sources: digest and file, equal digests beside each other.

    Raises:
        InputError: names two such files and the first id.
    """
    for (digest, path), (next_digest, copy) in pairwise(sources):
        if digest != next_digest:
            continue
        rows = read_slice(Slice(path, 0, None, 0))
        first = next((row for row in rows if isinstance(row, Document)), None)
        if first is not None and first.unit_id is not None:
            raise InputError(
                f"{path} and {copy}: the id {first.unit_id!r} appears twice, as the files are "
                "equal; give one of them"
            )


def write_shard(parts: Sequence[Part], directory: Path, shard_bytes: int) -> None:
    """Write one shard: its units, titles before the text, and the rows that could not be read.

    Rows without ids get `units.unit_id`, as one line or row is one unit. Memory: some 16 MiB of
    text, or two rows; files of CSV and TSV are read whole.

    Args:
        parts: what the shard is made of.
        directory: where to.
        shard_bytes: text of a file of units; only what cannot be sliced makes several files.

    Raises:
        InputError: a file is damaged or lacks the text column; some rows have an id and some have
            none, or ids are of two types.
    """

    def write(draft: Draft) -> None:
        kinds: Counter[str] = Counter()
        with ShardWriter(draft.directory, QUARANTINE_FILE, QUARANTINE, "reason") as quarantined:
            batches = _batches(_rows(parts, quarantined, kinds))
            # Its first rows tell the type of the ids.
            first = next(batches)
            id_type = _ID_TYPES[next(iter(kinds), "made")]
            schema = pa.schema([("unit_id", id_type), ("text", pa.string())])
            with ShardWriter(draft.directory, _UNITS_FILE, schema, "text", shard_bytes) as units:
                for columns in chain([first], batches):
                    units.write(pa.record_batch(list(columns), schema=schema))
        draft.counts["num_units"] = kinds.total()
        draft.counts["num_made_ids"] = kinds["made"]
        bad_rows = pq.read_metadata(draft.directory / QUARANTINE_FILE)
        draft.counts["num_quarantined"] = bad_rows.num_rows

    settings = {"shard_bytes": shard_bytes}
    write_once(directory, "given units", settings, {"slices": digest_of_parts(parts)}, write)


def unit_files(written: Sequence[Path]) -> list[Path]:
    """The files of units of these shards' directories, in order."""
    return [path for directory in written for path in sorted(directory.glob("units-*.parquet"))]


def _batches(rows: Iterable[_Unit]) -> Iterator[tuple[list[str | int], list[str]]]:
    """Ids and texts of rows that are written together; none in the last, where there are none."""
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


def _rows(parts: Sequence[Part], quarantined: ShardWriter, kinds: Counter[str]) -> Iterator[_Unit]:
    first = None
    for part in parts:
        for row in read_slice(part.piece):
            if isinstance(row, BadRow):
                columns = [[getattr(row, name)] for name in QUARANTINE.names]
                quarantined.write(pa.record_batch(columns, schema=QUARANTINE))
                continue
            first = first or row.source
            kind = _kind_of(row)
            kinds[kind] += 1
            if len(kinds) > 1:
                where = f"{row.source}, {place_of(row.source, row.offset)}"
                if first != row.source:
                    where = f"{first} and {where}"
                raise InputError(f"{where}: {_mixed(kind, next(iter(kinds)))}")
            given = row.unit_id
            made = unit_id(part.digest, row.offset, 0) if given is None else given
            yield made, f"{row.title} {row.text}" if row.title else row.text


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


def check(shards: Sequence[Sequence[Part]], written: Sequence[Path]) -> int:
    """Check what only all shards together show, but for repeated ids.

    Args:
        shards: as planned.
        written: their directories.

    Returns:
        The number of units.

    Raises:
        InputError: no units; too many bad rows; ids of different kinds in different files.
    """
    counts = [_counts(directory) for directory in written]
    num_units = sum(count["num_units"] for count in counts)
    num_bad = sum(count["num_quarantined"] for count in counts)
    if num_bad > MAX_BAD_FRACTION * (num_units + num_bad):
        shown = "; ".join(islice(_bad_rows(written), _NUM_ROWS_SHOWN))
        raise InputError(
            f"{num_bad:.0f} of {num_units + num_bad:.0f} rows of the corpus cannot be read, more "
            f"than {MAX_BAD_FRACTION:.0%}; mend or remove them. The first: {shown}"
        )
    if num_units == 0:
        raise InputError("the corpus holds no row; give files with text")
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


def id_hashes(path: Path) -> NDArray[np.uint64]:
    """64-bit hashes of the ids that the units of one file were given; none of made ids."""
    if _counts(path.parent)["num_made_ids"]:
        return np.empty(0, np.uint64)
    ids = pq.read_table(path, columns=["unit_id"])["unit_id"]
    if ids.type == pa.int64():
        return np.asarray(ids.to_numpy().view(np.uint64))
    hashes = (xxhash.xxh3_64_intdigest(str(name).encode()) for name in ids.to_pylist())
    return np.fromiter(hashes, np.uint64, len(ids))


def write_hashes(hashes: Iterable[NDArray[np.uint64]], partitions: Sequence[Path]) -> None:
    """Write `id_hashes` of all files to partitions, so that equal ones stand in one of them."""
    num_partitions = np.uint64(len(partitions))
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in partitions]
        for found in hashes:
            partition_of = found % num_partitions
            for number, file in enumerate(files):
                file.write(found[partition_of == number].tobytes())


def repeated_hashes(partition: Path) -> NDArray[np.uint64]:
    """The hashes, each once, that a partition holds more than once."""
    ordered = np.sort(np.fromfile(partition, np.uint64))
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def check_ids(
    repeated: NDArray[np.uint64], shards: Sequence[Sequence[Part]], written: Sequence[Path]
) -> None:
    """Check that no id appears twice.

    Args:
        repeated: hashes that more than one unit's id has.
        shards: as planned.
        written: their directories.

    Raises:
        InputError: names a repeated id and where it stands.
    """
    # All but always the first hash is that of a repeated id, and the rest need not be held.
    for start in range(0, len(repeated), _NUM_SUSPECTS):
        suspects = repeated[start : start + _NUM_SUSPECTS]
        seen: dict[str | int, Sequence[Part]] = {}
        for parts, directory in zip(shards, written, strict=True):
            for path in unit_files([directory]):
                for unit in _ids_of_hashes(path, suspects):
                    if unit in seen:
                        raise InputError(
                            f"{_shown([*seen[unit], *parts])}: the id {unit!r} appears twice; "
                            "give every row an id of its own"
                        )
                    seen[unit] = parts


def _ids_of_hashes(path: Path, hashes: NDArray[np.uint64]) -> list[str | int]:
    rows = np.flatnonzero(np.isin(id_hashes(path), hashes))
    if len(rows) == 0:
        return []
    ids = pq.read_table(path, columns=["unit_id"])["unit_id"]
    found: list[str | int] = ids.take(pa.array(rows)).to_pylist()
    return found


def _shown(parts: Sequence[Part]) -> str:
    """The files of shards: one holds the rows of several small ones, any of which may be meant."""
    places = sorted({str(part.piece.path) for part in parts})
    shown = " and ".join(places[:_NUM_FILES_SHOWN])
    if len(places) > _NUM_FILES_SHOWN:
        shown += f" and {len(places) - _NUM_FILES_SHOWN} more files"
    return shown


def quarantine(written: Sequence[Path]) -> pa.Table:
    """The rows of all shards that could not be read: few, once `check` has passed them."""
    return pa.concat_tables([pq.read_table(path / QUARANTINE_FILE) for path in written])


def _bad_rows(written: Sequence[Path]) -> Iterator[str]:
    for directory in written:
        with pq.ParquetFile(directory / QUARANTINE_FILE) as file:
            for batch in file.iter_batches(_NUM_ROWS_SHOWN):
                for row in batch.to_pylist():
                    place = place_of(row["source"], row["offset"])
                    yield f"{row['source']}, {place}: {row['reason']}"


def _counts(directory: Path) -> dict[str, float]:
    manifest = read_manifest(directory)
    assert manifest is not None, directory
    return manifest.counts
