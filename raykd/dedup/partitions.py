"""Files exchanged between the tasks of a job: partitioned rows, and units looked up by row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raykd.dedup.exact import take

UNITS_FILE = "units.arrow"
_BATCH_ROWS = 4096
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


def write_partitions(
    path: Path, rows: pa.Table, partition: NDArray[np.int64], num_partitions: int
) -> None:
    """Write each partition's rows as one record batch; the order of rows is preserved.

    Args:
        path: output file.
        rows: table of N rows.
        partition: (N,) partition of each row, in 0..num_partitions - 1.
        num_partitions: number of record batches in the file.
    """
    order = np.argsort(partition, kind="stable")
    ends = np.searchsorted(partition[order], np.arange(num_partitions), side="right")
    start = 0
    with pa.ipc.new_file(path, rows.schema, options=_COMPRESSED) as writer:
        for end in ends.tolist():
            part = rows.take(pa.array(order[start:end])).combine_chunks()
            batches = part.to_batches()
            writer.write_batch(
                batches[0] if batches else pa.RecordBatch.from_pylist([], rows.schema)
            )
            start = end


def read_partition(paths: Sequence[Path], partition: int) -> pa.Table:
    """Read one partition of all files, in the order of the files."""
    batches = []
    for path in paths:
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            batches.append(reader.get_batch(partition))
    return pa.Table.from_batches(batches)


class UnitFiles:
    """Memory-mapped units of all shards; a lookup reads only the pages that it needs.

    Rows are numbered across all shards. Each shard is one uncompressed Arrow file.

    Args:
        directories: (S,) directories of the shards.
        starts: (S + 1,) first row of each shard.
    """

    def __init__(self, directories: Sequence[Path], starts: NDArray[np.int64]) -> None:
        assert len(starts) == len(directories) + 1
        self._directories = directories
        self._starts = starts
        self._open: dict[int, pa.Table] = {}

    def shard(self, number: int) -> pa.Table:
        """Open the units of one shard."""
        if number not in self._open:
            with pa.memory_map(str(self._directories[number] / UNITS_FILE)) as file:
                self._open[number] = pa.ipc.open_file(file).read_all()
        return self._open[number]

    def texts(self, rows: NDArray[np.int64]) -> pa.Array:
        """Read the texts of these rows."""
        return self._take("text", rows)

    def ids(self, rows: NDArray[np.int64]) -> pa.Array:
        """Read the ids of these rows."""
        return self._take("unit_id", rows)

    def _take(self, column: str, rows: NDArray[np.int64]) -> pa.Array:
        if len(rows) == 0:
            return pa.array([], self.shard(0)[column].type)
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(shard_of, kind="stable")
        numbers, starts = np.unique(shard_of[order], return_index=True)
        parts = [
            take(self.shard(number)[column], part - self._starts[number])
            for number, part in zip(
                numbers.tolist(), np.split(rows[order], starts[1:]), strict=True
            )
        ]
        return pa.concat_arrays(parts).take(pa.array(np.argsort(order)))


def write_units(path: Path, batches: Sequence[pa.RecordBatch] | pa.Table) -> None:
    """Write the units of one shard for `UnitFiles`."""
    table = batches if isinstance(batches, pa.Table) else pa.Table.from_batches(batches)
    with pa.ipc.new_file(path, table.schema) as writer:
        for batch in table.to_batches(_BATCH_ROWS):
            writer.write_batch(batch)
