"""Texts of units that were found, looked up by their ids in files of units."""

from bisect import bisect_left, bisect_right
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raykd.locations import explained
from raykd.schemas import UNITS

_READ_ROWS = 32_768


def id_range(path: Path) -> tuple[str | None, str | None]:
    """The smallest and the largest id of a file of units, None where the file does not tell."""
    with explained(path):
        metadata = pq.read_metadata(path)
    column = UNITS.names.index("unit_id")
    groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
    found = [group.column(column).statistics for group in groups if group.num_rows]
    if not found or not all(statistics and statistics.has_min_max for statistics in found):
        return None, None
    return min(one.min for one in found), max(one.max for one in found)


def ids_between(ordered: pa.Array, first: str | None, last: str | None) -> pa.Array:
    """The ids from first to last, so that a file is asked only for what it may hold.

    Args:
        ordered: ids, ascending.
        first: None for the smallest of all.
        last: None for the largest of all.
    """

    def name(place: int) -> str:
        return str(ordered[place].as_py())

    start = 0 if first is None else bisect_left(range(len(ordered)), first, key=name)
    stop = len(ordered) if last is None else bisect_right(range(len(ordered)), last, key=name)
    # A copy: a slice would be sent to a task with all that it is a slice of.
    return pa.concat_arrays([ordered.slice(start, stop - start)])


def units_of(wanted: tuple[Path, pa.Array]) -> pa.Table:
    """The units of a file that have one of the ids."""
    path, unit_ids = wanted
    with explained(path), pq.ParquetFile(path) as file:
        batches = [
            batch.filter(pc.is_in(batch.column("unit_id"), value_set=unit_ids))
            for batch in file.iter_batches(_READ_ROWS, columns=UNITS.names)
        ]
    return pa.Table.from_batches(batches, UNITS)
