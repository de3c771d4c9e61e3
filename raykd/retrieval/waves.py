"""A search over shards on Ray: waves of shards, each merged before the next.

The first wave has no thresholds and is the slowest: as few shards as keep every CPU busy, where a
shard is searched by several tasks, each for its share of the queries. After each wave the best hits
so far are merged, and the score of a query's last wanted hit is a bound that later shards need not
go below. Each wave is as large as all before it, so that the bounds rise while the last and largest
waves are searched fast. Shards come in the order of their digests: any first part is a sample of
the whole corpus. Bounds decide what is left out of a shard's hits, never what is among the best, so
that the result is the same for any waves and tasks.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from raykd import cluster
from raykd.errors import InputError
from raykd.locations import explained
from raykd.manifest import Draft, digest_of, digest_of_file, read_manifest, write_once
from raykd.retrieval import topk
from raykd.retrieval.hit_files import DamagedHitsError, read_block, write_blocks
from raykd.retrieval.topk import RankedHits

Result = TypeVar("Result")

# Hits that are merged at once, with one more row for each query of each part: a part without a hit
# takes memory too, and there may be as many parts as shards.
_ROWS_MERGED = 1 << 24
# A file that is damaged each time it is written tells of a disk, not of an accident.
_MAX_REPAIRS = 8


@dataclass(frozen=True)
class Shards:
    """What is searched.

    Attributes:
        paths: files of units.
        digests: of the files, in the same order.
        unit_id_type: of all shards that hold units: string or int64.
    """

    paths: tuple[Path, ...]
    digests: tuple[str, ...]
    unit_id_type: pa.DataType


class Searcher(Protocol):
    """Finds the best hits of D queries in one shard; every task gets a copy."""

    @property
    def digest(self) -> str:
        """Digest of all that decides the hits but the shards and `top_k`."""

    def search_shard(
        self,
        path: Path,
        digest: str,
        unit_id_type: pa.DataType,
        top_k: NDArray[np.int32],
        thresholds: NDArray[np.float64],
        blocks: Sequence[tuple[int, int]],
    ) -> Iterator[RankedHits]:
        """The shard's own best hits, block after block of the queries.

        Args:
            path: the shard.
            digest: of the file.
            unit_id_type: of its ids.
            top_k: (D,) hits wanted of each query.
            thresholds: (D,) see `topk.thresholds`: units that score less may be left out.
            blocks: ranges [first, last) of queries.
        """


@dataclass(frozen=True)
class _Search:
    """What the tasks of the waves must know beyond the job."""

    parts: Path
    shards: Shards
    top_k: NDArray[np.int32]
    blocks: tuple[tuple[int, int], ...]
    digest: str

    def tasks_of(self, wave: Sequence[int], num_cpus: int) -> list["_Task"]:
        """One task a shard, or several where a wave has fewer shards than there are CPUs."""
        num_tasks = min(len(self.blocks), max(1, -(-num_cpus // len(wave))))
        ends = np.linspace(0, len(self.blocks), num_tasks + 1).astype(int).tolist()
        return [_Task(shard, *blocks) for shard in wave for blocks in pairwise(ends)]

    def folder_of(self, task: "_Task") -> Path:
        """Where the hits are that a task finds."""
        name = f"hits-{self.shards.digests[task.shard]}"
        is_all = task.last - task.first == len(self.blocks)
        return self.parts / (name if is_all else f"{name}-{task.first:05d}-{task.last:05d}")

    def merged_folders(self, tasks: Sequence["_Task"]) -> list[Path]:
        """Where each block's merged hits are; named by what they are made of.

        Shards of equal bytes, as empty ones are, count each: every wave has names of its own.
        """
        digests = sorted(self.shards.digests[shard] for shard in {task.shard for task in tasks})
        name = digest_of([self.digest, digests])
        return [self.parts / f"merged-{name[:32]}-{block:05d}" for block in range(len(self.blocks))]


class _Task(NamedTuple):
    """A shard, and the blocks [first, last) of queries that it is searched for."""

    shard: int
    first: int
    last: int


def plan_waves(digests: Sequence[str], num_first: int) -> list[list[int]]:
    """Numbers of shards, wave after wave: `num_first`, then always as many as all before.

    Args:
        digests: of the shards; their order is that of the shards in the waves.
        num_first: shards of the first wave.
    """
    order = sorted(range(len(digests)), key=digests.__getitem__)
    ends = [0, num_first]
    while ends[-1] < len(order):
        ends.append(2 * ends[-1])
    return [order[first:last] for first, last in pairwise(ends)]


def search(
    searcher: Searcher,
    shards: Shards,
    top_k: NDArray[np.int32],
    blocks: Sequence[tuple[int, int]],
    parts: Path,
    use: Callable[[Sequence[Path]], Result],
) -> Result:
    """Search all shards in waves; returns what `use` makes of the merged hits.

    Args:
        searcher: knows the queries.
        shards: what is searched.
        top_k: (D,) hits wanted of each query.
        blocks: `query_sets.blocks_of` them.
        parts: the directory of what shards and waves bring.
        use: gets a directory of merged hits for each block, which `hit_files` reads; it is called
            again if it finds damage there.

    A task needs memory for the searcher (mapped from the object store), for what it makes of a
    shard, and for the hits of one block: 36 bytes of at most 2 million. A merge needs 32 bytes for
    each of at most 16 million hits and counts of hits, the ids of the units they hit, and as much
    again for the ids of the result. Neither depends on the number of shards, nor does the driver,
    which keeps 8 bytes a query.

    Raises:
        InputError: a shard has changed or is damaged; what is written is damaged again and again.
    """
    digest = digest_of(
        {
            # Thresholds are bounds for the corpus that they come from, and for no other.
            "search": [searcher.digest, sorted(shards.digests)],
            "queries": [xxh3_128_hexdigest(top_k.tobytes()), [list(block) for block in blocks]],
        }
    )
    wanted = _Search(parts, shards, top_k, tuple(blocks), digest)
    shared = {"searcher": cluster.share(searcher), "wanted": cluster.share(wanted)}
    num_cpus = max(1, int(cluster.total_cpus()))
    waves = [
        wanted.tasks_of(wave, num_cpus)
        for wave in plan_waves(shards.digests, -(-num_cpus // len(blocks)))
    ]
    for _ in range(_MAX_REPAIRS):
        try:
            return use(_search_waves(wanted, waves, shared))
        except DamagedHitsError as damage:
            shutil.rmtree(damage.args[0], ignore_errors=True)
            place = damage.args[0]
    raise InputError(f"{place}: is damaged each time it is written; check the disk, or use another")


def _search_waves(
    wanted: _Search, waves: Sequence[Sequence[_Task]], shared: dict[str, Any]
) -> list[Path]:
    ends = np.cumsum([len(wave) for wave in waves]).tolist()
    order = [task for wave in waves for task in wave]
    # An interrupted search left merged hits: the shards behind them are only looked at again.
    start = next(
        (n for n in reversed(range(len(waves))) if _is_merged(wanted, order[: ends[n]])), 0
    )
    bounds = np.zeros(len(wanted.top_k))
    merged: list[Path] = []
    for number in range(start, len(waves)):
        name = f", wave {number + 1} of {len(waves)}" if len(waves) > 1 else ""
        tasks = waves[number] if merged else order[: ends[number]]
        are_whole = len({task.shard for task in tasks}) == len(tasks)
        cluster.for_each(
            _search_shard,
            tasks,
            label=f"search{name}",
            unit="shards" if are_whole else "parts of shards",
            shared={**shared, "bounds": bounds},
        )
        merges = _merges(wanted, order[: ends[number]], tasks, merged)
        bounds = np.empty(len(wanted.top_k))
        for block, found in cluster.as_completed(
            _merge_block,
            merges,
            label=f"merge{name}",
            unit="blocks of queries",
            shared={"wanted": shared["wanted"]},
        ):
            bounds[slice(*wanted.blocks[block])] = found
        for folder in merged:
            shutil.rmtree(folder, ignore_errors=True)
        merged = [merge.folder for merge in merges]
    return merged


def digest_of_shard(path: Path) -> str:
    """Digest of a file of units.

    Raises:
        InputError: it is missing or not readable.
    """
    with explained(path):
        return digest_of_file(path)


def _search_shard(
    task: _Task, *, searcher: Searcher, wanted: _Search, bounds: NDArray[np.float64]
) -> None:
    """Write the shard's own best hits, block after block of the queries."""
    path, digest = wanted.shards.paths[task.shard], wanted.shards.digests[task.shard]
    blocks = wanted.blocks[task.first : task.last]

    def write(draft: Draft) -> None:
        if digest_of_shard(path) != digest:
            raise InputError(f"{path}: has changed during the search; run it again")
        found = searcher.search_shard(
            path, digest, wanted.shards.unit_id_type, wanted.top_k, bounds, blocks
        )
        write_blocks(draft.directory, found)

    inputs = {"units": digest, "search": wanted.digest}
    settings = {"blocks": [task.first, task.last]}
    write_once(wanted.folder_of(task), "shard search", settings, inputs, write)


@dataclass(frozen=True)
class _Merge:
    """Hits of one block that are merged: the directories, and the number of the block in each."""

    block: int
    folder: Path
    sources: tuple[tuple[Path, int], ...]


def _merges(
    wanted: _Search, done: Sequence[_Task], tasks: Sequence[_Task], before: Sequence[Path]
) -> list[_Merge]:
    """One merge a block: of what `tasks` found, and of the hits that were merged before."""
    return [
        _Merge(
            block,
            folder,
            (
                *((path, 0) for path in before[block : block + 1]),
                *(
                    (wanted.folder_of(task), block - task.first)
                    for task in tasks
                    if task.first <= block < task.last
                ),
            ),
        )
        for block, folder in enumerate(wanted.merged_folders(done))
    ]


def _is_merged(wanted: _Search, done: Sequence[_Task]) -> bool:
    return all(read_manifest(folder) for folder in wanted.merged_folders(done))


def _merge_block(merge: _Merge, *, wanted: _Search) -> NDArray[np.float64]:
    """Merge hits of one block; returns the thresholds of its queries."""
    top_k = wanted.top_k[slice(*wanted.blocks[merge.block])]

    def write(draft: Draft) -> None:
        write_blocks(draft.directory, [_merged(merge.sources, top_k)])

    write_once(merge.folder, "merge", {}, {"hits": merge.folder.name}, write)
    return topk.thresholds(read_block(merge.folder, 0), top_k)


def _merged(sources: Sequence[tuple[Path, int]], top_k: NDArray[np.int32]) -> RankedHits:
    parts: list[RankedHits] = []
    for source in sources:
        parts.append(read_block(*source))
        num_rows = sum(len(part.units) + len(part.num_hits) for part in parts)
        if len(parts) > 2 and num_rows > _ROWS_MERGED:
            parts = [topk.merge(parts, top_k)]
    return topk.merge(parts, top_k)
