r"""A complete search without ingest: against other engines, by cores, and by memory.

    python experiments/benchmarks/bench_search_job.py CORPUS GLUE_FOLDER \
        [--part job cores memory task] [--keywords rake|none] \
        [--peers bm25s tantivy infino pisa] [--python PYTHON]

CORPUS is a Parquet file of `text` and `source`, enlarged as `enlarged_corpus` says; GLUE_FOLDER
contains `rte_train.parquet` and so on. Measurements run one after the other, each in a process
pinned to its cores, with a warm compilation cache. Prints JSON. Peers that are not
installed are left out; PYTHON is an interpreter that has them, and raykd.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from floors import held_against
from search_job_peers import PACKAGES, PAPER_TOP_K, PEERS, run_peer, shards_of, top_k_of

from raykd.corpus.units import sentences as lengths_of_sentences
from raykd.retrieval.queries import make_queries
from raykd.storage.schemas import UNITS
from raykd.text.analyzer import terms

# Whole sentences that are queries: those of a long sentence's length.
MIN_TERMS, MAX_TERMS = 25, 40
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
    """Write shards of units and tables of RAKE queries, unless they exist."""
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


def write_sentence_queries(arguments: argparse.Namespace, folder: Path) -> Path:
    """Make a folder of the same units, with whole sentences as queries."""
    result = folder / "sentences"
    (result / "queries").mkdir(parents=True, exist_ok=True)
    if not (result / "units").exists():
        (result / "units").symlink_to("../units")
    for task in PAPER_TOP_K:
        sentences = {
            tuple(sorted(words)): sentence
            for sentence in sentences_of(arguments.glue, task)
            if MIN_TERMS <= len(words := terms(sentence)) <= MAX_TERMS
        }
        table = make_queries(list(sentences.values()), "none")
        pq.write_table(table, result / "queries" / f"{task}.parquet")
    return result


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
    folder: Path,
    tasks: Sequence[str],
    side: str,
    cpus: int,
    python: str = sys.executable,
    **options: float | None,
) -> dict[str, Any]:
    """Run one measurement in a separate process.

    A peer that runs out of time is ended by SIGALRM; its `wall_s` is then the limit.
    """
    command = [python, __file__, "--measure", side, "--cpus", str(cpus)]
    command += ["--folder", str(folder), "--tasks", *tasks]
    for name, value in options.items():
        if value is not None:
            command += [f"--{name.replace('_', '-')}", str(value)]
    environment = {**os.environ, "NUMBA_NUM_THREADS": str(cpus)}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        if side != "own":
            environment["TMPDIR"] = scratch
        printed = Path(scratch) / "printed"
        with printed.open("w") as output:
            process = subprocess.Popen(
                command, stdout=output, env=environment, start_new_session=True
            )
        try:
            code = process.wait()
        finally:
            # Also ends the workers of a process that was ended.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        lines = printed.read_text().splitlines()
    timed_out = side != "own" and code == -signal.SIGALRM
    if code and not timed_out:
        raise subprocess.CalledProcessError(code, command)
    result: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    if timed_out:
        result |= {"timed_out": True, "wall_s": options["limit_s"]}
    print(side, cpus, options, json.dumps(result), file=sys.stderr)
    return result


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 3) if isinstance(value, float) else value


def installed_peers(python: str, peers: Sequence[str]) -> list[str]:
    """Choose the installed peers, and print a line for each of the others."""
    packages = [PACKAGES[peer] for peer in peers]
    code = (
        "import sys; from importlib.util import find_spec as find; "
        "print(*(int(find(name) is not None) for name in sys.argv[1:]))"
    )
    found = subprocess.check_output([python, "-c", code, *packages], text=True).split()
    result = [peer for peer, flag in zip(peers, found, strict=True) if flag == "1"]
    for peer in peers:
        if peer not in result:
            hint = f"{python} -m pip install {PACKAGES[peer]}"
            print(f"{peer} is not installed and left out; to measure it: {hint}", file=sys.stderr)
    return result


def whole_job(
    folder: Path, tasks: Sequence[str], peers: Sequence[str], python: str, limit_s: float
) -> dict[str, Any]:
    installed = installed_peers(python, peers)
    result: dict[str, Any] = {
        "peers": installed,
        "not_installed": [peer for peer in peers if peer not in installed],
        "own": measured(folder, tasks, "own", 2),
    }
    sides = {peer: measured(folder, tasks, peer, 2, python, limit_s=limit_s) for peer in installed}
    result |= sides
    result["scaling"] = SCALING
    result["top_k"] = {task: top_k_of(task, result["own"]["num_units"]) for task in tasks}
    if sides:
        best = min(sides, key=lambda peer: sides[peer]["wall_s"])
        result["best_peer"] = best
        result["times_best_peer"] = sides[best]["wall_s"] / result["own"]["wall_s"]
        result["times_best_peer_is_lower_bound"] = "timed_out" in sides[best]
    cpu_s = [side["cpu_s"] for side in sides.values() if "timed_out" not in side]
    if cpu_s:
        result["times_best_peer_cpu"] = min(cpu_s) / result["own"]["cpu_s"]
    return result


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
    parser.add_argument(
        "--keywords",
        choices=("rake", "none"),
        default="rake",
        help=f"none: the whole sentences of {MIN_TERMS} to {MAX_TERMS} terms",
    )
    parser.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter that has the peers, and raykd"
    )
    parser.add_argument(
        "--limit-s", type=float, default=900, help="seconds of a peer's job; then it is ended"
    )
    parser.add_argument("--measure", choices=("own", *PEERS))
    parser.add_argument("--cpus", type=int)
    parser.add_argument("--num-shards", type=int)
    parser.add_argument("--top-k", type=int)
    arguments = parser.parse_args(options)
    if arguments.measure:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.cpus])
        folder, tasks, cpus = arguments.folder, arguments.tasks, arguments.cpus
        if arguments.measure == "own":
            result = own(folder, tasks, cpus, arguments.num_shards, arguments.top_k)
        else:
            result = run_peer(arguments.measure, folder, tasks, cpus, arguments.limit_s)
        print(json.dumps(result))
        return
    tasks = arguments.tasks
    folder = arguments.folder / f"{arguments.rounds}-{arguments.shards}"
    write_inputs(arguments, folder)
    if arguments.keywords == "none":
        folder = write_sentence_queries(arguments, folder)
    # Fill numba's compilation cache, which is no part of any measurement. All shards, because the
    # first and later waves run different code.
    measured(folder, tasks, "own", 2, top_k=1)
    results: dict[str, Any] = {}
    if "job" in arguments.part:
        results["job"] = whole_job(
            folder, tasks, arguments.peers, arguments.python, arguments.limit_s
        )
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
        # The floors are of RAKE queries.
        if arguments.keywords == "rake" and key in results.get(part, {})
    }
    if "task" in results:
        figures["tasks with 1 GB in 2,000 MB"] = 2000 / results["task"]["worker_peak_mb"]
    print(json.dumps(rounded(results | held_against("search_job", figures)), indent=2))


if __name__ == "__main__":
    main(sys.argv[1:])
