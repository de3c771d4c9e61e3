"""How many rows each class of a task has in each split, and what follows for its scores."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from raykd.tasks.task import Task

# A console line names this many classes at most.
_SHOWN = 12


def class_counts(task: Task) -> dict[str, list[int]]:
    """Rows of each class, in the classes' order, by split; nothing for regression."""
    if task.regression:
        return {}
    return {split: _counts(table, len(task.labels)) for split, table in task.splits.items()}


def describe(task: Task) -> list[str]:
    """Lines on the rows of each split, their classes or scores, and what is remarkable in them."""
    counts = class_counts(task)
    lines = []
    for split, table in task.splits.items():
        if task.regression:
            scores = table["label"].to_numpy()
            found = f"scores {scores.min():g} to {scores.max():g}, mean {scores.mean():.3g}"
        else:
            found = _classes(dict(zip(task.labels, counts[split], strict=True)))
        lines.append(f"  {split:6} {table.num_rows:,} rows: {found}")
    return [*lines, *(f"  {remark}" for remark in (*task.remarks, *limits(task)))]


def limits(task: Task) -> list[str]:
    """What the rows of the evaluation splits, whatever a model answers, let a score not show."""
    remarks = []
    for split, table in task.splits.items():
        labels = table["label"].to_numpy()
        if split == "train" or task.regression:
            if split != "train" and np.ptp(labels) == 0:
                remarks.append(
                    f"{split}: every score is {labels[0]:g}, so correlations with it are not "
                    "defined and are reported as 0, whatever a model answers"
                )
            continue
        counts = _counts(table, len(task.labels))
        missing = [name for name, count in zip(task.labels, counts, strict=True) if not count]
        if len(missing) == len(task.labels) - 1:
            only = task.labels[int(np.argmax(counts))]
            remark = f"{split}: every row is of the class {only}"
            if "matthews" in task.metrics:
                remark += ", so Matthews correlation is 0 whatever a model answers"
            if "f1" in task.metrics and counts[1] == 0:
                remark += f", so F1, which is that of the class {task.labels[1]}, is 0"
            remarks.append(f"{remark}; its scores do not show whether a model tells classes apart")
        elif missing:
            remarks.append(f"{split}: no row of the class {', '.join(missing[:_SHOWN])}")
    return remarks


def constant_answer(task: Task, predictions: pa.ChunkedArray) -> str | None:
    """The class, or score, that a model answers for every row; None where answers differ."""
    answers = predictions.to_numpy()
    if np.ptp(answers) != 0:
        return None
    return f"{answers[0]:.3g}" if task.regression else task.labels[int(answers[0])]


def _counts(table: pa.Table, num_classes: int) -> list[int]:
    labels = table["label"].to_numpy().astype(np.int64)
    counts: list[int] = np.bincount(labels, minlength=num_classes).tolist()
    return counts


def _classes(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    shown = [f"{name} {count:,} ({count / total:.0%})" for name, count in counts.items()]
    if len(shown) <= _SHOWN:
        return ", ".join(shown)
    fewest, most = min(counts, key=lambda n: counts[n]), max(counts, key=lambda n: counts[n])
    return (
        f"{len(shown)} classes, from {counts[fewest]:,} ({fewest}) to {counts[most]:,} ({most}) "
        f"rows: {', '.join(shown[:_SHOWN])}, ..."
    )
