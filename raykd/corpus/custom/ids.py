"""Check of custom row ids for repeats, by the hashes of all ids."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from raykd.corpus.custom.units import unit_files
from raykd.corpus.shards import Part
from raykd.errors import InputError
from raykd.storage.manifest import read_manifest

_NUM_FILES_SHOWN = 3
_NUM_SUSPECTS = 1000


def id_hashes(path: Path) -> NDArray[np.uint64]:
    """Compute 64-bit hashes of the custom ids in a file; none if the ids were generated."""
    manifest = read_manifest(path.parent)
    assert manifest is not None, path
    if manifest.counts["num_made_ids"]:
        return np.empty(0, np.uint64)
    ids = pq.read_table(path, columns=["unit_id"])["unit_id"]
    if ids.type == pa.int64():
        return np.asarray(ids.to_numpy().view(np.uint64))
    hashes = (xxhash.xxh3_64_intdigest(str(name).encode()) for name in ids.to_pylist())
    return np.fromiter(hashes, np.uint64, len(ids))


def write_hashes(hashes: Iterable[NDArray[np.uint64]], partitions: Sequence[Path]) -> None:
    """Write the hashes of all files to partitions; equal hashes are in the same partition."""
    num_partitions = np.uint64(len(partitions))
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in partitions]
        for file_hashes in hashes:
            partition_of = file_hashes % num_partitions
            for number, file in enumerate(files):
                file.write(file_hashes[partition_of == number].tobytes())


def repeated_hashes(partition: Path) -> NDArray[np.uint64]:
    """Find the distinct hashes that a partition contains more than once."""
    ordered = np.sort(np.fromfile(partition, np.uint64))
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def check_ids(
    repeated: NDArray[np.uint64], shards: Sequence[Sequence[Part]], written: Sequence[Path]
) -> None:
    """Check that no id appears twice.

    Args:
        repeated: hashes of more than one unit.
        shards: planned shards.
        written: directories of the shards.

    Raises:
        InputError: an id is repeated; the message has the id and its files.
    """
    # Equal hashes nearly always mean equal ids, so that the first chunk is usually sufficient.
    for start in range(0, len(repeated), _NUM_SUSPECTS):
        suspects = repeated[start : start + _NUM_SUSPECTS]
        seen: dict[str | int, Sequence[Part]] = {}
        for parts, directory in zip(shards, written, strict=True):
            for path in unit_files([directory]):
                for unit in _ids_of_hashes(path, suspects):
                    if unit in seen:
                        raise InputError(
                            f"{_shown([*seen[unit], *parts])}: the id {unit!r} appears twice; "
                            "give every row an id of its own"
                        )
                    seen[unit] = parts


def _ids_of_hashes(path: Path, hashes: NDArray[np.uint64]) -> list[str | int]:
    rows = np.flatnonzero(np.isin(id_hashes(path), hashes))
    if len(rows) == 0:
        return []
    ids = pq.read_table(path, columns=["unit_id"])["unit_id"]
    matching: list[str | int] = ids.take(pa.array(rows)).to_pylist()
    return matching


def _shown(parts: Sequence[Part]) -> str:
    """List the source files of shards; a shard can have the rows of several small files."""
    places = sorted({str(part.piece.path) for part in parts})
    shown = " and ".join(places[:_NUM_FILES_SHOWN])
    if len(places) > _NUM_FILES_SHOWN:
        shown += f" and {len(places) - _NUM_FILES_SHOWN} more files"
    return shown
