"""Rows of Parquet files in batches of bounded size, restricted to the required columns."""

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
# Rows decoded at once, before their size is known; fewer would be slow for short rows.
_STEP_ROWS = 256
_STEP_BYTES = 128 << 10


def parquet_batches(piece: Slice, columns: Columns) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Stream the row groups of a slice: number of the first row, and the existing columns.

    Pages are read one by one and decoded in steps of at most 256 rows, which are joined to batches
    of 8 MiB. Memory depends on the longest page and step, not on the row group or the file.
    Dictionary columns are decoded, and their dictionary is in memory. Use it inside `explained`.

    Raises:
        InputError: the text column is missing, or its type is not text.
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
        # An estimate from the encoded size, which is inaccurate for repeated or a few long texts.
        step_rows = min(max(_STEP_BYTES // row_bytes, 1), _STEP_ROWS)
        read_rows = step_rows
        if pa.types.is_dictionary(schema.field(columns.text).type):
            # Each batch repeats the dictionary, which has every distinct text once.
            read_rows = min(max(_BATCH_BYTES // row_bytes, 1), _BATCH_ROWS)
        batches = file.iter_batches(read_rows, row_groups=range(piece.start, stop), columns=names)
        has_dictionary = any(pa.types.is_dictionary(schema.field(name).type) for name in names)
        steps = _decoded(batches, step_rows) if has_dictionary else batches
        for batch in _gathered(steps):
            yield row_number, batch
            row_number += batch.num_rows


def _decoded(batches: Iterable[pa.RecordBatch], num_rows: int) -> Iterator[pa.RecordBatch]:
    """Decode dictionary columns, in batches of at most `num_rows` rows."""
    for batch in batches:
        for start in range(0, batch.num_rows, num_rows):
            step = batch.slice(start, num_rows)
            columns = [
                column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
                for column in step.columns
            ]
            yield pa.record_batch(columns, names=step.schema.names)


def _gathered(steps: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join steps up to `_BATCH_BYTES` and `_BATCH_ROWS`; a larger step is a batch of its own."""
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
    """Iterate over the rows of a batch."""
    names = batch.schema.names
    values = [_values(batch.column(name)) for name in names]
    for number, row in enumerate(zip(*values, strict=True), start=row_number):
        yield document_of(source, number, dict(zip(names, row, strict=True)), columns)


def _check_holds_text(path: Location, field: pa.Field) -> None:
    # A column with only nulls has the type null.
    if not (
        holds_text(field.type) or holds_text(field.type, binary=True) or field.type == pa.null()
    ):
        raise InputError(f"{path}: column {field.name!r} has type {field.type}, text is expected")


def _values(column: pa.Array) -> list[Any]:
    """Convert to Python values; strings and binaries that are not UTF-8 remain bytes."""
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
