"""Row groups of Parquet in batches of bounded size, of the columns that are read alone."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.corpus.rows import Columns, Row, document_of
from raykd.corpus.slices import Slice
from raykd.errors import InputError
from raykd.storage.formats import open_bytes
from raykd.storage.locations import READ_BYTES, Location
from raykd.storage.tables import holds_text, parquet_bytes, require_columns

_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 16_384
# Rows decoded at once, before their bytes are known; fewer would cost time where rows are short.
_STEP_ROWS = 256
_STEP_BYTES = 128 << 10


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
        require_columns(path, schema.names, [columns.text])
        _check_holds_text(path, schema.field(columns.text))
        optional = [*columns.ids, *([columns.title] if columns.title else [])]
        names = [columns.text, *(name for name in optional if name in schema.names)]
        require_columns(path, schema.names, names)
        stop = metadata.num_row_groups if piece.stop is None else piece.stop
        row_number = sum(metadata.row_group(index).num_rows for index in range(piece.start))
        groups = [metadata.row_group(index) for index in range(piece.start, stop)]
        num_rows = sum(group.num_rows for group in groups)
        row_bytes = parquet_bytes(groups, names) // max(num_rows, 1) + 1
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
    """Batches without dictionaries, of at most that many rows."""
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
) -> Iterator[Row]:
    """The rows of a batch of Parquet."""
    names = batch.schema.names
    values = [_values(batch.column(name)) for name in names]
    for number, row in enumerate(zip(*values, strict=True), start=row_number):
        yield document_of(source, number, dict(zip(names, row, strict=True)), columns)


def _check_holds_text(path: Location, field: pa.Field) -> None:
    # A column of nulls alone has the type null.
    if not (
        holds_text(field.type) or holds_text(field.type, binary=True) or field.type == pa.null()
    ):
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
