r"""A complete search without ingest: against other engines, by cores, and by memory.

    python experiments/benchmarks/bench_search_job.py CORPUS GLUE_FOLDER \
        [--part job cores memory task]

CORPUS is a Parquet file of `text` and `source`, enlarged as `enlarged_corpus` says; GLUE_FOLDER
contains `rte_train.parquet` and so on. Measurements run one after the other, each in a process
pinned to its cores, with a warm compilation cache. Prints JSON.
"""

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from floors import held_against

from raykd.corpus.units import sentences as lengths_of_sentences
from raykd.retrieval.queries import make_queries
from raykd.storage.schemas import UNITS
from raykd.text.analyzer import terms

# The paper's units per task sentence, from a corpus of 160 GB: 3.6e8 units of 445 bytes.
PAPER_TOP_K = {"rte": 1000, "mrpc": 800, "cola": 900, "sst2": 150, "stsb": 500}
PAPER_UNITS = 360_000_000
_LARGE_BYTES = 1_000_000_000
_LARGE_QUERIES = 1_000_000
SCALING = (
    "top_k of a task = the paper's, times units of this corpus / units of the paper's, rounded "
    "up: every task sentence retrieves the same fraction of the corpus"
)


def sentences_of(glue: Path, task: str) -> list[str]:
    table = pq.read_table(glue / f"{task}_train.parquet")
    columns = [name for name in table.column_names if name.startswith("sentence")]
    pairs = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return list(dict.fromkeys(side for pair in pairs for side in pair if side.strip()))


def write_inputs(arguments: argparse.Namespace, folder: Path) -> None:
    """Write shards of units and tables of queries, unless they exist."""
    if (folder / "queries" / "stsb.parquet").exists():
        return
    from enlarged_corpus import enlarged_units

    texts = enlarged_units(arguments.corpus, arguments.rounds)
    (folder / "units").mkdir(parents=True, exist_ok=True)
    bounds = np.linspace(0, len(texts), arguments.shards + 1).astype(int)
    for number in range(arguments.shards):
        first, last = bounds[number : number + 2].tolist()
        ids = [f"{number:016x}-{position:012x}-00000000" for position in range(last - first)]
        table = pa.Table.from_arrays([pa.array(ids), texts[first:last]], schema=UNITS)
        pq.write_table(table, folder / "units" / f"{number:03d}.parquet", compression="zstd")
    (folder / "queries").mkdir(exist_ok=True)
    for task in PAPER_TOP_K:
        table = make_queries(sentences_of(arguments.glue, task), "rake")
        pq.write_table(table, folder / "queries" / f"{task}.parquet")


def shards_of(folder: Path, number: int | None = None) -> list[Path]:
    return sorted((folder / "units").glob("*.parquet"))[:number]


def top_k_of(task: str, num_units: int) -> int:
    return math.ceil(PAPER_TOP_K[task] * num_units / PAPER_UNITS)


def own(
    folder: Path, tasks: Sequence[str], cpus: int, num_shards: int | None, top_k: int | None
) -> dict[str, Any]:
    """Search for all tasks with raykd, reading the shards from disk."""
    import ray

    from raykd.retrieval import pipeline
    from raykd.retrieval.config import RetrievalConfig
    from raykd.retrieval.query_sets import QuerySet

    shards = shards_of(folder, num_shards)
    num_units = sum(pq.read_metadata(path).num_rows for path in shards)
    sets = [
        QuerySet(
            task,
            pq.read_table(folder / "queries" / f"{task}.parquet"),
            top_k or top_k_of(task, num_units),
        )
        for task in tasks
    ]
    started = time.monotonic()
    settings = {"logging_level": "ERROR", "log_to_driver": False, "include_dashboard": False}
    ray.init(address="local", num_cpus=cpus, **settings)
    ray_start_s = time.monotonic() - started
    out = folder / f"hits-{os.getpid()}"
    started = time.monotonic()
    manifest = pipeline.search_corpus(shards, sets, RetrievalConfig(top_k=1), out, {})
    wall_s = time.monotonic() - started
    workers = [pid for pid in descendants() if "ray::" in command_of(pid)]
    result = {
        "wall_s": wall_s,
        "ray_start_s": ray_start_s,
        "cpu_s": sum(map(cpu_s_of, [os.getpid(), *descendants()])),
        "num_units": num_units,
        "num_shards": len(shards),
        "num_hits": manifest.counts["num_hits"],
        "num_queries": manifest.counts["num_queries"],
        "digest": manifest.digest,
        "worker_peak_mb": max(peak_mb_of(pid) for pid in workers),
        "driver_peak_mb": peak_mb_of(os.getpid()),
    }
    shutil.rmtree(out)
    ray.shutdown()
    return result


def peer_queries(folder: Path, tasks: Sequence[str], num_units: int) -> dict[int, list[list[str]]]:
    """Group the distinct queries by the number of hits per query."""
    top_k_by_query: dict[tuple[str, ...], int] = defaultdict(int)
    for task in tasks:
        for text in pq.read_table(folder / "queries" / f"{task}.parquet")["query"].to_pylist():
            key = tuple(sorted(terms(text)))
            top_k_by_query[key] = max(top_k_by_query[key], top_k_of(task, num_units))
    by_top_k: dict[int, list[list[str]]] = defaultdict(list)
    for query, top_k in top_k_by_query.items():
        by_top_k[top_k].append(list(query))
    return by_top_k


def texts_of(folder: Path) -> list[str]:
    return [text for path in shards_of(folder) for text in pq.read_table(path)["text"].to_pylist()]


def bm25s_job(folder: Path, tasks: Sequence[str], cpus: int) -> dict[str, Any]:
    import bm25s

    texts = texts_of(folder)
    by_top_k = peer_queries(folder, tasks, len(texts))

    def search(texts: list[str], queries: dict[int, list[list[str]]]) -> tuple[float, int]:
        tokens = bm25s.tokenize(texts, stopwords=None, show_progress=False)
        retriever = bm25s.BM25(method="lucene", k1=1.2, b=0.75, backend="numba")
        retriever.index(tokens, show_progress=False)
        indexed = time.monotonic()
        num_hits = 0
        for top_k, result in queries.items():
            joined = [" ".join(query) for query in result]
            query_tokens = bm25s.tokenize(joined, stopwords=None, show_progress=False)
            _, scores = retriever.retrieve(
                query_tokens, k=min(top_k, len(texts)), n_threads=cpus, show_progress=False
            )
            num_hits += int((scores > 0).sum())
        return indexed, num_hits

    search(texts[:2000], {top_k: queries[:50] for top_k, queries in by_top_k.items()})
    started, cpu_started = time.monotonic(), time.process_time()
    indexed, num_hits = search(texts, by_top_k)
    return {
        "wall_s": time.monotonic() - started,
        "index_s": indexed - started,
        "cpu_s": time.process_time() - cpu_started,
        "num_hits": num_hits,
        "num_queries": sum(map(len, by_top_k.values())),
    }


def tantivy_job(folder: Path, tasks: Sequence[str], cpus: int) -> dict[str, Any]:
    import tantivy

    texts = texts_of(folder)
    by_top_k = peer_queries(folder, tasks, len(texts))
    with tempfile.TemporaryDirectory(dir=folder) as index_folder:
        started = time.monotonic()
        builder = tantivy.SchemaBuilder()
        builder.add_text_field("text", stored=False, tokenizer_name="default")
        index = tantivy.Index(builder.build(), path=index_folder)
        writer = index.writer(heap_size=1 << 30, num_threads=cpus)
        for text in texts:
            writer.add_document(tantivy.Document(text=text))
        writer.commit()
        writer.wait_merging_threads()
        indexed = time.monotonic()
        jobs = [
            (index_folder, top_k, queries[start : start + 500])
            for top_k, queries in by_top_k.items()
            for start in range(0, len(queries), 500)
        ]
        with get_context("spawn").Pool(cpus) as pool:
            num_hits = sum(pool.imap_unordered(tantivy_search, jobs))
        wall_s = time.monotonic() - started
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "wall_s": wall_s,
        "index_s": indexed - started,
        "cpu_s": sum(usage.ru_utime + usage.ru_stime for usage in usages),
        "num_hits": num_hits,
        "num_queries": sum(map(len, by_top_k.values())),
    }


def tantivy_search(job: tuple[str, int, list[list[str]]]) -> int:
    import tantivy

    index_folder, top_k, queries = job
    index = tantivy.Index.open(index_folder)
    searcher = index.searcher()
    num_hits = 0
    for query in queries:
        parts = [
            (tantivy.Occur.Should, tantivy.Query.term_query(index.schema, "text", term))
            for term in query
        ]
        result = searcher.search(tantivy.Query.boolean_query(parts), top_k, count=False)
        num_hits += len(result.hits)
    return num_hits


def descendants() -> list[int]:
    children: dict[int, list[int]] = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children[parent].append(int(path.parent.name))
    result = [os.getpid()]
    for process_id in result:
        result += children[process_id]
    return result[1:]


def command_of(process_id: int) -> str:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_text()
    except OSError:
        return ""


def cpu_s_of(process_id: int) -> float:
    try:
        fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb_of(process_id: int) -> float:
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def measured(
    folder: Path, tasks: Sequence[str], side: str, cpus: int, **options: int | None
) -> dict[str, Any]:
    """Run one measurement in a separate process."""
    command = [sys.executable, __file__, "--measure", side, "--cpus", str(cpus)]
    command += ["--folder", str(folder), "--tasks", *tasks]
    for name, value in options.items():
        if value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(cpus)}
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    print(side, cpus, options, json.dumps(result), file=sys.stderr)
    return result


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


def whole_job(folder: Path, tasks: Sequence[str]) -> dict[str, Any]:
    sides = {side: measured(folder, tasks, side, 2) for side in ("own", "bm25s", "tantivy")}
    best = min(("bm25s", "tantivy"), key=lambda side: sides[side]["wall_s"])
    return {
        **sides,
        "scaling": SCALING,
        "top_k": {task: top_k_of(task, sides["own"]["num_units"]) for task in tasks},
        "best_peer": best,
        "times_best_peer": sides[best]["wall_s"] / sides["own"]["wall_s"],
        "times_best_peer_cpu": min(sides[peer]["cpu_s"] for peer in ("bm25s", "tantivy"))
        / sides["own"]["cpu_s"],
    }


def by_cores(folder: Path, tasks: Sequence[str], top_k: int | None, repeats: int) -> dict[str, Any]:
    """Measure in alternation, the best of each, so that temporary load affects both equally."""
    runs = [
        [measured(folder, tasks, "own", cpus, top_k=top_k) for cpus in (1, 2)]
        for _ in range(repeats)
    ]
    assert len({run["digest"] for pair in runs for run in pair}) == 1
    one, two = (min(sides, key=lambda run: run["wall_s"]) for sides in zip(*runs, strict=True))
    return {"one": one, "two": two, "times_one_core": one["wall_s"] / two["wall_s"]}


def by_shards(folder: Path, tasks: Sequence[str]) -> list[dict[str, Any]]:
    numbers = [n for n in (2, 4, 8, 16, 32, 64, 128) if n <= len(shards_of(folder))]
    return [measured(folder, tasks, "own", 2, num_shards=number, top_k=10) for number in numbers]


def write_large_task(folder: Path, large: Path) -> None:
    """Make one shard of 1 GB of text, and a million RAKE queries of its sentences."""
    if (large / "queries" / "sentences.parquet").exists():
        return
    for name in ("units", "queries"):
        (large / name).mkdir(parents=True, exist_ok=True)
    table = pa.concat_tables([pq.read_table(path) for path in shards_of(folder)])
    ends = np.cumsum([len(text) for text in table["text"].to_pylist()])
    table = table.slice(0, int(np.searchsorted(ends, _LARGE_BYTES)))
    pq.write_table(table, large / "units" / "000.parquet", compression="zstd")
    result: dict[str, None] = {}
    for text in table["text"].to_pylist():
        position = 0
        for length in lengths_of_sentences(text):
            result[text[position : position + length].strip()] = None
            position += length
        if len(result) >= _LARGE_QUERIES:
            break
    queries = make_queries(list(result)[:_LARGE_QUERIES], "rake")
    pq.write_table(queries, large / "queries" / "sentences.parquet")


def main(options: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("glue", type=Path, nargs="?")
    parser.add_argument("--part", nargs="+", default=["job", "cores", "memory"])
    parser.add_argument(
        "--rounds",
        type=int,
        default=4,
        help="recombinations of the corpus; each adds about 250,000 units",
    )
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3, help="repeats of the part `cores`")
    parser.add_argument("--tasks", nargs="+", default=list(PAPER_TOP_K))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "bench_job")
    parser.add_argument("--measure", choices=("own", "bm25s", "tantivy"))
    parser.add_argument("--cpus", type=int)
    parser.add_argument("--num-shards", type=int)
    parser.add_argument("--top-k", type=int)
    arguments = parser.parse_args(options)
    if arguments.measure:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cpus])
        if arguments.measure == "own":
            sizes = (arguments.cpus, arguments.num_shards, arguments.top_k)
            result = own(arguments.folder, arguments.tasks, *sizes)
        else:
            job = bm25s_job if arguments.measure == "bm25s" else tantivy_job
            result = job(arguments.folder, arguments.tasks, arguments.cpus)
        print(json.dumps(result))
        return
    tasks = arguments.tasks
    folder = arguments.folder / f"{arguments.rounds}-{arguments.shards}"
    write_inputs(arguments, folder)
    # Fill numba's compilation cache, which is no part of any measurement. All shards, because the
    # first and later waves run different code.
    measured(folder, tasks, "own", 2, top_k=1)
    results: dict[str, Any] = {}
    if "job" in arguments.part:
        results["job"] = whole_job(folder, tasks)
    if "cores" in arguments.part:
        results["cores"] = by_cores(folder, tasks, arguments.top_k, arguments.repeats)
    if "memory" in arguments.part:
        results["memory"] = by_shards(folder, tasks)
    if "task" in arguments.part:
        large = arguments.folder / "large"
        write_large_task(folder, large)
        results["task"] = measured(large, ["sentences"], "own", 1, top_k=10)
    figures = {
        name: results[part][key]
        for name, part, key in (
            ("whole job, times the best peer", "job", "times_best_peer"),
            ("two cores, times one", "cores", "times_one_core"),
        )
        if part in results
    }
    if "task" in results:
        figures["tasks with 1 GB in 2,000 MB"] = 2000 / results["task"]["worker_peak_mb"]
    print(json.dumps(rounded(results | held_against("search_job", figures)), indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
