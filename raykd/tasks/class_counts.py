"""Rows per class and split of a task, and resulting limits of its scores."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from raykd.tasks.task import Task

# Maximum number of classes named in a console line, and of characters of a name.
_SHOWN = 12
_MAX_CHARS = 60


def class_counts(task: Task) -> dict[str, list[int]]:
    """Rows per class, in order of classes, by split; empty for regression."""
    if task.regression:
        return {}
    return {split: _counts(table, len(task.labels)) for split, table in task.splits.items()}


def describe(task: Task) -> list[str]:
    """Lines about each split's rows, classes or scores, and remarks."""
    counts = class_counts(task)
    lines = []
    for split, table in task.splits.items():
        if task.regression:
            scores = table["label"].to_numpy()
            content = f"scores {scores.min():g} to {scores.max():g}, mean {scores.mean():.3g}"
        else:
            content = _classes(dict(zip(task.labels, counts[split], strict=True)))
        lines.append(f"  {split:6} {table.num_rows:,} rows: {content}")
    return [*lines, *(f"  {remark}" for remark in (*task.remarks, *limits(task)))]


def limits(task: Task) -> list[str]:
    """Remarks about evaluation splits whose scores are uninformative for any model."""
    remarks = []
    for split, table in task.splits.items():
        labels = table["label"].to_numpy()
        if split == "train" or task.regression:
            if split != "train" and np.ptp(labels) == 0:
                remarks.append(
                    f"{split}: every score is {labels[0]:g}, so correlations with it are not "
                    "defined and are reported as 0 for any predictions"
                )
            continue
        counts = _counts(table, len(task.labels))
        missing = [name for name, count in zip(task.labels, counts, strict=True) if not count]
        if len(missing) == len(task.labels) - 1:
            only = _short(task.labels[int(np.argmax(counts))])
            remark = f"{split}: every row is of the class {only}"
            if "matthews" in task.metrics:
                remark += ", so Matthews correlation is 0 whatever a model answers"
            if "f1" in task.metrics and counts[1] == 0:
                remark += f", so F1, which is that of the class {_short(task.labels[1])}, is 0"
            remarks.append(f"{remark}; its scores do not show whether a model separates classes")
        elif missing:
            remarks.append(
                f"{split}: no row of the class {', '.join(map(_short, missing[:_SHOWN]))}"
            )
    return remarks


def constant_answer(task: Task, predictions: pa.ChunkedArray) -> str | None:
    """Class or score that a model predicts for every row; None if predictions differ."""
    answers = predictions.to_numpy()
    if np.ptp(answers) != 0:
        return None
    return f"{answers[0]:.3g}" if task.regression else task.labels[int(answers[0])]


def _counts(table: pa.Table, num_classes: int) -> list[int]:
    labels = table["label"].to_numpy().astype(np.int64)
    counts: list[int] = np.bincount(labels, minlength=num_classes).tolist()
    return counts


def _short(name: str) -> str:
    """Name of a class on one line of limited length."""
    shown = name if name.isprintable() else repr(name)
    return shown if len(shown) <= _MAX_CHARS else f"{shown[: _MAX_CHARS - 3]}..."


def _classes(counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    shown = [f"{_short(name)} {count:,} ({count / total:.0%})" for name, count in counts.items()]
    if len(shown) <= _SHOWN:
        return ", ".join(shown)
    fewest, most = min(counts, key=lambda n: counts[n]), max(counts, key=lambda n: counts[n])
    return (
        f"{len(shown)} classes, from {counts[fewest]:,} ({_short(fewest)}) to {counts[most]:,} "
        f"({_short(most)}) "
        f"rows: {', '.join(shown[:_SHOWN])}, ..."
    )
