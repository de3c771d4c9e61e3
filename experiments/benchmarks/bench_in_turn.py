"""CPU seconds of ingest, deduplication, retrieval and training, of two checkouts in turn.

    python experiments/benchmarks/bench_in_turn.py --before CHECKOUT --after CHECKOUT \
        --corpus PARQUET --tasks GLUE [--seconds 300]

Each checkout runs in a process of its own, with its own benchmark functions on the same inputs. The
parts are measured in turn, in the order A B B A ..., on one thread each, so that other work on the
machine slows both sides alike. Prints a table: best CPU milliseconds of each side, their ratio, and
the ratio of the medians.
"""

import argparse
import importlib
import inspect
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")}
AREAS = ("ingest", "dedup", "retrieval", "training")
OBJECTIVES = ("vanilla_kd", "minilmv2", "tinybert", "ad2")
INGEST_ROWS, DEDUP_ROWS, SHARD_UNITS, NUM_QUERIES = 8_000, 10_000, 49_152, 400

Part = Callable[[], float]


def timed(work: Callable[[], object]) -> Part:
    """Make a part that returns the CPU seconds of some work."""

    def part() -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    return part


def ingest_parts(corpus: Path, folder: Path) -> dict[str, Part]:
    import pyarrow.parquet as pq

    bench = importlib.import_module("bench_ingest")
    small = folder / "small.parquet"
    pq.write_table(pq.read_table(corpus).slice(0, INGEST_ROWS), small, compression="zstd")

    def ingest(policy: str) -> Part:
        def part() -> float:
            started = time.process_time()
            for number in bench.shards_of(small, policy):
                bench.ingest_shard((small, policy, number, folder / "out"))
            spent = time.process_time() - started
            shutil.rmtree(folder / "out")
            return spent

        return part

    return {f"ingest {policy}": ingest(policy) for policy in ("packed", "sentence", "line")}


def dedup_parts(corpus: Path) -> dict[str, Part]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    bench = importlib.import_module("bench_dedup")
    texts = pq.read_table(corpus, columns=["text"])["text"].slice(0, DEDUP_ROWS)
    batches, config = bench.batches(texts), bench.CONFIG
    table = pa.table({"unit_id": range(len(texts)), "text": texts})

    def signatures() -> None:
        for batch in batches:
            bench.band_keys(bench.shingles(batch, config.shingle_words), config)

    return {
        "exact duplicates": timed(lambda: [bench.first_equal(texts) for _ in range(5)]),
        "MinHash signatures": timed(signatures),
        "near duplicates": timed(lambda: bench.near_duplicates(table, config)),
    }


def retrieval_parts(corpus: Path, tasks: Path) -> dict[str, Part]:
    bench = importlib.import_module("bench_retrieval")
    make = bench.Bench
    bench.Bench = lambda **values: make(**{**values, "shard_units": SHARD_UNITS})
    bench.TASKS = {"rte": bench.TASKS["rte"]}
    # Whole sentences: checkouts differ in the stop words of RAKE.
    make_queries = bench.make_queries
    bench.make_queries = lambda texts, _: make_queries(texts, "none")
    options = {"quick": True, "queries": NUM_QUERIES, "rounds": 1}
    made = bench.prepare(argparse.Namespace(corpus=corpus, tasks=tasks, **options))
    queries, shard = made.queries["rte"], made.shard
    floors = made.floors(made.seeds["rte"], 10)

    def with_thresholds() -> None:
        for _ in range(3):
            made.run(shard, queries, 1000, floors)

    return {
        "index a shard": timed(lambda: made.index_of(0, made.shard_units)),
        "search, k=10": timed(lambda: made.run(shard, queries, 10, None)),
        "search, k=1000": timed(lambda: made.run(shard, queries, 1000, None)),
        "search, k=1000, with thresholds": timed(with_thresholds),
    }


def training_parts() -> dict[str, Part]:
    import torch

    bench = importlib.import_module("bench_training")
    torch.manual_seed(1)
    device = torch.device("cpu")
    teacher = bench.load_encoder(bench.DEMO_TEACHER, num_labels=bench._NUM_CLASSES)
    config = bench.StudentConfig(num_layers=3, inits=("skip",))
    student = bench.make_student(teacher, config, "skip", seed=1)
    # Earlier checkouts make a missing head without being asked.
    takes_new_head = "new_head" in inspect.signature(bench.load_masked_lm).parameters
    options: dict[str, Any] = {"new_head": True} if takes_new_head else {}
    generator = bench.load_masked_lm(bench.DEMO_TEACHER, **options)
    teacher.requires_grad_(False).eval()
    batch = bench.batch_of(8, 48, teacher, device)
    return {
        f"step of {name}": timed(
            bench.steps_of(name, student.train(), teacher, generator, batch, device)[name]
        )
        for name in OBJECTIVES
    }


def measure_parts(corpus: Path, tasks: Path, folder: Path, areas: Sequence[str]) -> None:
    """Answer each name of a part on standard input with its CPU seconds."""
    answers, sys.stdout = sys.stdout, sys.stderr
    makers: dict[str, Callable[[], dict[str, Part]]] = {
        "ingest": lambda: ingest_parts(corpus, folder),
        "dedup": lambda: dedup_parts(corpus),
        "retrieval": lambda: retrieval_parts(corpus, tasks),
        "training": training_parts,
    }
    parts = {name: part for area in areas for name, part in makers[area]().items()}
    for part in parts.values():
        part()
    print(json.dumps(list(parts)), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(parts[line.strip()]()), file=answers, flush=True)


def start(checkout: Path, options: argparse.Namespace, folder: Path) -> subprocess.Popen[str]:
    benchmarks = checkout / "experiments" / "benchmarks"
    if not benchmarks.is_dir():
        benchmarks = benchmarks.parent
    folder.mkdir()
    command = [sys.executable, __file__, "--measure", str(folder)]
    command += ["--corpus", str(options.corpus), "--tasks", str(options.tasks)]
    command += ["--areas", *options.areas]
    paths = os.pathsep.join([str(checkout), str(benchmarks)])
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"}
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def answer(process: subprocess.Popen[str], question: str = "") -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    if question:
        process.stdin.write(question + "\n")
        process.stdin.flush()
    return json.loads(process.stdout.readline())


def main() -> None:
    """Measure the parts of both checkouts in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--before", type=Path)
    parser.add_argument("--after", type=Path)
    parser.add_argument("--corpus", type=Path, required=True, help="Parquet with text, source")
    parser.add_argument("--tasks", type=Path, required=True, help="folder of GLUE tables")
    parser.add_argument("--areas", nargs="+", default=AREAS, choices=AREAS)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure_parts(options.corpus, options.tasks, options.measure, options.areas)
        return
    with tempfile.TemporaryDirectory() as name:
        processes = [
            start(checkout.absolute(), options, Path(name) / side)
            for side, checkout in (("A", options.before), ("B", options.after))
        ]
        first, second = map(answer, processes)
        assert first == second
        seconds: dict[str, tuple[list[float], list[float]]] = {part: ([], []) for part in first}
        end, number = time.monotonic() + options.seconds, 0
        while time.monotonic() < end:
            for part, found in seconds.items():
                for side in ((0, 1), (1, 0))[number % 2]:
                    found[side].append(answer(processes[side], part))
            number += 1
        for process in processes:
            process.communicate()
    print(f"{number} rounds")
    print("| part | A, ms | B, ms | B / A | B / A, medians |\n|---|---|---|---|---|")
    for part, found in seconds.items():
        a, b = (1000 * min(times) for times in found)
        of_medians = statistics.median(found[1]) / statistics.median(found[0])
        print(f"| {part} | {a:.1f} | {b:.1f} | {b / a:.2f} | {of_medians:.2f} |")


if __name__ == "__main__":
    main()
