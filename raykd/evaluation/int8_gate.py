"""Costs of int8 weights: score on labeled rows, size, time per row."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from raykd.evaluation.predict import answers
from raykd.models.inference import check_finite
from raykd.models.onnx.session import OnnxClassifier
from raykd.tasks.labels.sets import targets_of
from raykd.tasks.metrics import compute

# Single rows whose time is measured, spread evenly, and repetitions of each.
_TIMED_ROWS = 50
_REPEATS = 5


class FileMeasures(NamedTuple):
    """Measures of one file: metrics as fractions, bytes, and milliseconds of a single row."""

    scores: dict[str, float]
    num_bytes: int
    ms_per_row: float


def measure_files(
    files: Sequence[Path], examples: pa.Table, metrics: Sequence[str], *, max_length: int
) -> list[FileMeasures]:
    """Score ONNX files on examples, and time them in turn, in one thread.

    Args:
        files: ONNX files of `raykd export`.
        examples: rows with labels (`schemas.EXAMPLES`).
        metrics: names of the metrics.
        max_length: tokens per row.

    Raises:
        InputError: a file's logits are NaN or infinite.
    """
    classifiers = [OnnxClassifier(file) for file in files]
    first = examples["sentence1"].to_pylist()
    is_single = examples["sentence2"].null_count == examples.num_rows
    second = None if is_single else examples["sentence2"].to_pylist()
    labels = targets_of(examples)
    logits = [c.logits_of(first, second, max_length=max_length) for c in classifiers]
    for file, one in zip(files, logits, strict=True):
        check_finite(one, str(file), "dev rows")
    scores = [
        compute(metrics, labels, answers(one, multi_label=labels.ndim == 2)) for one in logits
    ]
    places = np.linspace(0, len(first) - 1, min(_TIMED_ROWS, len(first))).round().astype(int)
    seconds = np.empty((len(files), len(places), _REPEATS))
    for column, place in enumerate(places):
        row = first[place : place + 1]
        pair = None if second is None else second[place : place + 1]
        for repeat in range(_REPEATS):
            for number, classifier in enumerate(classifiers):
                started_s = time.perf_counter()
                classifier.logits_of(row, pair, max_length=max_length)
                seconds[number, column, repeat] = time.perf_counter() - started_s
    times = 1000 * np.median(seconds.min(axis=2), axis=1)
    return [
        FileMeasures(found, file.stat().st_size, float(ms))
        for found, file, ms in zip(scores, files, times, strict=True)
    ]
