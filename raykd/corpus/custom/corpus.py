"""Custom corpora on Ray: each row is a unit; one task per shard, and a check for unique ids."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raykd.cluster import datasets
from raykd.corpus.custom import ids as custom_ids
from raykd.corpus.custom import units as custom_units
from raykd.corpus.custom.units import AS_FOUND, Reading
from raykd.corpus.shards import (
    Part,
    files_of_parts,
    folders_of,
    plan_shards,
    remove_stale,
    say_reused,
)
from raykd.storage.locations import Location
from raykd.storage.manifest import FILE_NAME as MANIFEST
from raykd.storage.remote.task_files import TaskFiles

# Ids per task that compares ids; their hashes have 128 MiB.
_IDS_PER_PARTITION = 1 << 24


def write_custom_units(
    by_digest: Mapping[str, Location],
    out: Path,
    shard_bytes: int,
    reading: Reading = AS_FOUND,
) -> list[Path]:
    """Write the rows of any corpus as shards of units.

    Args:
        by_digest: digest -> file, distinct files.
        out: directory of the shards; complete shards of these files in it are kept, others removed.
        shard_bytes: approximate bytes of text per shard.
        reading: format options of the files.

    Returns:
        Directories of the shards; see `custom_units.unit_files`.

    Raises:
        InputError: see `custom_units.write_shard`, `custom_units.check` and `check_ids`.
    """
    shards = plan_shards(by_digest.items(), shard_bytes)
    written = folders_of(out, shards)
    are_kept = datasets.for_each(
        _write_custom_shard,
        list(zip(shards, written, strict=True)),
        label="read",
        shared={"shard_bytes": shard_bytes, "reading": reading},
        files=lambda shard: TaskFiles(files_of_parts(shard[0]), (shard[1],)),
    )
    say_reused("read", shards, are_kept)
    remove_stale(out, written)
    num_units = custom_units.check(shards, written, reading)
    repeated = _repeated_hashes(custom_units.unit_files(written), num_units, out)
    custom_ids.check_ids(repeated, shards, written)
    return written


def _repeated_hashes(files: Sequence[Path], num_units: int, folder: Path) -> NDArray[np.uint64]:
    """Find the hashes of repeated ids; needs 8 bytes per unit of temporary space in `folder`."""
    num_partitions = -(-num_units // _IDS_PER_PARTITION)
    partitions = [folder / f"ids-{number:05d}.bin" for number in range(num_partitions)]
    results = datasets.as_completed(
        custom_ids.id_hashes,
        files,
        label="check ids",
        unit="files",
        files=lambda path: TaskFiles((path, path.with_name(MANIFEST))),
    )
    custom_ids.write_hashes((hashes for _, hashes in results), partitions)
    repeated = datasets.for_each(
        custom_ids.repeated_hashes,
        partitions,
        label="compare ids",
        unit="partitions",
        files=lambda path: TaskFiles((path,)),
    )
    for path in partitions:
        path.unlink()
    return np.concatenate(repeated)


def _write_custom_shard(
    shard: tuple[tuple[Part, ...], Path], *, shard_bytes: int, reading: Reading
) -> bool:
    return custom_units.write_shard(*shard, shard_bytes, reading)
