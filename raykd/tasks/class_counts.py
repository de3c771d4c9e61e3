"""Rows per class and split of a task, and resulting limits of its scores."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa

from raykd.storage.schemas import is_multi_label
from raykd.tasks.labels.sets import targets_of
from raykd.tasks.overlap import overlap_of
from raykd.tasks.task import Task

# Maximum number of classes named in a console line, and of characters of a name.
_SHOWN = 12
_MAX_CHARS = 60


def class_counts(task: Task) -> dict[str, list[int]]:
    """Rows per class, in order of classes, by split; empty for regression."""
    if task.regression:
        return {}
    return {split: count_classes(table, len(task.labels)) for split, table in task.splits.items()}


def describe(task: Task) -> list[str]:
    """Lines about each split's rows, classes or scores, and remarks."""
    lines = [
        f"  {split:6} {table.num_rows:,} rows: {content_of(table, task.labels)}"
        for split, table in task.splits.items()
    ]
    return [*lines, *(f"  {remark}" for remark in (*task.remarks, *limits(task)))]


def content_of(table: pa.Table, labels: Sequence[str]) -> str:
    """Describe the classes of rows (`schemas.EXAMPLES`), or their scores if there are no labels."""
    if labels:
        counts = dict(zip(labels, count_classes(table, len(labels)), strict=True))
        if not is_multi_label(table):
            return _classes(counts, table.num_rows)
        num_empty = int((targets_of(table).sum(axis=1) == 0).sum())
        per_row = sum(counts.values()) / table.num_rows
        shown = _classes(counts, table.num_rows)
        return f"{shown}; {per_row:.2f} classes per row, {num_empty:,} rows without any"
    scores = table["label"].to_numpy()
    return f"scores {scores.min():g} to {scores.max():g}, mean {scores.mean():.3g}"


def limits(task: Task) -> list[str]:
    """Remarks about evaluation splits whose scores say little about models, or too much good."""
    return [
        f"{split}: {remark}"
        for split, table in task.splits.items()
        if split != "train"
        for remark in (
            *limits_of(table, task.labels, task.metrics),
            *overlap_of(table, task.train),
        )
    ]


def limits_of(table: pa.Table, labels: Sequence[str], metrics: Collection[str]) -> list[str]:
    """Remarks about rows (`schemas.EXAMPLES`) on which scores are uninformative for any model.

    Args:
        table: rows.
        labels: class names; empty for regression.
        metrics: reported metrics.
    """
    values = targets_of(table)
    if not labels:
        if np.ptp(values) != 0:
            return []
        return [
            f"every score is {values[0]:g}, so correlations with it are not defined and are "
            "reported as 0 for any predictions"
        ]
    counts = count_classes(table, len(labels))
    missing = [name for name, count in zip(labels, counts, strict=True) if not count]
    if len(missing) == len(labels) - 1 and values.ndim == 1:
        only = _short(labels[int(np.argmax(counts))])
        remark = f"every row is of the class {only}"
        if "matthews" in metrics:
            remark += ", so Matthews correlation is 0 whatever a model answers"
        if "f1" in metrics and counts[1] == 0:
            remark += f", so F1, which is that of the class {_short(labels[1])}, is 0"
        return [f"{remark}; its scores do not show whether a model separates classes"]
    if missing:
        return [f"no row of the class {', '.join(map(_short, missing[:_SHOWN]))}"]
    return []


def constant_answer(task: Task, predictions: pa.ChunkedArray) -> str | None:
    """Class, score or set of classes that a model predicts for every row; None if they differ."""
    if task.multi_label:
        sets = np.asarray(predictions.to_pylist(), np.bool_)
        if (sets != sets[0]).any():
            return None
        return ", ".join(np.asarray(task.labels)[sets[0]]) or "no class"
    answers = predictions.to_numpy()
    if np.ptp(answers) != 0:
        return None
    return f"{answers[0]:.3g}" if task.regression else task.labels[int(answers[0])]


def count_classes(table: pa.Table, num_classes: int) -> list[int]:
    """Rows of each class, of rows as `schemas.EXAMPLES`."""
    labels = targets_of(table).astype(np.int64)
    by_class = (
        labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=num_classes)
    )
    counts: list[int] = by_class.tolist()
    return counts


def _short(name: str) -> str:
    """Name of a class on one line of limited length."""
    shown = name if name.isprintable() else repr(name)
    return shown if len(shown) <= _MAX_CHARS else f"{shown[: _MAX_CHARS - 3]}..."


def _classes(counts: Mapping[str, int], total: int) -> str:
    shown = [f"{_short(name)} {count:,} ({count / total:.0%})" for name, count in counts.items()]
    if len(shown) <= _SHOWN:
        return ", ".join(shown)
    fewest, most = min(counts, key=lambda n: counts[n]), max(counts, key=lambda n: counts[n])
    return (
        f"{len(shown)} classes, from {counts[fewest]:,} ({_short(fewest)}) to {counts[most]:,} "
        f"({_short(most)}) "
        f"rows: {', '.join(shown[:_SHOWN])}, ..."
    )
