"""Slices of files to documents, row by row; rows that cannot be read are returned."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.corpus.lines import MAX_DOCUMENT_BYTES, lines_of, read_blocks
from raykd.corpus.slices import Slice
from raykd.errors import InputError
from raykd.locations import READ_BYTES, Location, explained
from raykd.tables import ARRAY_OF_ROWS, format_of, open_bytes, read_table, require_columns

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 16_384
# Rows decoded at once, before their bytes are known; fewer would cost time where rows are short.
_STEP_ROWS = 256
_STEP_BYTES = 128 << 10
_INT64_MAX = (1 << 63) - 1


@dataclass(frozen=True)
class Document:
    """One document; `offset` is the byte of its line, or its row in Parquet, CSV and TSV."""

    source: str
    offset: int
    text: str
    unit_id: str | int | None = None
    title: str | None = None


@dataclass(frozen=True)
class BadRow:
    """A row that could not be read, for the quarantine table."""

    source: str
    offset: int
    reason: str


@dataclass(frozen=True)
class Columns:
    """Which columns of Parquet, JSONL, CSV and TSV to read.

    The first of `ids` that a row has is its id; a row with a title may lack text.
    """

    text: str = "text"
    ids: tuple[str, ...] = ("unit_id", "doc_id")
    title: str | None = "title"


def read_slice(piece: Slice, columns: Columns = Columns()) -> Iterator[Document | BadRow]:
    """Stream the rows of a slice; a line belongs to the slice in which it starts.

    In text files a line is a document. Blank lines are skipped there and in JSONL. All is UTF-8.

    Raises:
        InputError: the file is missing, damaged or cut off, expands more than `MAX_EXPANSION`
            times, or its table has no such text column.
    """
    format_, compression = format_of(piece.path)
    source = str(piece.path)
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


def table_rows(path: Location, columns: Columns) -> Iterator[Document | BadRow]:
    """The rows of a CSV or TSV file."""
    text_columns = [columns.text, *([columns.title] if columns.title else [])]
    table = read_table(path, text_columns=text_columns, id_columns=columns.ids)
    require_columns(path, table, [columns.text])
    for number, row in enumerate(table.to_pylist()):
        yield _document(str(path), number, row, columns)


def parquet_batches(piece: Slice, columns: Columns) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Stream the row groups of a slice: number of the first row, and the columns there are.

    Pages are read one by one and decoded in steps of at most 256 rows, which are gathered to 8 MiB.
    Memory depends neither on the row group nor on the file, but on the longest page and step: a
    batch of more than 8 MiB is one step. Where the schema says dictionary, batches are decoded and
    the dictionary is held whole. Use it inside `explained`.

    Raises:
        InputError: no such text column, or one that holds no text.
    """
    path = piece.path
    with (
        open_bytes(path, None) as source,
        pq.ParquetFile(
            source, page_checksum_verification=True, pre_buffer=False, buffer_size=READ_BYTES
        ) as file,
    ):
        schema, metadata = file.schema_arrow, file.metadata
        require_columns(path, schema, [columns.text])
        _check_holds_text(path, schema.field(columns.text))
        optional = [*columns.ids, *([columns.title] if columns.title else [])]
        names = [columns.text, *(name for name in optional if name in schema.names)]
        require_columns(path, schema, names)
        stop = metadata.num_row_groups if piece.stop is None else piece.stop
        row_number = sum(metadata.row_group(index).num_rows for index in range(piece.start))
        groups = [metadata.row_group(index) for index in range(piece.start, stop)]
        num_rows = sum(group.num_rows for group in groups)
        row_bytes = sum(group.total_byte_size for group in groups) // max(num_rows, 1) + 1
        # As encoded: of texts that repeat, or of a few long ones, it says little.
        step_rows = min(max(_STEP_BYTES // row_bytes, 1), _STEP_ROWS)
        read_rows = step_rows
        if pa.types.is_dictionary(schema.field(columns.text).type):
            # Each batch brings the dictionary again, and holds a text once however often it stands.
            read_rows = min(max(_BATCH_BYTES // row_bytes, 1), _BATCH_ROWS)
        batches = file.iter_batches(read_rows, row_groups=range(piece.start, stop), columns=names)
        has_dictionary = any(pa.types.is_dictionary(schema.field(name).type) for name in names)
        steps = _decoded(batches, step_rows) if has_dictionary else batches
        for batch in _gathered(steps):
            yield row_number, batch
            row_number += batch.num_rows


def _decoded(batches: Iterable[pa.RecordBatch], num_rows: int) -> Iterator[pa.RecordBatch]:
    """Batches without dictionaries, of so many rows at most."""
    for batch in batches:
        for start in range(0, batch.num_rows, num_rows):
            step = batch.slice(start, num_rows)
            columns = [
                column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
                for column in step.columns
            ]
            yield pa.record_batch(columns, names=step.schema.names)


def _gathered(steps: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Steps joined up to `_BATCH_BYTES` and `_BATCH_ROWS`; a larger one is a batch of its own."""
    gathered: list[pa.RecordBatch] = []
    num_bytes = num_rows = 0
    for step in steps:
        num_bytes += step.nbytes
        num_rows += step.num_rows
        if gathered and (num_bytes > _BATCH_BYTES or num_rows > _BATCH_ROWS):
            yield pa.concat_batches(gathered)
            gathered, num_bytes, num_rows = [], step.nbytes, step.num_rows
        gathered.append(step)
    if gathered:
        yield pa.concat_batches(gathered)


def rows_of_batch(
    source: str, row_number: int, batch: pa.RecordBatch, columns: Columns
) -> Iterator[Document | BadRow]:
    """The rows of a batch of Parquet."""
    names = batch.schema.names
    values = [_values(batch.column(name)) for name in names]
    for number, row in enumerate(zip(*values, strict=True), start=row_number):
        yield _document(source, number, dict(zip(names, row, strict=True)), columns)


def _check_holds_text(path: Location, field: pa.Field) -> None:
    type_ = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if str(type_).removeprefix("large_").removesuffix("_view") not in ("string", "binary"):
        raise InputError(f"{path}: column {field.name!r} holds {field.type}, text is expected")


def _values(column: pa.Array) -> list[Any]:
    """Python values; strings and binaries that are not UTF-8 stay bytes."""
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        values = [item.as_buffer().to_pybytes() if item.is_valid else None for item in column]
    return [_as_text(value) if isinstance(value, bytes) else value for value in values]


def _as_text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def row_of_line(
    source: str, offset: int, line: bytes | None, columns: Columns | None
) -> Document | BadRow | None:
    """The document of a line of JSONL, or of text if `columns` is None; None where it is blank."""
    if line is None:
        return BadRow(source, offset, f"the line has more than {MAX_DOCUMENT_BYTES:,} bytes")
    try:
        text = line.removeprefix(_BYTE_ORDER_MARK).decode() if offset == 0 else line.decode()
    except UnicodeDecodeError as error:
        return BadRow(source, offset, f"not UTF-8 at byte {error.start} of the line")
    if not text or text.isspace():
        return None
    if columns is not None:
        return _json_document(source, offset, text, columns)
    text = text.removesuffix("\r")
    return _text_or_bad(source, offset, text, Document(source, offset, text))


def _json_document(source: str, offset: int, line: str, columns: Columns) -> Document | BadRow:
    if line.lstrip().startswith("["):
        return BadRow(source, offset, ARRAY_OF_ROWS)
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(source, offset, f"not JSON: {error}")
    if not isinstance(row, dict):
        return BadRow(source, offset, f"not a JSON object but {type(row).__name__}")
    if columns.text not in row and (columns.title is None or not row.get(columns.title)):
        keys = ", ".join(map(repr, list(row)[:10]))
        return BadRow(source, offset, f"no key {columns.text!r} (keys: {keys:.200})")
    document = _document(source, offset, row, columns)
    if "\\u" in line and isinstance(document, Document) and not _encodes(document):
        return BadRow(source, offset, "holds half of a surrogate pair")
    return document


def _encodes(document: Document) -> bool:
    try:
        f"{document.text}{document.title}{document.unit_id}".encode()
    except UnicodeEncodeError:
        return False
    return True


def _document(
    source: str, offset: int, row: Mapping[str, Any], columns: Columns
) -> Document | BadRow:
    text = row.get(columns.text)
    title = row.get(columns.title) if columns.title else None
    for name, value in ((columns.text, text), (columns.title, title)):
        if isinstance(value, bytes):
            return BadRow(source, offset, f"{name!r} is not UTF-8")
        if value is not None and not isinstance(value, str):
            return BadRow(source, offset, f"{name!r} is no string but {type(value).__name__}")
    given = next((row[name] for name in columns.ids if row.get(name) is not None), None)
    if given == "":
        return BadRow(source, offset, "the id is empty; give the row one, or no row one")
    if given is not None and not _is_id(given):
        return BadRow(source, offset, f"the id is neither a string nor an int64: {given!r:.60}")
    document = Document(source, offset, text or "", given, title or None)
    return _text_or_bad(source, offset, document.text + (document.title or ""), document)


def _is_id(value: object) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return -_INT64_MAX - 1 <= value <= _INT64_MAX
    return isinstance(value, str)


def _text_or_bad(source: str, offset: int, text: str, document: Document) -> Document | BadRow:
    if not text or text.isspace():
        return BadRow(source, offset, "no text")
    # UTF-16 of Latin letters is valid UTF-8 full of these.
    if "\0" in text:
        return BadRow(source, offset, "holds a NUL character; is the file UTF-16?")
    if len(text) > MAX_DOCUMENT_BYTES:
        return BadRow(source, offset, f"longer than {MAX_DOCUMENT_BYTES:,} characters")
    return document
