"""Ids that a corpus gives its rows: whether one appears twice, found by the hashes of all."""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from raykd.corpus.custom_units import unit_files
from raykd.corpus.shards import Part
from raykd.errors import InputError
from raykd.storage.manifest import read_manifest

_NUM_FILES_SHOWN = 3
_NUM_SUSPECTS = 1000


def id_hashes(path: Path) -> NDArray[np.uint64]:
    """64-bit hashes of the ids that the units of one file were given; none of made ids."""
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
    """Write `id_hashes` of all files to partitions, so that equal ones stand in one of them."""
    num_partitions = np.uint64(len(partitions))
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in partitions]
        for found in hashes:
            partition_of = found % num_partitions
            for number, file in enumerate(files):
                file.write(found[partition_of == number].tobytes())


def repeated_hashes(partition: Path) -> NDArray[np.uint64]:
    """The hashes, each once, that a partition holds more than once."""
    ordered = np.sort(np.fromfile(partition, np.uint64))
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def check_ids(
    repeated: NDArray[np.uint64], shards: Sequence[Sequence[Part]], written: Sequence[Path]
) -> None:
    """Check that no id appears twice.

    Args:
        repeated: hashes that more than one unit's id has.
        shards: as planned.
        written: their directories.

    Raises:
        InputError: names a repeated id and where it stands.
    """
    # All but always the first hash is that of a repeated id, and the rest need not be held.
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
    found: list[str | int] = ids.take(pa.array(rows)).to_pylist()
    return found


def _shown(parts: Sequence[Part]) -> str:
    """The files of shards: one holds the rows of several small ones, any of which may be meant."""
    places = sorted({str(part.piece.path) for part in parts})
    shown = " and ".join(places[:_NUM_FILES_SHOWN])
    if len(places) > _NUM_FILES_SHOWN:
        shown += f" and {len(places) - _NUM_FILES_SHOWN} more files"
    return shown
