"""Ray Data under the search wing: overhead per shard, and its hash shuffle against our files.

    python experiments/benchmarks/bench_ray_data.py CORPUS.parquet [--part overhead shuffle]

CORPUS is a Parquet file of `text`. Both sides of a comparison run in turn in one process tree, on
one Ray. Prints JSON.
"""

import argparse
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
import pyarrow.parquet as pq
import ray
import ray.data
from ray import cloudpickle

from raykd.cluster import datasets, tasks
from raykd.cluster.connection import connect
from raykd.dedup import steps
from raykd.dedup.exact import digests_of
from raykd.dedup.pipeline import Sizes
from raykd.dedup.steps import DedupJob
from raykd.storage.schemas import UNITS

cloudpickle.register_pickle_by_value(sys.modules[__name__])
_TEXT_CHARACTERS = 60
_HASH_ROWS = 4096


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
    one = medians({"one_shard": lambda: datasets.for_each(nothing, [0], label="one")}, num_repeats)
    many = medians(
        {
            "ray_data": lambda: datasets.for_each(nothing, shards, label="data"),
            "plain_tasks": lambda: tasks.for_each(nothing, shards, label="tasks"),
        },
        num_repeats,
    )
    return {
        "num_shards": num_shards,
        "call_with_one_shard_s": one["one_shard_s"],
        "ray_data_ms_per_shard": 1000 * many["ray_data_s"] / num_shards,
        "plain_tasks_ms_per_shard": 1000 * many["plain_tasks_s"] / num_shards,
    }


def write_shards(corpus: Path, folder: Path, num_units: int, num_shards: int) -> list[Path]:
    """Write short units, of which every second one is equal to another: the shuffle dominates."""
    texts = pq.read_table(corpus, columns=["text"])["text"].to_pylist()
    paths = []
    for number, rows in enumerate(np.array_split(np.arange(num_units), num_shards)):
        half = [row % (num_units // 2) for row in rows.tolist()]
        table = pa.table(
            {
                "unit_id": [f"{row:012d}" for row in rows.tolist()],
                "text": [f"{row} {texts[row % len(texts)][:_TEXT_CHARACTERS]}" for row in half],
            },
            schema=UNITS,
        )
        paths.append(folder / f"units-{number:05d}.parquet")
        pq.write_table(table, paths[-1])
    return paths


def equal_by_files(paths: list[Path], folder: Path, num_units: int) -> int:
    shutil.rmtree(folder, ignore_errors=True)
    counts = [pq.read_metadata(path).num_rows for path in paths]
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
    num_partitions = -(-num_units // Sizes().units_per_partition)
    job = DedupJob(folder, tuple(paths), None, {}, {}, starts, num_partitions)
    shared = {"job": job}
    datasets.for_each(steps.hash_shard, range(len(paths)), label="hash", shared=shared)
    datasets.for_each(steps.find_equal, range(num_partitions), label="equal", shared=shared)
    found = job.files("equal", num_partitions, "equal.arrow")
    equal = [pa.ipc.open_file(pa.memory_map(str(path))).read_all().num_rows for path in found]
    return sum(equal)


def digests_of_shard(batch: pa.Table) -> pa.Table:
    [path] = batch["path"].to_pylist()
    units = pq.read_table(path)
    digests = np.concatenate([digests_of(part["text"]) for part in units.to_batches(_HASH_ROWS)])
    return pa.table({"first": digests[:, 0], "second": digests[:, 1], "unit_id": units["unit_id"]})


def equal_by_shuffle(paths: list[Path], num_units: int, num_partitions: int) -> int:
    rows = ray.data.from_arrow([pa.table({"path": [str(path)]}) for path in paths])
    digests = rows.map_batches(
        digests_of_shard, batch_size=None, batch_format="pyarrow", num_cpus=1
    )
    kept = digests.groupby(["first", "second"], num_partitions=num_partitions).min("unit_id")
    return num_units - kept.count()


def measure_shuffle(corpus: Path, num_units: int, num_shards: int, num_repeats: int) -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_shards(corpus, folder, num_units, num_shards)
        found = {}

        def run(side: str, function: Callable[[], int]) -> None:
            found[side] = function()

        num_partitions = -(-num_units // Sizes().units_per_partition)
        result = medians(
            {
                "files": lambda: run(
                    "files", lambda: equal_by_files(paths, folder / "parts", num_units)
                ),
                "ray_data": lambda: run(
                    "ray_data", lambda: equal_by_shuffle(paths, num_units, num_partitions)
                ),
            },
            num_repeats,
        )
        assert found["files"] == found["ray_data"] == num_units // 2, found
    ratio = result["ray_data_s"] / result["files_s"]
    return {"num_units": num_units, **result, "ray_data_per_files": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
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
            arguments.corpus, arguments.num_units, arguments.num_shards, arguments.repeats
        )
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
