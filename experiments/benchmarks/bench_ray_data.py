"""Ray Data under the search wing: overhead per shard, and its hash shuffle against our files.

    python experiments/benchmarks/bench_ray_data.py [--part overhead shuffle]

The shuffle finds the later ones of equal digests of texts, as `raykd dedup` does. Both sides of a
comparison run in turn on one Ray. Prints JSON.
"""

import argparse
import functools
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.data
from ray import cloudpickle

from raykd.cluster import datasets, tasks
from raykd.cluster.connection import connect
from raykd.dedup import exact
from raykd.dedup.pipeline import Sizes
from raykd.storage.manifest import Draft, write_once
from raykd.storage.partitions import read_partition, write_partitions

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def seconds(function: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    function()
    return time.perf_counter() - started_s


def medians(sides: dict[str, Callable[[], object]], num_repeats: int) -> dict[str, float]:
    """Measure the sides in turn; the first round compiles and starts processes."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(num_repeats + 1):
        for name, side in sides.items():
            times[name].append(seconds(side))
    return {f"{name}_s": statistics.median(values[1:]) for name, values in times.items()}


def nothing(number: int) -> int:
    return number


def measure_overhead(num_shards: int, num_repeats: int) -> dict[str, float]:
    shards = range(num_shards)
    one = medians(
        {"one_shard": lambda: datasets.for_each(nothing, [0], label="one", files=None)}, num_repeats
    )
    many = medians(
        {
            "ray_data": lambda: datasets.for_each(nothing, shards, label="data", files=None),
            "plain_tasks": lambda: tasks.for_each(nothing, shards, label="tasks", files=None),
        },
        num_repeats,
    )
    return {
        "num_shards": num_shards,
        "call_with_one_shard_s": one["one_shard_s"],
        "ray_data_ms_per_shard": 1000 * many["ray_data_s"] / num_shards,
        "plain_tasks_ms_per_shard": 1000 * many["plain_tasks_s"] / num_shards,
    }


def write_digests(folder: Path, num_units: int, num_shards: int) -> list[Path]:
    """Write random digests of texts, of which every second one is equal to another."""
    random = np.random.default_rng(1)
    digests = np.tile(random.integers(1 << 63, size=(num_units // 2, 2), dtype=np.uint64), (2, 1))
    paths = []
    for number, rows in enumerate(np.array_split(random.permutation(num_units), num_shards)):
        table = pa.table(
            {
                "row": rows,
                "first": digests[rows, 0],
                "second": digests[rows, 1],
                "unit_id": [f"{row:012d}" for row in rows.tolist()],
            }
        )
        paths.append(folder / f"digests-{number:05d}.parquet")
        pq.write_table(table, paths[-1])
    return paths


def partition_digests(number: int, *, paths: list[Path], out: Path, num_partitions: int) -> None:
    def write(draft: Draft) -> None:
        rows = pq.read_table(paths[number])
        partition = rows["second"].to_numpy() % np.uint64(num_partitions)
        file = draft.directory / "digests.arrow"
        write_partitions(file, rows, partition.astype(np.int64), num_partitions)

    write_once(out / f"hash-{number}", "hash", {}, {}, write)


def later_of_partition(partition: int, *, num_shards: int, out: Path) -> int:
    files = [out / f"hash-{number}" / "digests.arrow" for number in range(num_shards)]
    members = read_partition(files, partition)
    members = members.take(pc.sort_indices(members["unit_id"]))
    digests = np.stack([members["first"].to_numpy(), members["second"].to_numpy()], axis=1)
    firsts = exact._first_of_digest(digests)
    later = np.flatnonzero(firsts != np.arange(len(firsts)))

    def write(draft: Draft) -> None:
        np.save(draft.directory / "later.npy", members["row"].to_numpy()[later])

    write_once(out / f"equal-{partition}", "equal", {}, {}, write)
    return len(later)


def equal_by_files(paths: list[Path], out: Path, num_partitions: int) -> int:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    shards = range(len(paths))
    shared = {"paths": paths, "out": out, "num_partitions": num_partitions}
    datasets.for_each(partition_digests, shards, label="hash", shared=shared, files=None)
    shared = {"num_shards": len(paths), "out": out}
    partitions = range(num_partitions)
    return sum(
        datasets.for_each(later_of_partition, partitions, label="equal", shared=shared, files=None)
    )


def digests_of_shard(batch: pa.Table) -> pa.Table:
    [path] = batch["path"].to_pylist()
    return pq.read_table(path)


def later_of_block(block: pa.Table, *, out: Path) -> pa.Table:
    members = block.take(pc.sort_indices(block["unit_id"]))
    digests = np.stack([members["first"].to_numpy(), members["second"].to_numpy()], axis=1)
    firsts = exact._first_of_digest(digests)
    later = np.flatnonzero(firsts != np.arange(len(firsts)))

    def write(draft: Draft) -> None:
        np.save(draft.directory / "later.npy", members["row"].to_numpy()[later])

    name = f"{members['second'][0].as_py():016x}" if len(members) else "empty"
    write_once(out / f"equal-{name}", "equal", {}, {}, write)
    return pa.table({"num_later": [len(later)]})


def equal_by_shuffle(paths: list[Path], out: Path, num_partitions: int) -> int:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    rows = ray.data.from_arrow([pa.table({"path": [str(path)]}) for path in paths])
    digests = rows.map_batches(
        digests_of_shard, batch_size=None, batch_format="pyarrow", num_cpus=1
    ).repartition(num_partitions, keys=["first", "second"])
    counts = digests.map_batches(
        functools.partial(later_of_block, out=out),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
    )
    return int(counts.sum("num_later"))


def measure_shuffle(num_units: int, num_shards: int, num_repeats: int) -> dict[str, float]:
    num_partitions = -(-num_units // Sizes().units_per_partition)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_digests(folder, num_units, num_shards)
        counts = {}

        def by_files() -> None:
            counts["files"] = equal_by_files(paths, folder / "parts", num_partitions)

        def by_shuffle() -> None:
            counts["ray_data"] = equal_by_shuffle(paths, folder / "shuffle", num_partitions)

        result = medians({"files": by_files, "ray_data": by_shuffle}, num_repeats)
        assert set(counts.values()) == {num_units // 2}, counts
    ratio = result["ray_data_s"] / result["files_s"]
    return {"num_units": num_units, **result, "ray_data_per_files": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", nargs="+", default=["overhead", "shuffle"])
    parser.add_argument("--num-units", type=int, default=5_000_000)
    parser.add_argument("--num-shards", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    connect()
    ray.data.DataContext.get_current().enable_progress_bars = False
    result = {}
    if "overhead" in arguments.part:
        result["overhead"] = measure_overhead(64, arguments.repeats)
    if "shuffle" in arguments.part:
        result["shuffle"] = measure_shuffle(
            arguments.num_units, arguments.num_shards, arguments.repeats
        )
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
