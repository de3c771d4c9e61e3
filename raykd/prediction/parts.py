"""Parts of the input: ranges of rows of Parquet files, which are read in bounded memory."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.errors import InputError
from raykd.storage.formats import open_bytes
from raykd.storage.locations import READ_BYTES, Location, explained
from raykd.storage.tables import holds_text, require_columns

# Rows per part: a part is repeated if it is interrupted, and there should be enough for all CPUs.
_MIN_ROWS = 512
_MAX_ROWS = 65_536
_PARTS = 64
# Rows decoded at once, before their size is known, and limits of what is predicted at once.
_STEP_ROWS = 256
_BATCH_ROWS = 8192
_BATCH_BYTES = 8 << 20


@dataclass(frozen=True)
class RowFile:
    """A Parquet file of rows, and the digest of its content."""

    path: Location
    digest: str
    num_rows: int


@dataclass(frozen=True)
class RowRange:
    """Rows [start, stop) of a file."""

    file: RowFile
    start: int
    stop: int

    def key(self) -> list[Any]:
        """JSON value that identifies the rows."""
        return [self.file.digest, self.start, self.stop]


def plan_parts(files: Sequence[RowFile]) -> list[tuple[RowRange, ...]]:
    """Divide files into parts that cover every row once, in order.

    All but the last have the same number of rows: a 64th of all, at least 512 and at most 65,536.
    It depends on nothing but the numbers of rows.
    """
    total = sum(file.num_rows for file in files)
    size = min(max(-(-total // _PARTS), _MIN_ROWS), _MAX_ROWS)
    parts: list[list[RowRange]] = [[]]
    room = size
    for file in files:
        start = 0
        while start < file.num_rows:
            stop = min(start + room, file.num_rows)
            parts[-1].append(RowRange(file, start, stop))
            room -= stop - start
            start = stop
            if not room:
                parts.append([])
                room = size
    return [tuple(part) for part in parts if part]


def schema_of(path: Location, text_columns: Sequence[str]) -> tuple[pa.Schema, int]:
    """Schema and number of rows of a Parquet file.

    Raises:
        InputError: the file is damaged, or a column of text is missing or holds no text.
    """
    with explained(path), open_bytes(path, None) as source, pq.ParquetFile(source) as file:
        schema, num_rows = file.schema_arrow, file.metadata.num_rows
    require_columns(path, schema.names, schema.names)
    require_columns(path, schema.names, text_columns)
    for name in text_columns:
        check_text(str(path), name, schema.field(name).type)
    return schema, num_rows


def check_text(source: str, name: str, type_: pa.DataType, *, binary: bool = False) -> None:
    """Refuse a column of text that holds other values; one with only nulls has the type null.

    Args:
        source: name of the rows, for the message.
        name: name of the column.
        type_: its type.
        binary: whether it may hold bytes, which are read as UTF-8.

    Raises:
        InputError: names the source, the column and its type.
    """
    if not (holds_text(type_, binary=binary) or type_ == pa.null()):
        raise InputError(f"{source}: column {name!r} has type {type_}, text is expected")


def read_ranges(ranges: Iterable[RowRange]) -> Iterator[pa.Table]:
    """Stream the rows of a part in tables of about 8,192 rows, or of 8 MiB if these are fewer.

    Raises:
        InputError: a file is damaged or gone.
    """
    for rows in ranges:
        with explained(rows.file.path):
            gathered: list[pa.RecordBatch] = []
            num_rows = num_bytes = 0
            for batch in _steps(rows):
                gathered.append(batch)
                num_rows += batch.num_rows
                num_bytes += batch.nbytes
                if num_rows >= _BATCH_ROWS or num_bytes >= _BATCH_BYTES:
                    yield pa.Table.from_batches(gathered)
                    gathered, num_rows, num_bytes = [], 0, 0
            if gathered:
                yield pa.Table.from_batches(gathered)


def _steps(rows: RowRange) -> Iterator[pa.RecordBatch]:
    with (
        open_bytes(rows.file.path, None) as source,
        pq.ParquetFile(
            source, page_checksum_verification=True, pre_buffer=False, buffer_size=READ_BYTES
        ) as file,
    ):
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        ends = list(accumulate(sizes))
        groups = [
            i for i, end in enumerate(ends) if end > rows.start and end - sizes[i] < rows.stop
        ]
        number = ends[groups[0]] - sizes[groups[0]]
        for batch in file.iter_batches(_STEP_ROWS, row_groups=groups):
            start = max(rows.start - number, 0)
            stop = min(rows.stop - number, batch.num_rows)
            if start < stop:
                yield batch.slice(start, stop - start)
            number += batch.num_rows
            if number >= rows.stop:
                return
