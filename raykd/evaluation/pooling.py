"""Predictions of several models on parts of the rows, pooled into those of all rows."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raykd.evaluation.pipeline import METRICS_FILE, PREDICTIONS_FILE
from raykd.storage.manifest import Draft, digest_of, digest_of_directory, write_once
from raykd.tasks.metrics import compute
from raykd.tasks.store import read_task


def pool_predictions(parts: Sequence[Path], task_folder: Path, out: Path) -> dict[str, float]:
    """Write the predictions of all dev rows of a task, in their order, and return the metrics.

    Args:
        parts: folders of predictions, each of other rows; together of all dev rows.
        task_folder: the task's examples.
        out: folder to write.
    """

    def write(draft: Draft) -> None:
        task = read_task(task_folder)
        table = pa.concat_tables([pq.read_table(part / PREDICTIONS_FILE) for part in parts])
        table = table.sort_by("row_id")
        for column in ("row_id", "label"):
            assert table[column].to_pylist() == task.dev[column].to_pylist(), (column, parts)
        pq.write_table(table, draft.directory / PREDICTIONS_FILE)
        labels, answers = table["label"].to_numpy(), table["prediction"].to_numpy()
        metrics = compute(task.metrics, labels, answers)
        (draft.directory / METRICS_FILE).write_text(json.dumps(metrics))

    inputs = {
        "task": digest_of_directory(task_folder),
        "parts": digest_of([digest_of_directory(part) for part in parts]),
    }
    write_once(out, "pool_predictions", {}, inputs, write)
    metrics: dict[str, float] = json.loads((out / METRICS_FILE).read_text())
    return metrics
