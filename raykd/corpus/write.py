"""Writer of Parquet files with row groups and files of bounded size."""

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_GROUP_ROWS = 16_384
_GROUP_BYTES = 8 << 20


class ShardWriter:
    """Writer of the files `name.format(0)`, `name.format(1)`, ...; at least one is written.

    Args:
        directory: output directory.
        name: file name with a field for the number.
        schema: schema of all batches.
        sized_by: string column whose bytes are counted.
        max_file_bytes: bytes after which the next row begins a new file; None: one file.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        schema: pa.Schema,
        sized_by: str,
        max_file_bytes: int | None = None,
    ) -> None:
        self._directory, self._name, self._schema = directory, name, schema
        self._sized_by, self._max_file_bytes = sized_by, max_file_bytes
        self._batches: list[pa.RecordBatch] = []
        self._group_rows = self._group_bytes = self._file_bytes = self._num_files = 0
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._flush()
        self._writer.close()

    def write(self, batch: pa.RecordBatch) -> int:
        """Append rows; return the bytes of the column `sized_by`."""
        lengths = pc.binary_length(batch.column(self._sized_by)).to_numpy()
        totals = np.cumsum(lengths, dtype=np.int64)
        start = 0
        while start < batch.num_rows:
            if self._max_file_bytes is not None and self._file_bytes >= self._max_file_bytes:
                self._flush()
                self._writer.close()
                self._open()
            before = int(totals[start - 1]) if start else 0
            stop = batch.num_rows
            if self._max_file_bytes is not None:
                room = self._max_file_bytes - self._file_bytes
                stop = min(stop, int(np.searchsorted(totals, before + room)) + 1)
            self._add(batch.slice(start, stop - start), int(totals[stop - 1]) - before)
            start = stop
        return int(lengths.sum())

    def _add(self, batch: pa.RecordBatch, num_bytes: int) -> None:
        self._batches.append(batch)
        self._group_rows += batch.num_rows
        self._group_bytes += num_bytes
        self._file_bytes += num_bytes
        if self._group_rows >= _GROUP_ROWS or self._group_bytes >= _GROUP_BYTES:
            self._flush()

    def _open(self) -> None:
        self._writer = pq.ParquetWriter(
            self._directory / self._name.format(self._num_files),
            self._schema,
            compression="zstd",
            use_dictionary=False,
            # Statistics of ids show which files may contain a unit.
            write_statistics=["unit_id"],
        )
        self._num_files += 1
        self._file_bytes = 0

    def _flush(self) -> None:
        if self._batches:
            self._writer.write_table(pa.Table.from_batches(self._batches, self._schema))
        self._batches.clear()
        self._group_rows = self._group_bytes = 0
