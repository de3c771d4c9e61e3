"""Small tables (queries, task data) read whole, and the file formats that every reader accepts."""

import csv
import io
import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.errors import InputError
from raykd.locations import Location, explained, open_file, open_stream, size_of
from raykd.manifest import digest_of, digest_of_file, digest_of_stream

Format = Literal["parquet", "jsonl", "text", "csv", "tsv"]
Compression = Literal["gzip", "zstd"]

FORMATS: dict[str, Format] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "text",
    ".csv": "csv",
    ".tsv": "tsv",
}
COMPRESSIONS: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}

ARRAY_OF_ROWS = "one JSON object a line is expected, not an array; unpack it with jq -c '.[]'"

# A table is held in memory as a whole; this also ends a decompression bomb.
MAX_TABLE_BYTES = 1 << 30


def format_of(path: Location) -> tuple[Format, Compression | None]:
    """The format and compression that a file's name states.

    Raises:
        InputError: the suffix is not a known one.
    """
    name = PurePath(str(path))
    suffix = name.suffix
    compression = COMPRESSIONS.get(suffix.lower())
    format_ = FORMATS.get((name.with_suffix("") if compression else name).suffix.lower())
    if format_ is None:
        raise InputError(
            f"{path}: unknown suffix {suffix!r}; known are {' '.join(FORMATS)}, "
            f"each but .parquet also with {' or '.join(COMPRESSIONS)}"
        )
    if format_ == "parquet" and compression:
        raise InputError(f"{path}: Parquet is compressed inside; unpack the file")
    return format_, compression


def source_digest(path: Location) -> str:
    """Digest of what a file says: its content, and the format that its suffix says it is in.

    Raises:
        InputError: the file is missing or not readable, or its suffix is not a known one.
    """
    with explained(path):
        return digest_of({"content": _digest_of_content(path), "format": format_of(path)})


def _digest_of_content(path: Location) -> str:
    if isinstance(path, Path):
        return digest_of_file(path)
    with open_stream(path, None) as file:
        return digest_of_stream(file)


def open_bytes(path: Location, compression: Compression | None) -> pa.NativeFile:
    """Open a file's decompressed bytes; use it inside `explained`.

    Raises:
        InputError: the file is a directory, or has no byte where a compressed stream should be.
    """
    if isinstance(path, Path) and path.is_dir():
        raise InputError(f"{path}: is a directory, a file is expected")
    if compression is None:
        return open_file(path)
    if size_of(path) == 0:
        raise InputError(f"{path}: is empty, not a {compression} file; get the file again")
    return open_stream(path, compression)


def read_table(
    path: Location,
    columns: Sequence[str] | None = None,
    *,
    text_columns: Collection[str] = (),
    id_columns: Collection[str] = (),
) -> pa.Table:
    """Read a whole Parquet, JSONL, CSV or TSV file, the last three also as .gz or .zst.

    Text files are strict UTF-8. CSV follows RFC 4180; in TSV, as GLUE ships it, a quotation mark is
    an ordinary character, and a field holds neither tab nor line break. The first line of both
    names the columns. A column of theirs is int64 or float64 if every value is written as a number,
    otherwise string. Strings are never null there, and keep their white space.

    Args:
        path: the file; its suffix decides the format.
        columns: the columns wanted, in this order; None for all.
        text_columns: those of CSV and TSV that are string even if every value is a number.
        id_columns: those of CSV and TSV that are int64 or string, never float64.

    Raises:
        InputError: names the file, and the line or column at fault.
    """
    format_, compression = format_of(path)
    if format_ == "text":
        raise InputError(f"{path}: a table is expected: .parquet, .jsonl, .csv or .tsv")
    with explained(path):
        if format_ == "parquet":
            table = _read_parquet(path, columns)
        elif format_ == "jsonl":
            table = _parse_jsonl(path, _read_text(path, compression))
        else:
            parse = _parse_csv if format_ == "csv" else _parse_tsv
            written = parse(path, _read_text(path, compression))
            numbers = dict.fromkeys(id_columns, _NUMBERS[:1]) | dict.fromkeys(text_columns, ())
            table = pa.table(
                {
                    name: _typed(values, numbers.get(name, _NUMBERS))
                    for name, values in written.items()
                }
            )
    return table if columns is None else table.select(require_columns(path, table, columns))


def require_columns(
    path: Location, table: pa.Table | pa.Schema, columns: Sequence[str]
) -> list[str]:
    """The columns asked for.

    Args:
        path: where the table comes from, for the message.
        table: a table, or its schema.
        columns: names that must be there.

    Raises:
        InputError: a column is missing, and which there are; or it appears twice.
    """
    schema = table if isinstance(table, pa.Schema) else table.schema
    if not schema.names:
        raise InputError(f"{path}: is empty; it needs the columns {', '.join(columns)}")
    missing = [name for name in columns if name not in schema.names]
    if missing:
        raise InputError(
            f"{path}: no column {missing[0]!r}; the columns are {', '.join(schema.names)}; rename "
            f"one to {missing[0]!r}, or name it where an option or a key of the recipe takes it"
        )
    repeated = [name for name in columns if schema.names.count(name) > 1]
    if repeated:
        raise InputError(f"{path}: the column {repeated[0]!r} appears twice; rename one of them")
    return list(columns)


def _read_parquet(path: Location, columns: Sequence[str] | None) -> pa.Table:
    with open_bytes(path, None) as source, pq.ParquetFile(source) as file:
        wanted = None if columns is None else require_columns(path, file.schema_arrow, columns)
        _check_size(path, sum(group.total_byte_size for group in _row_groups(file.metadata)))
        table = file.read(columns=wanted)
    table.validate(full=True)
    for index, field in enumerate(table.schema):
        if _is_text(field.type) and field.type != pa.string():
            table = table.set_column(index, field.name, table.column(index).cast(pa.string()))
    return table


def _row_groups(metadata: pq.FileMetaData) -> Iterator[pq.RowGroupMetaData]:
    return (metadata.row_group(index) for index in range(metadata.num_row_groups))


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        return _is_text(type_.value_type)
    return bool(
        pa.types.is_string(type_)
        or pa.types.is_large_string(type_)
        or pa.types.is_string_view(type_)
    )


def _read_text(path: Location, compression: Compression | None) -> str:
    with open_bytes(path, compression) as file:
        data = file.read(MAX_TABLE_BYTES + 1)
    _check_size(path, len(data))
    try:
        return str(data, "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: not UTF-8 at byte {error.start}; convert the file to UTF-8"
        ) from None


def _check_size(path: Location, num_bytes: int) -> None:
    if num_bytes > MAX_TABLE_BYTES:
        raise InputError(
            f"{path}: more than {MAX_TABLE_BYTES:,} bytes of data, too large for a table that is "
            "held in memory; split it"
        )


def _parse_jsonl(path: Location, text: str) -> pa.Table:
    rows: list[dict[str, Any]] = []
    # A dict keeps the order in which the keys appear.
    names: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if line.lstrip().startswith("["):
            raise InputError(f"{path}, line {number}: {ARRAY_OF_ROWS}")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}: not JSON ({error}); mend or remove the line"
            ) from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: a JSON object is expected, one a line")
        rows.append(row)
        names.update(dict.fromkeys(row))
    return pa.table({name: _jsonl_column(path, name, rows) for name in names})


def _jsonl_column(path: Location, name: str, rows: Sequence[dict[str, Any]]) -> pa.Array:
    try:
        return pa.array([row.get(name) for row in rows])
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path}: the values of {name!r} are not of one type ({reason[:200]})"
        ) from None


def _parse_csv(path: Location, text: str) -> dict[str, Sequence[str]]:
    # A setting of the process, 128 KiB unless it is raised; the whole text is bounded already.
    csv.field_size_limit(MAX_TABLE_BYTES)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        records = [(reader.line_num, record) for record in reader if record]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV ({error})") from None
    return _from_records(path, records)


def _parse_tsv(path: Location, text: str) -> dict[str, Sequence[str]]:
    lines = ((number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1))
    return _from_records(path, [(number, line.split("\t")) for number, line in lines if line])


def _from_records(
    path: Location, records: Sequence[tuple[int, list[str]]]
) -> dict[str, Sequence[str]]:
    if not records:
        raise InputError(f"{path}: is empty; the first line must name the columns")
    (_, names), *rows = records
    if len(set(names)) < len(names):
        raise InputError(f"{path}: a column name appears twice in the first line")
    for number, record in rows:
        if len(record) != len(names):
            raise InputError(
                f"{path}, line {number}: {len(record)} fields where the first line names "
                f"{len(names)} columns"
            )
    values = zip(*(record for _, record in rows), strict=True) if rows else ((),) * len(names)
    return dict(zip(names, values, strict=True))


# `007`, `1_000` and a number of twenty digits are names: an integer must read back as written.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DECIMAL = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]{0,14})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_Numbers = tuple[tuple[re.Pattern[str], Callable[[str], float], pa.DataType], ...]
_NUMBERS: _Numbers = ((_INTEGER, int, pa.int64()), (_DECIMAL, float, pa.float64()))


def _typed(values: Sequence[str], numbers: _Numbers) -> pa.Array:
    for pattern, convert, type_ in numbers:
        if values and all(map(pattern.fullmatch, values)):
            return pa.array([convert(value) for value in values], type_)
    return pa.array(values, pa.string())
