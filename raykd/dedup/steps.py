"""Steps of the deduplication job; each processes one shard or one partition and runs once."""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from raykd.dedup.buckets import Buckets, Pairs, keys_of, near_pairs
from raykd.dedup.clusters import choose, doubted
from raykd.dedup.exact import digests_of, first_of_equal
from raykd.dedup.minhash import NearDuplicatesConfig
from raykd.dedup.partitions import UNITS_FILE, UnitFiles, write_units
from raykd.storage.manifest import Draft, write_once
from raykd.storage.partitions import read_partition, write_partitions
from raykd.storage.remote.task_files import TaskFiles, need

KEPT_FILE = "units.parquet"
REMOVED_FILE = "removed.parquet"
EXACT, NEAR = "duplicate", "near_duplicate"

_DIGESTS_FILE = "digests.arrow"
_EQUAL_FILE = "equal.arrow"
_KEYS_FILE = "keys.arrow"
_PAIRS_FILE = "pairs.npz"
_LARGE_FILE = "large.npz"
_NEAR_FILE = "near.npz"
_HASH_ROWS = 4096
_GROUP_ROWS = 16_384
# The split of the output into ranges needs no larger sample of ids than 2**17.
_MAX_SAMPLE_BITS = 17

_Rows = NDArray[np.int64]


def removed_schema(unit_id_type: pa.DataType) -> pa.Schema:
    """Schema of the removed units, sorted by unit_id.

    `reason` is "duplicate" or "near_duplicate", `partner` the kept unit, and `jaccard` the
    similarity of the two: at least the threshold, and 1 for exact duplicates.
    """
    return pa.schema(
        [
            ("unit_id", unit_id_type),
            ("reason", pa.string()),
            ("partner", unit_id_type),
            ("jaccard", pa.float64()),
        ]
    )


@dataclass(frozen=True)
class DedupJob:
    """Parameters of every step; some are filled in while the job runs.

    Units are numbered (`row`) across all shards; shard s has the rows starts[s]:starts[s + 1].
    """

    parts: Path
    unit_files: tuple[Path, ...]
    near: NearDuplicatesConfig | None
    settings: dict[str, Any]
    inputs: dict[str, str]
    starts: _Rows = field(default_factory=lambda: np.zeros(1, np.int64))
    num_partitions: int = 1
    num_key_partitions: int = 1
    # Rounds in which the kept units were searched again for near duplicates.
    num_checks: int = 0
    bounds: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    # Bits of both halves of a digest that are compared; with fewer bits, more texts are compared.
    digest_mask: int = 2**64 - 1

    @property
    def num_shards(self) -> int:
        """Number of shards of the corpus."""
        return len(self.unit_files)

    @property
    def id_type(self) -> pa.DataType:
        """Type of the unit ids, from the first file that has units."""
        number = int(np.flatnonzero(np.diff(self.starts))[0])
        need(self.unit_files[number])
        return pq.read_schema(self.unit_files[number]).field("unit_id").type

    def directory(self, step: str, number: int) -> Path:
        """Output directory of one part of a step."""
        return self.parts / f"{step}-{number:05d}"

    def files(self, step: str, num_parts: int, name: str) -> list[Path]:
        """Paths of one file of all parts of a step."""
        return [self.directory(step, number) / name for number in range(num_parts)]

    def output(self, step: str, number: int) -> TaskFiles:
        """Output of one part of a step; the parts find out while they run what they read."""
        return TaskFiles(writes=(self.directory(step, number),))

    def write_once(self, step: str, number: int, write: Callable[[Draft], None]) -> Path:
        """Run one part of a step unless it is complete; return its directory."""
        directory = self.directory(step, number)
        write_once(directory, step, self.settings, {**self.inputs, "part": str(number)}, write)
        return directory

    def units(self) -> UnitFiles:
        """Open the units that `hash_shard` wrote."""
        directories = [self.directory("hash", number) for number in range(self.num_shards)]
        return UnitFiles(directories, self.starts)


@dataclass(frozen=True)
class Kept:
    """Text bytes of the kept units of a shard, and a sample of their ids."""

    num_bytes: int
    ids: pa.Array


@dataclass(frozen=True)
class RangeCounts:
    """Numbers of kept and removed units of one range of ids."""

    num_kept: int
    num_exact: int
    num_near: int


def hash_shard(number: int, *, job: DedupJob) -> None:
    """Write the units of a shard for lookups, and their digests by partition."""

    def write(draft: Draft) -> None:
        need(job.unit_files[number])
        units = pq.read_table(job.unit_files[number])
        ids = units["unit_id"].cast(job.id_type)
        units = units.set_column(units.schema.get_field_index("unit_id"), "unit_id", ids)
        write_units(draft.directory / UNITS_FILE, units)
        parts = [np.empty((0, 2), np.uint64)]
        parts += [digests_of(batch["text"]) for batch in units.to_batches(_HASH_ROWS)]
        digests = np.concatenate(parts) & np.uint64(job.digest_mask)
        rows = pa.table(
            {
                "row": job.starts[number] + np.arange(len(units)),
                "first": digests[:, 0],
                "second": digests[:, 1],
                "unit_id": units["unit_id"],
            }
        )
        partition = (digests[:, 1] % np.uint64(job.num_partitions)).astype(np.int64)
        write_partitions(draft.directory / _DIGESTS_FILE, rows, partition, job.num_partitions)

    job.write_once("hash", number, write)


def find_equal(partition: int, *, job: DedupJob) -> None:
    """Find the units of a digest partition that are equal to a unit with a smaller id."""

    def write(draft: Draft) -> None:
        members = read_partition(job.files("hash", job.num_shards, _DIGESTS_FILE), partition)
        members = members.take(pc.sort_indices(members["unit_id"]))
        rows = members["row"].to_numpy()
        digests = np.stack([members["first"].to_numpy(), members["second"].to_numpy()], axis=1)
        units = job.units()
        firsts = first_of_equal(digests, lambda positions: units.texts(rows[positions]))
        later = np.flatnonzero(firsts != np.arange(len(firsts)))
        equal = pa.table({"row": rows[later], "kept_row": rows[firsts[later]]})
        shard_of = np.searchsorted(job.starts, rows[later], side="right") - 1
        write_partitions(draft.directory / _EQUAL_FILE, equal, shard_of, job.num_shards)

    job.write_once("equal", partition, write)


def key_shard(number: int, *, job: DedupJob) -> None:
    """Write the band keys of a shard's units, except exact duplicates."""
    near = job.near
    assert near is not None

    def write(draft: Draft) -> None:
        units = job.units().shard(number)
        rows = np.flatnonzero(~_is_equal(number, job))
        units = units.take(pa.array(rows))
        with_words, keys = keys_of(units["text"], near)
        table = pa.table(
            {
                "key": keys.reshape(-1),
                "row": np.repeat(job.starts[number] + rows[with_words], near.num_bands),
            }
        )
        partition = (keys.reshape(-1) % np.uint64(job.num_key_partitions)).astype(np.int64)
        write_partitions(draft.directory / _KEYS_FILE, table, partition, job.num_key_partitions)

    job.write_once("keys", number, write)


def find_near(partition: int, *, job: DedupJob) -> None:
    """Write the near duplicates among the units that share a key of this partition."""
    near = job.near
    assert near is not None

    def write(draft: Draft) -> None:
        key_rows = read_partition(job.files("keys", job.num_shards, _KEYS_FILE), partition)
        units = job.units()
        buckets = Buckets.of_keys(
            key_rows["key"].to_numpy(), key_rows["row"].to_numpy(), partial(_ranks_by_id, units)
        )
        del key_rows
        pairs = near_pairs(buckets, units.texts, near)
        np.savez(draft.directory / _PAIRS_FILE, **pairs._asdict())
        np.savez(draft.directory / _LARGE_FILE, **buckets.large()._asdict())

    job.write_once("compare", partition, write)


def choose_near(num_checks: int, *, job: DedupJob) -> None:
    """Write the near duplicates to remove, by row, with the kept unit and the Jaccard.

    Args:
        num_checks: completed rounds of `check_near`.
        job: parameters of the job.
    """

    def write(draft: Draft) -> None:
        steps = ["compare", *(f"check{number}" for number in range(num_checks))]
        files = [job.files(step, job.num_key_partitions, _PAIRS_FILE) for step in steps]
        pairs = Pairs.joined([Pairs(**_arrays(path)) for paths in files for path in paths])
        rows = np.unique(np.concatenate([pairs.left, pairs.right]))
        # Number the units by id: of near duplicates the one with the smallest id is kept.
        number_of = _ranks_by_id(job.units(), rows)
        row_of = np.empty_like(rows)
        row_of[number_of] = rows
        one, other = (number_of[np.searchsorted(rows, side)] for side in pairs[:2])
        numbered = Pairs(np.minimum(one, other), np.maximum(one, other), pairs.similarities)
        removals, doubtful = choose(numbered, len(rows))
        order = np.argsort(row_of[removals.rows])
        np.savez(
            draft.directory / _NEAR_FILE,
            rows=row_of[removals.rows][order],
            kept_rows=row_of[removals.partners][order],
            jaccard=removals.similarities[order],
            doubtful=row_of[doubtful],
        )

    job.write_once("choose", num_checks, write)


def check_near(partition: int, *, job: DedupJob) -> int:
    """Compare the kept units again, and write the new pairs; return their number."""
    near = job.near
    assert near is not None

    def write(draft: Draft) -> None:
        large = Buckets(**_arrays(job.directory("compare", partition) / _LARGE_FILE))
        chosen = _near(job)
        buckets = doubted(large, chosen["rows"], chosen["doubtful"])
        pairs = near_pairs(buckets, job.units().texts, near)
        np.savez(draft.directory / _PAIRS_FILE, **pairs._asdict())

    directory = job.write_once(f"check{job.num_checks}", partition, write)
    return len(_arrays(directory / _PAIRS_FILE)["left"])


def sample_kept(number: int, *, job: DedupJob) -> Kept:
    """Measure the kept units of a shard and sample their ids, to split the output into ranges."""
    units = job.units().shard(number)
    units = units.filter(pa.array(_is_kept(number, job)))
    ids = units["unit_id"].combine_chunks()
    sample_bits = max(0, int(job.starts[-1]).bit_length() - _MAX_SAMPLE_BITS)
    if sample_bits:
        hashes = (xxhash.xxh3_64_intdigest(str(name).encode()) for name in ids.to_pylist())
        ids = ids.filter(pa.array([not hash_ % (1 << sample_bits) for hash_ in hashes], pa.bool_()))
    return Kept(pc.sum(pc.binary_length(units["text"]), min_count=0).as_py(), ids)


def route_shard(number: int, *, job: DedupJob) -> None:
    """Write the shard's kept units and removals, partitioned by range of ids."""

    def write(draft: Draft) -> None:
        units = job.units()
        kept = units.shard(number).filter(pa.array(_is_kept(number, job)))
        send = partial(_send, bounds=job.bounds)
        send(draft.directory / "kept.arrow", kept)
        send(draft.directory / "removed.arrow", _removed(number, job, units))

    # The bounds are determined by the settings and inputs.
    job.write_once("send", number, write)


def write_range(number: int, *, job: DedupJob) -> RangeCounts:
    """Write the kept units and the removals of one range, sorted by id."""

    def write(draft: Draft) -> None:
        for source, name in (("kept.arrow", KEPT_FILE), ("removed.arrow", REMOVED_FILE)):
            rows = read_partition(job.files("send", job.num_shards, source), number)
            pq.write_table(
                rows.sort_by("unit_id").combine_chunks(),
                draft.directory / name,
                compression="zstd",
                row_group_size=_GROUP_ROWS,
                use_dictionary=False,
            )

    directory = job.write_once("range", number, write)
    reasons = pq.read_table(directory / REMOVED_FILE, columns=["reason"])["reason"].to_pylist()
    num_kept = pq.read_metadata(directory / KEPT_FILE).num_rows
    return RangeCounts(num_kept, reasons.count(EXACT), reasons.count(NEAR))


def _send(path: Path, rows: pa.Table, *, bounds: pa.Array) -> None:
    limits = bounds.to_pylist()
    ids = rows["unit_id"].to_pylist()
    partition = np.fromiter((bisect_right(limits, name) for name in ids), np.int64, len(ids))
    write_partitions(path, rows, partition, len(limits) + 1)


def equal_rows(number: int, job: DedupJob) -> tuple[_Rows, _Rows]:
    """Rows of the shard's exact duplicates, and for each the row of the kept unit."""
    equal = read_partition(job.files("equal", job.num_partitions, _EQUAL_FILE), number)
    return equal["row"].to_numpy(), equal["kept_row"].to_numpy()


def _is_equal(number: int, job: DedupJob) -> NDArray[np.bool_]:
    is_equal = np.zeros(job.starts[number + 1] - job.starts[number], bool)
    is_equal[equal_rows(number, job)[0] - job.starts[number]] = True
    return is_equal


def _near(job: DedupJob) -> dict[str, NDArray[Any]]:
    if job.near is None:
        nothing = np.empty(0, np.int64)
        return {"rows": nothing, "kept_rows": nothing, "jaccard": np.empty(0)}
    return _arrays(job.directory("choose", job.num_checks) / _NEAR_FILE)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    need(path)
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _ranks_by_id(units: UnitFiles, rows: _Rows) -> _Rows:
    """Rank (N,) of each row in the order of ids."""
    ranks = np.empty(len(rows), np.int64)
    ranks[pc.sort_indices(units.ids(rows)).to_numpy()] = np.arange(len(rows))
    return ranks


def _is_kept(number: int, job: DedupJob) -> NDArray[np.bool_]:
    is_kept = ~_is_equal(number, job)
    rows = _near(job)["rows"]
    start, end = np.searchsorted(rows, job.starts[number : number + 2])
    is_kept[rows[start:end] - job.starts[number]] = False
    return is_kept


def _removed(number: int, job: DedupJob, units: UnitFiles) -> pa.Table:
    """Removals of the shard; the partner of a duplicate's removed partner is used instead."""
    near = _near(job)
    start, end = np.searchsorted(near["rows"], job.starts[number : number + 2])
    equal, equal_kept = equal_rows(number, job)
    rows = np.concatenate([equal, near["rows"][start:end]])
    # An exact duplicate is looked up by its equal unit, which may be a removed near duplicate.
    looked_up = np.concatenate([equal_kept, near["rows"][start:end]])
    near_rows = np.searchsorted(near["rows"], looked_up)
    is_near = np.zeros(len(rows), bool)
    inside = near_rows < len(near["rows"])
    is_near[inside] = near["rows"][near_rows[inside]] == looked_up[inside]
    kept_rows, jaccard = looked_up.copy(), np.ones(len(rows))
    kept_rows[is_near] = near["kept_rows"][near_rows[is_near]]
    jaccard[is_near] = near["jaccard"][near_rows[is_near]]
    reasons = pa.array(np.where(is_near, NEAR, EXACT).tolist(), pa.string())
    columns = [units.ids(rows), reasons, units.ids(kept_rows), jaccard]
    return pa.table(columns, schema=removed_schema(job.id_type))
