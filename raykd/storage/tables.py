"""Reader of small tables (queries, task data); only the columns that are used are validated."""

import re
from collections.abc import Callable, Collection, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from raykd import progress
from raykd.errors import InputError
from raykd.storage import delimited, formats
from raykd.storage.delimited import AS_NAMED, Layout
from raykd.storage.formats import Compression, check_size, format_of, open_bytes
from raykd.storage.json_lines import Choose, read_json_lines
from raykd.storage.locations import Location, explained

# Rows of Parquet that are decoded before their size is known.
_STEP_ROWS = 1024


def read_table(
    path: Location,
    columns: Sequence[str] | None = None,
    *,
    choose: Choose | None = None,
    text_columns: Collection[str] = (),
    id_columns: Collection[str] = (),
    layout: Layout = AS_NAMED,
) -> pa.Table:
    """Read a whole Parquet, JSONL, CSV or TSV file, the last three also as .gz or .zst.

    Text files are strict UTF-8. A column of CSV or TSV is int64 or float64 if every value is
    written as a number, otherwise string. Its strings are never null, and keep their white space.

    Args:
        path: input file; see `formats.format_of` for its format.
        columns: columns to read, in this order, or those that `choose` may return; None: all.
            Values of other columns are not validated.
        choose: function from the names of all columns to the columns to read, in order.
        text_columns: columns of text: in CSV and TSV even if every value is a number; in JSONL
            another value is an error; in Parquet bytes are decoded.
        id_columns: columns of CSV and TSV that are int64 or string, never float64.
        layout: format options of CSV and TSV files.

    Raises:
        InputError: the file is invalid; the message has the file, and the line or column.
    """
    format_, compression = format_of(path)
    if format_ == "text":
        raise InputError(
            f"{path}: a table is expected: .parquet, .jsonl, .csv or .tsv; rename the file if it "
            "is one (.tsv where tabs separate the columns)"
        )

    def chosen(names: Sequence[str]) -> list[str]:
        if choose is not None:
            # A file without rows has no known columns.
            return require_columns(path, names, choose(names)) if names else []
        return require_columns(path, names, columns if columns is not None else names)

    with explained(path):
        if format_ == "parquet":
            return _read_parquet(path, chosen, text_columns)
        if format_ == "jsonl":
            return read_json_lines(path, compression, columns, chosen, text_columns)
        parsed = delimited.parse(path, _read_data(path, compression), format_, layout)
        if note := parsed.note(path):
            progress.say(note)
        names = columns_to_read(path, parsed.names, chosen, layout)
        fault = next((row for row in parsed.rows if row.fault), None)
        if fault is not None:
            raise InputError(
                f"{path}, line {fault.line}: {fault.fault}; correct or remove the line"
            )
        numbers = dict.fromkeys(id_columns, _NUMBERS[:1]) | dict.fromkeys(text_columns, ())
        return pa.table(
            {name: typed(column_of(parsed, name), numbers.get(name, _NUMBERS)) for name in names}
        )


def require_columns(path: Location, names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """Check that a table has the required columns, and return them.

    Args:
        path: source of the table, for the message.
        names: names of all columns.
        columns: names of the required columns.

    Raises:
        InputError: a column is missing or repeated.
    """
    if not names:
        raise InputError(f"{path}: is empty; it needs the columns {', '.join(columns)}")
    missing = [name for name in columns if name not in names]
    if missing:
        raise InputError(
            f"{path}: no column {missing[0]!r}; the columns are {', '.join(names)}; rename "
            f"one to {missing[0]!r}, or give its name with an option or a key of the recipe"
        )
    counted = list(names)
    repeated = [name for name in columns if counted.count(name) > 1]
    if repeated:
        raise InputError(f"{path}: the column {repeated[0]!r} appears twice; rename one of them")
    return list(columns)


def columns_to_read(
    path: Location, names: Sequence[str], choose: Choose, layout: Layout
) -> Sequence[str]:
    """Choose the columns to read of a CSV or TSV file.

    Raises:
        InputError: the first line is a row rather than column names, or has another delimiter than
            the format; see also `choose`.
    """
    try:
        return choose(names)
    except InputError:
        if other := delimited.other_delimiter(names):
            raise InputError(
                f"{path}: its first line is a single column, {names[0]!r:.80}, so the columns seem "
                f"to be separated by {other}; commas separate those of .csv and tabs those of "
                ".tsv: rename or convert the file"
            ) from None
        if layout.columns is None and delimited.looks_like_data(names):
            shown = ", ".join(names)
            raise InputError(
                f"{path}: the first line must name the columns, and it looks like data "
                f"({shown:.80}), so the file has no header line; name its columns with the key "
                "columns: [...] of the recipe's section, or the option --columns (for queries: "
                "--query-columns)"
            ) from None
        raise


def column_of(table: delimited.Delimited, name: str) -> list[str]:
    """List the values of one column, of valid rows."""
    index = list(table.names).index(name)
    return [row.fields[index] for row in table.rows if not row.fault]


def _read_parquet(path: Location, choose: Choose, text_columns: Collection[str]) -> pa.Table:
    with (
        open_bytes(path, None) as source,
        pq.ParquetFile(source, page_checksum_verification=True) as file,
    ):
        chosen = list(choose(file.schema_arrow.names))
        metadata = file.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        check_size(path, parquet_bytes(groups, chosen))
        table = _read_columns(path, file, chosen)
    table.validate(full=True)
    for index, field in enumerate(table.schema):
        column = table.column(index)
        is_text = holds_text(field.type)
        # Other types in a column of text are checked by the caller.
        if field.name in text_columns and not is_text and holds_text(field.type, binary=True):
            column, is_text = _as_strings(path, field.name, column), True
        if is_text and column.type != pa.string():
            column = column.cast(pa.string())
        table = table.set_column(index, field.name, column)
    return table


def _read_columns(path: Location, file: pq.ParquetFile, names: Sequence[str]) -> pa.Table:
    """Read columns in steps: few encoded bytes may be many decoded ones."""
    batches, num_bytes = [file.schema_arrow.empty_table().select(names)], 0
    for batch in file.iter_batches(_STEP_ROWS, columns=names):
        columns = {
            name: column.dictionary_decode()
            if pa.types.is_dictionary(column.type) and holds_text(column.type, binary=True)
            else column
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
        num_bytes += sum(column.nbytes for column in columns.values())
        check_size(path, num_bytes)
        batches.append(pa.table({name: columns[name] for name in names}))
    return pa.concat_tables(batches[1:] or batches)


def parquet_bytes(groups: Sequence[pq.RowGroupMetaData], names: Collection[str]) -> int:
    """Decompressed, encoded bytes of some columns of Parquet row groups."""
    chunks = (group.column(number) for group in groups for number in range(group.num_columns))
    return sum(
        chunk.total_uncompressed_size
        for chunk in chunks
        if chunk.path_in_schema in names or chunk.path_in_schema.partition(".")[0] in names
    )


def holds_text(type_: pa.DataType, *, binary: bool = False) -> bool:
    """Check for a string type, or with `binary` a bytes type, or a dictionary of these."""
    if pa.types.is_dictionary(type_):
        return holds_text(type_.value_type, binary=binary)
    name = str(type_).removeprefix("large_").removesuffix("_view")
    return name in (("string", "binary") if binary else ("string",))


def _as_strings(path: Location, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        for row, value in enumerate(column.to_pylist()):
            try:
                str(value or b"", "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, row {row} (counted from 0): {name!r} is not UTF-8 at byte "
                    f"{error.start}; convert it to UTF-8"
                ) from None
        raise


def _read_data(path: Location, compression: Compression | None) -> bytes:
    with open_bytes(path, compression) as file:
        data: bytes = file.read(formats.MAX_TABLE_BYTES + 1)
    check_size(path, len(data))
    try:
        str(data, "utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: not UTF-8 at byte {error.start}; convert the file to UTF-8"
        ) from None
    return data


# `007`, `1_000` and a number of twenty digits are names: an integer must read back as written.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_DECIMAL = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]{0,14})(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_Numbers = tuple[tuple[re.Pattern[str], Callable[[str], float], pa.DataType], ...]
_NUMBERS: _Numbers = ((_INTEGER, int, pa.int64()), (_DECIMAL, float, pa.float64()))


def typed(values: Sequence[str], numbers: _Numbers = _NUMBERS) -> pa.Array:
    """Convert values of CSV or TSV to int64 or float64 if all are numbers, else to strings."""
    for pattern, convert, type_ in numbers:
        if values and all(map(pattern.fullmatch, values)):
            return pa.array([convert(value) for value in values], type_)
    return pa.array(values, pa.string())


def typed_ids(values: Sequence[str]) -> list[str] | list[int]:
    """Convert ids of CSV or TSV to integers if all are written as such, else to strings."""
    ids: list[str] | list[int] = typed(values, _NUMBERS[:1]).to_pylist()
    return ids
