"""Ingest: megabytes of text per second and peak memory of a task; prints JSON.

    taskset -c 1 python experiments/benchmarks/bench_ingest.py --corpus corpus.parquet --one-core
    python experiments/benchmarks/bench_ingest.py --corpus corpus.parquet

A task reads, splits, packs and writes zstd Parquet; the text column of the corpus is also written
as JSONL, plain text, and both compressed. Rates refer to the bytes of the written units. `cpu` is
CPU time; `wall` is elapsed time, which other work on the machine lengthens.
"""

import argparse
import gzip
import json
import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from floors import held_against

from raykd.corpus.pipeline import CorpusConfig, write_shard
from raykd.corpus.shards import plan_shards

DIGEST = "ab" * 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="Parquet with a column text")
    parser.add_argument(
        "--one-core", action="store_true", help="skip the measurements of two cores and of memory"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_formats(options.corpus, folder)
        # Compilation and imports at the first call are not part of a rate.
        for path in files.values():
            ingest_file(path, "packed", folder / "warm")
        result = {
            "one_core": {
                f"{format_} {policy}": ingest_file(path, policy, folder / "out")
                for format_, path in files.items()
                for policy in (["packed"] if format_ != "parquet" else POLICIES)
            }
        }
        if not options.one_core:
            result["cores"] = {str(n): ingest_on(n, files["jsonl"], folder) for n in (1, 2)}
            result["memory"] = {
                kind: peak_of(path, folder) for kind, path in write_huge(files, folder).items()
            }
    rates_of = {
        name: rates["megabytes_per_second_cpu"] for name, rates in result["one_core"].items()
    }
    print(json.dumps(result | held_against("ingest", rates_of), indent=2))


POLICIES = ["packed", "sentence", "line"]


def write_formats(corpus: Path, folder: Path) -> dict[str, Path]:
    texts = pq.read_table(corpus, columns=["text"])["text"].to_pylist()
    jsonl = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    plain = "".join(text.replace("\n", " ") + "\n" for text in texts)
    contents = {
        "jsonl": ("a.jsonl", jsonl.encode()),
        "text": ("a.txt", plain.encode()),
        "jsonl gzip": ("b.jsonl.gz", gzip.compress(jsonl.encode(), 4)),
        "text zstd": ("b.txt.zst", zstandard.compress(plain.encode())),
    }
    for name, content in contents.values():
        (folder / name).write_bytes(content)
    return {"parquet": corpus} | {kind: folder / name for kind, (name, _) in contents.items()}


def ingest_file(path: Path, policy: str, out: Path) -> dict[str, float]:
    """Ingest a file in one process, one shard after the other."""
    started, cpu_started = time.perf_counter(), time.process_time()
    num_bytes = sum(ingest_shard((path, policy, number, out)) for number in shards_of(path, policy))
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu_started
    shutil.rmtree(out)
    return rates(num_bytes, wall_s, cpu_s)


def rates(num_bytes: int, wall_s: float, cpu_s: float | None = None) -> dict[str, float]:
    clocks = {"wall": wall_s} | ({"cpu": cpu_s} if cpu_s else {})
    speeds = {f"megabytes_per_second_{clock}": num_bytes / 1e6 / s for clock, s in clocks.items()}
    return {"num_bytes": num_bytes} | {name: round(speed, 1) for name, speed in speeds.items()}


def config_of(policy: str) -> CorpusConfig:
    return CorpusConfig(paths=("unused",), units={"policy": policy}, shard_bytes=8 << 20)


def shards_of(path: Path, policy: str) -> range:
    return range(len(plan_shards([(DIGEST, path)], config_of(policy).shard_bytes)))


def ingest_shard(item: tuple[Path, str, int, Path]) -> int:
    path, policy, number, out = item
    config = config_of(policy)
    (out / str(number)).mkdir(parents=True)
    parts = plan_shards([(DIGEST, path)], config.shard_bytes)[number]
    return write_shard(parts, config, out / str(number))["num_bytes"]


def ingest_on(num_processes: int, path: Path, folder: Path) -> dict[str, float]:
    out = folder / f"on-{num_processes}"
    items = [(path, "packed", number, out) for number in shards_of(path, "packed")]
    first = [(path, "packed", n, folder / f"first-{num_processes}-{n}") for n in (0, 1)]
    with multiprocessing.get_context("spawn").Pool(num_processes) as pool:
        pool.map(ingest_shard, first, 1)
        started = time.perf_counter()
        num_bytes = sum(pool.map(ingest_shard, items, 1))
        wall_s = time.perf_counter() - started
    return rates(num_bytes, wall_s)


def write_huge(files: dict[str, Path], folder: Path) -> dict[str, Path]:
    """Write inputs that need much memory: a line, a row group and a compressed file of 500 MB."""
    text = files["text"].read_bytes()
    paths = {"line": folder / "line.txt", "gzip": folder / "huge.txt.gz"}
    with paths["line"].open("wb") as line, gzip.open(paths["gzip"], "wb", 1) as packed:
        for _ in range(max(1, 500_000_000 // len(text))):
            line.write(text.replace(b"\n", b" "))
            packed.write(text)
    rows = text.decode().split("\n") * max(1, 500_000_000 // len(text))
    paths["row group"] = folder / "group.parquet"
    pq.write_table(pa.table({"text": rows}), paths["row group"], row_group_size=len(rows))
    return {"small file": files["text"]} | paths


def peak_of(path: Path, folder: Path) -> dict[str, int]:
    """Measure peak memory of a process that ingests the first shard, and of one that imports."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        before = pool.apply(peak_bytes)
        item = (path, "packed", 0, folder / f"peak-{path.name}")
        num_bytes = pool.apply(ingest_shard, (item,))
        return {"num_bytes": num_bytes, "start": before, "peak": pool.apply(peak_bytes)}


def peak_bytes() -> int:
    # Unlike ru_maxrss, this is reset when a process starts another program.
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
