"""Lookup of units by id in files of units."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raykd.corpus.write import ShardWriter
from raykd.storage.locations import explained
from raykd.storage.schemas import UNITS
from raykd.storage.working_files import replacing

_READ_ROWS = 32_768


def id_range(path: Path) -> tuple[str | None, str | None]:
    """Read the smallest and the largest id of a file of units; None if it has no statistics."""
    with explained(path):
        metadata = pq.read_metadata(path)
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    ranges = [_id_range_of(group) for group in groups if group.num_rows]
    firsts, lasts = zip(*ranges, strict=True) if ranges else ((), ())
    if not ranges or None in firsts:
        return None, None
    return min(firsts), max(lasts)


def ids_between(ordered: pa.Array, first: str | None, last: str | None) -> pa.Array:
    """Select the ids from `first` to `last`, which a file with this range may contain.

    Args:
        ordered: ids, ascending.
        first: smallest id; None: no lower bound.
        last: largest id; None: no upper bound.
    """

    def name(place: int) -> str:
        return str(ordered[place].as_py())

    start = 0 if first is None else bisect_left(range(len(ordered)), first, key=name)
    stop = len(ordered) if last is None else bisect_right(range(len(ordered)), last, key=name)
    # A copy: a slice would be sent to a task with its whole buffer.
    return pa.concat_arrays([ordered.slice(start, stop - start)])


def units_of(job: tuple[Path, pa.Array]) -> pa.Table:
    """Read the units with the given ids (ascending) from a file; `job` is (file, ids)."""
    return pa.Table.from_batches(_matching_batches(*job), UNITS)


def write_units_of(job: tuple[Path, pa.Array, Path]) -> None:
    """Write the units with the given ids to a file; `job` is (file, ids, output file)."""
    path, ordered, out = job
    with (
        replacing(out) as partial,
        ShardWriter(partial.parent, partial.name, UNITS, "text") as writer,
    ):
        for batch in _matching_batches(path, ordered):
            writer.write(batch)


def _matching_batches(path: Path, ordered: pa.Array) -> Iterator[pa.RecordBatch]:
    with explained(path), pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            unit_ids = ids_between(ordered, *_id_range_of(file.metadata.row_group(group)))
            if not len(unit_ids):
                continue
            for batch in file.iter_batches(_READ_ROWS, row_groups=[group], columns=UNITS.names):
                yield batch.filter(pc.is_in(batch.column("unit_id"), value_set=unit_ids))


def _id_range_of(group: pq.RowGroupMetaData) -> tuple[str | None, str | None]:
    statistics = group.column(UNITS.names.index("unit_id")).statistics
    if statistics is None or not statistics.has_min_max:
        return None, None
    return statistics.min, statistics.max
