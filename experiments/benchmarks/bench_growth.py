r"""Ingest and search of a corpus that grew by a tenth, against fresh ones; and a few new queries.

    python experiments/benchmarks/bench_growth.py CORPUS QUERIES

CORPUS is a Parquet file of `text`, split into ten files; QUERIES one with `sentence1` and
`sentence2`, searched by their RAKE keywords. Every step is timed in one process after a warm-up, on
two CPUs. Outputs are compared byte for byte. Prints JSON.
"""

import argparse
import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from raykd.corpus.config import CorpusConfig
from raykd.corpus.pipeline import ingest
from raykd.retrieval.pipeline import search_files

NUM_FILES = 10
TOP_K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("queries", type=Path)
    arguments = parser.parse_args()
    settings = {"logging_level": "ERROR", "log_to_driver": False, "include_dashboard": False}
    ray.init(address="local", num_cpus=2, **settings)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_queries(arguments.queries, folder)
        write_files(arguments.corpus, folder / "warm", 200)
        search(folder, "warm", "warm-found", "queries")
        write_files(arguments.corpus, folder / "corpus")
        times: dict[str, float] = {}
        with tenth_hidden(folder / "corpus"):
            ingest_to(folder, "units")
            search(folder, "corpus", "first", "queries", "kept")
        for step, run in steps(folder).items():
            started = time.perf_counter()
            run()
            times[step] = time.perf_counter() - started
        for grown, fresh in (("units", "units-fresh"), ("grown", "fresh"), ("more", "more-fresh")):
            assert contents(folder / grown) == contents(folder / fresh), grown
    ratios = {
        name: times[name] / times[f"{name}, fresh"] for name in times if not name.endswith("fresh")
    }
    result = {"seconds": times, "ratios": ratios}
    rounded = {kind: {k: round(v, 2) for k, v in part.items()} for kind, part in result.items()}
    print(json.dumps(rounded, indent=2))


def steps(folder: Path) -> dict[str, Callable[[], Any]]:
    return {
        "ingest, fresh": lambda: ingest_to(folder, "units-fresh"),
        "ingest": lambda: ingest_to(folder, "units"),
        "search, fresh": lambda: search(folder, "corpus", "fresh", "queries"),
        "search": lambda: search(folder, "corpus", "grown", "queries", "kept"),
        "new queries, fresh": lambda: search(folder, "corpus", "more-fresh", "more"),
        "new queries": lambda: search(folder, "corpus", "more", "more", "kept"),
    }


def write_files(corpus: Path, folder: Path, num_rows: int | None = None) -> None:
    texts = pq.read_table(corpus, columns=["text"]).slice(0, num_rows)
    folder.mkdir()
    bounds = np.linspace(0, len(texts), NUM_FILES + 1).astype(int).tolist()
    for number, first in enumerate(bounds[:-1]):
        rows = texts.slice(first, bounds[number + 1] - first)
        pq.write_table(rows, folder / f"{number}.parquet", compression="zstd")


def write_queries(source: Path, folder: Path) -> None:
    table = pq.read_table(source)
    columns = [table[name].to_pylist() for name in ("sentence1", "sentence2")]
    texts = list(dict.fromkeys(text for column in columns for text in column if text.strip()))
    for name, number in (("queries", len(texts) * 95 // 100), ("more", len(texts))):
        rows = {"query_id": list(map(str, range(number))), "text": texts[:number]}
        pq.write_table(pa.table(rows), folder / f"{name}.parquet")


@contextlib.contextmanager
def tenth_hidden(folder: Path) -> Iterator[None]:
    path = folder / f"{NUM_FILES - 1}.parquet"
    hidden = folder.parent / path.name
    path.rename(hidden)
    yield
    hidden.rename(path)


def ingest_to(folder: Path, out: str) -> None:
    ingest(CorpusConfig(paths=("unused",)), [folder / "corpus"], folder / out)


def search(folder: Path, corpus: str, out: str, queries: str, keep: str | None = None) -> None:
    search_files(
        [folder / corpus],
        folder / f"{queries}.parquet",
        folder / out,
        top_k=TOP_K,
        keywords="rake",
        keep=folder / keep if keep else None,
    )
    if corpus == "warm":
        shutil.rmtree(folder / out)


def contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(folder.rglob("*.parquet"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


if __name__ == "__main__":
    main()
