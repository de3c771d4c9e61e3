"""Row-by-row reader of slices; unreadable rows are returned as such."""

from collections.abc import Iterator, Sequence

from raykd.corpus.lines import lines_of, read_blocks
from raykd.corpus.parquet_rows import parquet_batches, rows_of_batch
from raykd.corpus.rows import (
    ALL_COLUMNS,
    BadRow,
    Columns,
    QuotesNote,
    Row,
    document_of,
    row_of_line,
)
from raykd.corpus.slices import Slice
from raykd.storage import delimited
from raykd.storage.delimited import Layout
from raykd.storage.formats import MAX_TABLE_BYTES, check_size, format_of, open_bytes
from raykd.storage.locations import Location, explained, shown
from raykd.storage.tables import column_of, columns_to_read, require_columns, typed_ids


def read_slice(piece: Slice, columns: Columns = ALL_COLUMNS) -> Iterator[Row]:
    """Stream the rows of a slice; a line belongs to the slice in which it starts.

    In text files each line is a document. Blank lines of text and JSONL files are skipped. All
    files are UTF-8.

    Raises:
        InputError: the file is missing, damaged or truncated, expands too much, or has no text
            column.
    """
    format_, compression = format_of(piece.path)
    source = shown(piece.path)
    with explained(piece.path):
        if format_ == "parquet":
            for row_number, batch in parquet_batches(piece, columns):
                yield from rows_of_batch(source, row_number, batch, columns)
        elif format_ in ("csv", "tsv"):
            yield from table_rows(piece.path, columns)
        else:
            of_json = columns if format_ == "jsonl" else None
            for block in read_blocks(piece, compression):
                for offset, line in lines_of(block):
                    row = row_of_line(source, offset, line, of_json)
                    if row is not None:
                        yield row


def parsed_table(path: Location, layout: Layout) -> delimited.Delimited:
    """Parse a whole CSV or TSV file.

    Raises:
        InputError: the file is too large, or its header line cannot be read.
    """
    format_, compression = format_of(path)
    assert format_ in ("csv", "tsv")
    with open_bytes(path, compression) as file:
        data: bytes = file.read(MAX_TABLE_BYTES + 1)
    check_size(path, len(data))
    return delimited.parse(path, data, format_, layout)


def table_rows(path: Location, columns: Columns) -> Iterator[Row]:
    """Read the rows of a whole CSV or TSV file; offsets count rows from 0.

    The first row of a TSV file with quotation marks is a note on its quoting, if it was detected.

    Raises:
        InputError: the file is too large, its header line cannot be read, or it has no text column.
    """
    table = parsed_table(path, columns.layout)
    names = list(
        columns_to_read(
            path, table.names, lambda names: _columns_read(path, names, columns), columns.layout
        )
    )
    places = [table.names.index(name) for name in names]
    # Ids are integers if all are written as such, otherwise strings.
    ids = [name for name in names if name in columns.ids]
    source = shown(path)
    typed: dict[str, Iterator[str | int]] = {
        name: iter(typed_ids(column_of(table, name))) for name in ids
    }
    if table.has_quotes:
        yield QuotesNote(source, table.is_quoted)
    for number, row in enumerate(table.rows):
        if row.fault:
            yield BadRow(source, number, f"{row.fault} (line {row.line})")
            continue
        values: dict[str, str | int] = {
            name: row.fields[place] for name, place in zip(names, places, strict=True)
        }
        values |= {name: next(values_of) for name, values_of in typed.items()}
        yield document_of(source, number, values, columns)


def _columns_read(path: Location, names: Sequence[str], columns: Columns) -> list[str]:
    require_columns(path, names, [columns.text])
    optional = [*columns.ids, *([columns.title] if columns.title else [])]
    return require_columns(path, names, [columns.text, *(n for n in optional if n in names)])
