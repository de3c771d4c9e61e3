"""Units of all shards, looked up by row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raykd.dedup.exact import take
from raykd.storage.remote.task_files import need

UNITS_FILE = "units.arrow"
_BATCH_ROWS = 4096


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
            path = self._directories[number] / UNITS_FILE
            need(path)
            with pa.memory_map(str(path)) as file:
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
