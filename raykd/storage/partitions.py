"""Files exchanged between the tasks of a job: one record batch per partition of the rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raykd.storage.remote.task_files import need

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
    need(*paths)
    batches = []
    for path in paths:
        with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
            batches.append(reader.get_batch(partition))
    return pa.Table.from_batches(batches)
