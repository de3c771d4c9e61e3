"""Search over shards on Ray, in waves whose hits are merged before the next wave.

The first wave has no thresholds and is the slowest: it has as few shards as keep every CPU busy,
and several tasks share a shard, each with a part of the queries. After each wave the hits are
merged; the score of a query's k-th hit is the threshold of later shards. Each wave is as large as
all waves before it, so that the largest waves have high thresholds, and a multiple of the CPUs.
Remaining shards are again shared by several tasks. Shards are sorted by digest, so that the first
waves are a sample of the corpus. Thresholds exclude only hits below the top k, so that the result
does not depend on the waves and tasks.

Merged hits are removed, since the hits of a wave need about as much space as the top k of all. If
a disk damages merged hits later, their shards have to be searched again.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_128_hexdigest

from raykd.cluster import capacity, datasets, tasks
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
from raykd.storage.remote.task_files import TaskFiles

Result = TypeVar("Result")

# Rows merged at once: hits, and one row per query and part, since parts without hits need memory.
_ROWS_MERGED = 1 << 24
_MERGE = "merge"
# Damage that occurs repeatedly is a fault of the disk.
_MAX_REPAIRS = 8


@dataclass(frozen=True)
class Shards:
    """Shards of the corpus.

    Attributes:
        paths: files of units.
        digests: digests of the files, in the same order.
        unit_id_type: type of the ids in all shards with units: string or int64.
    """

    paths: tuple[Path, ...]
    digests: tuple[str, ...]
    unit_id_type: pa.DataType


class Searcher(Protocol):
    """Search of one shard for D queries; every task gets a copy."""

    @property
    def digest(self) -> str:
        """Digest of all that determines the hits, except the shards and `top_k`."""

    def search_shard(
        self,
        path: Path,
        digest: str,
        unit_id_type: pa.DataType,
        top_k: NDArray[np.int32],
        thresholds: NDArray[np.float64],
        blocks: Sequence[tuple[int, int]],
    ) -> Iterator[RankedHits]:
        """Find the best hits of one shard, query batch by query batch.

        Args:
            path: file of the shard.
            digest: digest of the file.
            unit_id_type: type of the unit ids.
            top_k: (D,) hits kept per query.
            thresholds: (D,) see `hits.thresholds`; units that score less may be skipped.
            blocks: query batches [first, last).
        """


class _Task(NamedTuple):
    """Task: a shard, and the query batches [first, last) to search it for."""

    shard: int
    first: int
    last: int


class _Wave(NamedTuple):
    """Wave of tasks, and the numbers of shards that are merged before and after it."""

    tasks: tuple[_Task, ...]
    num_before: int
    num_after: int


@dataclass(frozen=True)
class _SearchPlan:
    """Parameters of the tasks of all waves."""

    parts: Path
    shards: Shards
    top_k: NDArray[np.int32]
    blocks: tuple[tuple[int, int], ...]
    digest: str

    def num_merged(self) -> int:
        """Number of shards whose hits are merged for all query batches; they are not searched."""
        blocks = range(len(self.blocks))
        for num_shards in range(len(self.shards.paths), 0, -1):
            if all(_is_merged(self.merged_folder(num_shards, block)) for block in blocks):
                return num_shards
        return 0

    def waves(self, num_cpus: int, num_merged: int) -> list[_Wave]:
        """Plan all waves; merged shards are the first wave, since the number of CPUs may differ."""
        num_first = num_merged or -(-num_cpus // len(self.blocks))
        planned = plan_waves(self.shards.digests, num_first, num_cpus)
        ends = np.cumsum([0, *map(len, planned)]).tolist()
        return [
            _Wave(tuple(self._tasks_of(wave, num_cpus)), *own)
            for wave, own in zip(planned, pairwise(ends), strict=True)
        ]

    def _tasks_of(self, wave: Sequence[int], num_cpus: int) -> list[_Task]:
        """Plan one task per shard, or several for the shards that do not fill all CPUs."""
        num_left = len(wave) % num_cpus
        num_tasks = min(len(self.blocks), num_cpus // num_left) if num_left else 1
        ends = np.linspace(0, len(self.blocks), num_tasks + 1).astype(int).tolist()
        whole, left = wave[: len(wave) - num_left], wave[len(wave) - num_left :]
        return [
            *(_Task(shard, 0, len(self.blocks)) for shard in whole),
            *(_Task(shard, *blocks) for shard in left for blocks in pairwise(ends)),
        ]

    def folder_of(self, task: _Task) -> Path:
        """Directory of the hits of a task."""
        name = f"hits-{self.shards.digests[task.shard]}"
        is_all = task.last - task.first == len(self.blocks)
        return self.parts / (name if is_all else f"{name}-{task.first:05d}-{task.last:05d}")

    def merged_folder(self, num_shards: int, block: int) -> Path:
        """Directory of the merged hits of a query batch in the first `num_shards` shards."""
        return self.parts / f"merged-{self.digest[:32]}-{num_shards:06d}-{block:05d}"

    def sources_of(self, wave: _Wave, block: int) -> list[tuple[Path, int]]:
        """List the hits to merge after a wave: directories, and the batch position in each."""
        before = [(self.merged_folder(wave.num_before, block), 0)] if wave.num_before else []
        own = (task for task in wave.tasks if task.first <= block < task.last)
        return [*before, *((self.folder_of(task), block - task.first) for task in own)]

    def files_of(self, task: _Task) -> TaskFiles:
        """Files that the search of a task reads and writes."""
        return TaskFiles((self.shards.paths[task.shard],), (self.folder_of(task),))

    def files_of_merged(self, num_shards: int, block: int) -> TaskFiles:
        """Files of the merged hits of a query batch, to be read."""
        return TaskFiles((self.merged_folder(num_shards, block),))

    def files_of_merge(self, wave: _Wave, block: int) -> TaskFiles:
        """Files that a merge reads and writes."""
        sources = tuple(folder for folder, _ in self.sources_of(wave, block))
        return TaskFiles(sources, (self.merged_folder(wave.num_after, block),))

    def remove_sources_of(self, wave: _Wave) -> None:
        """Remove the hits that were merged after a wave."""
        folders = {self.folder_of(task) for task in wave.tasks}
        folders |= {self.merged_folder(wave.num_before, block) for block in range(len(self.blocks))}
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def plan_waves(digests: Sequence[str], num_first: int, num_cpus: int) -> list[list[int]]:
    """Plan the waves: `num_first` shards, then at least as many as in all previous waves.

    Args:
        digests: digests of the shards; shards are searched in the order of their digests.
        num_first: shards of the first wave.
        num_cpus: later waves are multiples of it; the last wave has the remaining shards.
    """
    order = sorted(range(len(digests)), key=digests.__getitem__)
    ends = [0, num_first]
    while ends[-1] < len(order):
        end = ends[-1] + -(-ends[-1] // num_cpus) * num_cpus
        # Too few remaining shards for all CPUs are added to this wave.
        ends.append(end if len(order) - end >= num_cpus else len(order))
    return [order[first:last] for first, last in pairwise(ends)]


def search_shards(
    searcher: Searcher,
    shards: Shards,
    top_k: NDArray[np.int32],
    blocks: Sequence[tuple[int, int]],
    parts: Path,
    use: Callable[[Sequence[Path]], Result],
) -> Result:
    """Search all shards in waves; return the result of `use` for the merged hits.

    A task needs memory for the searcher (mapped from the object store), for its index of a shard,
    and for the hits of one query batch: 36 bytes per hit, at most 2 million hits. A merge needs 32
    bytes per row, at most 16 million rows, and twice the memory of the ids. The driver needs 8
    bytes per query. None of these depends on the number of shards.

    Args:
        searcher: search of one shard.
        shards: shards of the corpus.
        top_k: (D,) hits kept per query.
        blocks: query batches from `query_sets.blocks_of`.
        parts: directory of intermediate results.
        use: function of one directory of merged hits per batch (see `hits_file`); it is called
            again if it raises DamagedHitsError.

    Raises:
        InputError: a shard has changed or is damaged, or files are damaged repeatedly.
    """
    digest = digest_of(
        {
            # Thresholds are valid only for the corpus from which they were computed.
            "search": [searcher.digest, sorted(shards.digests)],
            "queries": [xxh3_128_hexdigest(top_k.tobytes()), [list(block) for block in blocks]],
        }
    )
    plan = _SearchPlan(parts, shards, top_k, tuple(blocks), digest)
    shared = {"searcher": tasks.share(searcher), "plan": tasks.share(plan)}
    for _ in range(_MAX_REPAIRS):
        try:
            return use(_search_waves(plan, shared))
        except DamagedHitsError as damage:
            shutil.rmtree(damage.args[0], ignore_errors=True)
            place = damage.args[0]
    raise InputError(f"{place}: damaged each time it was written; check the disk, or use another")


def _search_waves(plan: _SearchPlan, shared: Mapping[str, Any]) -> list[Path]:
    # Shards whose hits an interrupted search has merged are not searched again.
    num_merged = plan.num_merged()
    waves = plan.waves(max(1, int(capacity.total_cpus())), num_merged)
    blocks = range(len(plan.blocks))
    for number in range(1 if num_merged else 0, len(waves)):
        wave = waves[number]
        name = f", wave {number + 1} of {len(waves)}" if len(waves) > 1 else ""
        bounds = np.zeros(len(plan.top_k))
        if wave.num_before:
            for block, batch_bounds in datasets.as_completed(
                _bounds_of_block,
                blocks,
                label="thresholds",
                shared={"plan": shared["plan"], "num_shards": wave.num_before},
                files=partial(plan.files_of_merged, wave.num_before),
                shows_progress=False,
            ):
                bounds[slice(*plan.blocks[block])] = batch_bounds
            # Not earlier: the merged hits have just been read and verified.
            plan.remove_sources_of(waves[number - 1])
        are_whole = len({task.shard for task in wave.tasks}) == len(wave.tasks)
        datasets.for_each(
            _search_shard,
            wave.tasks,
            label=f"search{name}",
            unit="shards" if are_whole else "parts of shards",
            shared={**shared, "bounds": bounds},
            files=plan.files_of,
        )
        datasets.for_each(
            _merge_block,
            blocks,
            label=f"merge{name}",
            unit="blocks of queries",
            shared={"plan": shared["plan"], "wave": wave},
            files=partial(plan.files_of_merge, wave),
        )
    return [plan.merged_folder(waves[-1].num_after, block) for block in blocks]


def _search_shard(
    task: _Task, *, searcher: Searcher, plan: _SearchPlan, bounds: NDArray[np.float64]
) -> None:
    """Write the best hits of one shard, query batch by query batch."""
    path, digest = plan.shards.paths[task.shard], plan.shards.digests[task.shard]
    blocks = plan.blocks[task.first : task.last]

    def write(draft: Draft) -> None:
        if digest_of_shard(path) != digest:
            raise InputError(f"{path}: has changed during the search; run it again")
        hits = searcher.search_shard(
            path, digest, plan.shards.unit_id_type, plan.top_k, bounds, blocks
        )
        write_blocks(draft.directory, hits)

    inputs = {"units": digest, "search": plan.digest}
    settings = {"blocks": [task.first, task.last]}
    write_once(plan.folder_of(task), "shard search", settings, inputs, write)


def _is_merged(folder: Path) -> bool:
    """Check for merged hits in a directory; damage is detected when they are read."""
    manifest = read_manifest(folder)
    return manifest is not None and manifest.key == stage_key(_MERGE, {}, {"hits": folder.name})


def _merge_block(block: int, *, plan: _SearchPlan, wave: _Wave) -> None:
    """Merge the hits of a query batch in the shards of a wave and of all previous waves."""
    top_k = plan.top_k[slice(*plan.blocks[block])]
    folder = plan.merged_folder(wave.num_after, block)

    def write(draft: Draft) -> None:
        write_blocks(draft.directory, [_merged(plan.sources_of(wave, block), top_k)])

    write_once(folder, _MERGE, {}, {"hits": folder.name}, write)


def _bounds_of_block(block: int, *, plan: _SearchPlan, num_shards: int) -> NDArray[np.float64]:
    """Compute the thresholds of a query batch from its hits in the first `num_shards` shards."""
    hits = read_block(plan.merged_folder(num_shards, block), 0)
    return thresholds(hits, plan.top_k[slice(*plan.blocks[block])])


def _merged(sources: Sequence[tuple[Path, int]], top_k: NDArray[np.int32]) -> RankedHits:
    parts: list[RankedHits] = []
    for source in sources:
        parts.append(read_block(*source))
        num_rows = sum(len(part.units) + len(part.num_hits) for part in parts)
        if len(parts) > 2 and num_rows > _ROWS_MERGED:
            parts = [merge(parts, top_k)]
    return merge(parts, top_k)
