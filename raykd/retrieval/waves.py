"""A search over shards on Ray: waves of shards, each merged before the next.

The first wave has no thresholds and is the slowest: as few shards as keep every CPU busy, where a
shard is searched by several tasks, each for its share of the queries. After each wave the best hits
so far are merged, and the score of a query's last wanted hit is a bound that later shards need not
go below. Each wave is as large as all before it, so that the bounds rise while the last and largest
waves are searched fast, and a multiple of the CPUs, so that none waits for others. What is left
over at the end is again searched by several tasks a shard. Shards come in the order of their
digests: any first part is a sample of the whole corpus. Bounds decide what is left out of a shard's
hits, never what is among the best, so that the result is the same for any waves and tasks.

What has been merged is removed, as the hits of a wave take about as much room as the best of all.
The price: merged hits that a disk damages later cost a search of the shards behind them.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from raykd.cluster import tasks as cluster
from raykd.corpus.shards import digest_of_shard
from raykd.errors import InputError
from raykd.retrieval.hits import RankedHits, merge, thresholds
from raykd.retrieval.hits_file import DamagedHitsError, read_block, write_blocks
from raykd.storage.manifest import (
    Draft,
    digest_of,
    read_manifest,
    stage_key,
    write_once,
)

Result = TypeVar("Result")

# Hits that are merged at once, with one more row for each query of each part: a part without a hit
# takes memory too, and there may be as many parts as shards.
_ROWS_MERGED = 1 << 24
_MERGE = "merge"
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
            thresholds: (D,) see `hits.thresholds`: units that score less may be left out.
            blocks: ranges [first, last) of queries.
        """


class _Task(NamedTuple):
    """A shard, and the blocks [first, last) of queries that it is searched for."""

    shard: int
    first: int
    last: int


class _Wave(NamedTuple):
    """Shards that are searched together, and the numbers of shards merged before and after it."""

    tasks: tuple[_Task, ...]
    num_before: int
    num_after: int


@dataclass(frozen=True)
class _Search:
    """What the tasks of the waves must know beyond the job."""

    parts: Path
    shards: Shards
    top_k: NDArray[np.int32]
    blocks: tuple[tuple[int, int], ...]
    digest: str

    def num_merged(self) -> int:
        """How many shards' hits have been merged in all blocks: they are searched no more."""
        blocks = range(len(self.blocks))
        for num_shards in range(len(self.shards.paths), 0, -1):
            if all(_is_merged(self.merged_folder(num_shards, block)) for block in blocks):
                return num_shards
        return 0

    def waves(self, num_cpus: int, num_merged: int) -> list[_Wave]:
        """All waves; what has been merged is the first, as CPUs may have been others before."""
        num_first = num_merged or -(-num_cpus // len(self.blocks))
        planned = plan_waves(self.shards.digests, num_first, num_cpus)
        ends = np.cumsum([0, *map(len, planned)]).tolist()
        return [
            _Wave(tuple(self._tasks_of(wave, num_cpus)), *own)
            for wave, own in zip(planned, pairwise(ends), strict=True)
        ]

    def _tasks_of(self, wave: Sequence[int], num_cpus: int) -> list[_Task]:
        """One task a shard, or several for those that are left once all CPUs have as many."""
        num_left = len(wave) % num_cpus
        num_tasks = min(len(self.blocks), num_cpus // num_left) if num_left else 1
        ends = np.linspace(0, len(self.blocks), num_tasks + 1).astype(int).tolist()
        whole, left = wave[: len(wave) - num_left], wave[len(wave) - num_left :]
        return [
            *(_Task(shard, 0, len(self.blocks)) for shard in whole),
            *(_Task(shard, *blocks) for shard in left for blocks in pairwise(ends)),
        ]

    def folder_of(self, task: _Task) -> Path:
        """Where the hits are that a task finds."""
        name = f"hits-{self.shards.digests[task.shard]}"
        is_all = task.last - task.first == len(self.blocks)
        return self.parts / (name if is_all else f"{name}-{task.first:05d}-{task.last:05d}")

    def merged_folder(self, num_shards: int, block: int) -> Path:
        """Where a block's merged hits in the first `num_shards` shards are."""
        return self.parts / f"merged-{self.digest[:32]}-{num_shards:06d}-{block:05d}"

    def sources_of(self, wave: _Wave, block: int) -> list[tuple[Path, int]]:
        """What is merged after a wave: directories, and the number of the block in each."""
        before = [(self.merged_folder(wave.num_before, block), 0)] if wave.num_before else []
        own = (task for task in wave.tasks if task.first <= block < task.last)
        return [*before, *((self.folder_of(task), block - task.first) for task in own)]

    def remove_sources_of(self, wave: _Wave) -> None:
        """Remove all that has been merged after a wave."""
        folders = {self.folder_of(task) for task in wave.tasks}
        folders |= {self.merged_folder(wave.num_before, block) for block in range(len(self.blocks))}
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def plan_waves(digests: Sequence[str], num_first: int, num_cpus: int) -> list[list[int]]:
    """Numbers of shards, wave after wave: `num_first`, then at least as many as all before.

    Args:
        digests: of the shards; their order is that of the shards in the waves.
        num_first: shards of the first wave.
        num_cpus: the later waves are multiples of it, but the last, which takes what is left.
    """
    order = sorted(range(len(digests)), key=digests.__getitem__)
    ends = [0, num_first]
    while ends[-1] < len(order):
        end = ends[-1] + -(-ends[-1] // num_cpus) * num_cpus
        # A rest that would leave CPUs idle is not worth a wave of its own.
        ends.append(end if len(order) - end >= num_cpus else len(order))
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
    for _ in range(_MAX_REPAIRS):
        try:
            return use(_search_waves(wanted, shared))
        except DamagedHitsError as damage:
            shutil.rmtree(damage.args[0], ignore_errors=True)
            place = damage.args[0]
    raise InputError(f"{place}: is damaged each time it is written; check the disk, or use another")


def _search_waves(wanted: _Search, shared: Mapping[str, Any]) -> list[Path]:
    # An interrupted search left merged hits: the shards behind them are not looked at again.
    num_merged = wanted.num_merged()
    waves = wanted.waves(max(1, int(cluster.total_cpus())), num_merged)
    blocks = range(len(wanted.blocks))
    for number in range(1 if num_merged else 0, len(waves)):
        wave = waves[number]
        name = f", wave {number + 1} of {len(waves)}" if len(waves) > 1 else ""
        bounds = np.zeros(len(wanted.top_k))
        if wave.num_before:
            for block, found in cluster.as_completed(
                _bounds_of_block,
                blocks,
                label="thresholds",
                shared={"wanted": shared["wanted"], "num_shards": wave.num_before},
                shows_progress=False,
            ):
                bounds[slice(*wanted.blocks[block])] = found
            # No earlier: what they were merged into has just been read whole.
            wanted.remove_sources_of(waves[number - 1])
        are_whole = len({task.shard for task in wave.tasks}) == len(wave.tasks)
        cluster.for_each(
            _search_shard,
            wave.tasks,
            label=f"search{name}",
            unit="shards" if are_whole else "parts of shards",
            shared={**shared, "bounds": bounds},
        )
        cluster.for_each(
            _merge_block,
            blocks,
            label=f"merge{name}",
            unit="blocks of queries",
            shared={"wanted": shared["wanted"], "wave": wave},
        )
    return [wanted.merged_folder(waves[-1].num_after, block) for block in blocks]


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


def _is_merged(folder: Path) -> bool:
    """Whether a block has been merged here; who reads it finds out whether it is damaged since."""
    manifest = read_manifest(folder)
    return manifest is not None and manifest.key == stage_key(_MERGE, {}, {"hits": folder.name})


def _merge_block(block: int, *, wanted: _Search, wave: _Wave) -> None:
    """Merge a block's hits in the shards of a wave and of all waves before."""
    top_k = wanted.top_k[slice(*wanted.blocks[block])]
    folder = wanted.merged_folder(wave.num_after, block)

    def write(draft: Draft) -> None:
        write_blocks(draft.directory, [_merged(wanted.sources_of(wave, block), top_k)])

    write_once(folder, _MERGE, {}, {"hits": folder.name}, write)


def _bounds_of_block(block: int, *, wanted: _Search, num_shards: int) -> NDArray[np.float64]:
    """Thresholds of a block's queries, from its hits in the first `num_shards` shards."""
    hits = read_block(wanted.merged_folder(num_shards, block), 0)
    return thresholds(hits, wanted.top_k[slice(*wanted.blocks[block])])


def _merged(sources: Sequence[tuple[Path, int]], top_k: NDArray[np.int32]) -> RankedHits:
    parts: list[RankedHits] = []
    for source in sources:
        parts.append(read_block(*source))
        num_rows = sum(len(part.units) + len(part.num_hits) for part in parts)
        if len(parts) > 2 and num_rows > _ROWS_MERGED:
            parts = [merge(parts, top_k)]
    return merge(parts, top_k)
