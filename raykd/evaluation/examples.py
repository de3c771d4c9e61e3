"""Rows of a file or of the hub -> examples: sentences and labels checked one by one.

Rows are counted from 0, as `row_id` is.
"""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from raykd.errors import InputError
from raykd.schemas import EXAMPLES


def to_examples(
    source: str,
    table: pa.Table,
    sentence_columns: Sequence[str],
    label_column: str,
    *,
    labels: Sequence[str],
    score_range: tuple[float, float] | None = None,
) -> pa.Table:
    """A table of `schemas.EXAMPLES`, in the order of the rows.

    Args:
        source: where the rows come from, for messages.
        table: the rows.
        sentence_columns: one or two columns of text.
        label_column: classes by name or index, or scores.
        labels: names of the classes; empty for regression.
        score_range: the lowest and highest score a regression task knows.

    Raises:
        InputError: names the row that has no text, or no label of this task.
    """
    sentences = [_sentences(source, table, column) for column in sentence_columns]
    for row, texts in enumerate(zip(*sentences, strict=True)):
        if not any(text.strip() for text in texts):
            wanted = " or ".join(sentence_columns)
            raise InputError(f"{_at(source, row)}: no text in {wanted}; remove the row")
    values = _label_values(source, table, label_column)
    if labels:
        targets = _classes(source, values, labels)
    else:
        targets = _scores(source, values, label_column, score_range)
    arrays = [
        pa.array(range(table.num_rows), pa.int64()),
        pa.array(sentences[0], pa.string()),
        pa.array(sentences[1], pa.string())
        if len(sentences) == 2
        else pa.nulls(table.num_rows, pa.string()),
        pa.array(targets, pa.float64()),
    ]
    return pa.table(arrays, schema=EXAMPLES)


def class_names(source: str, table: pa.Table, label_column: str) -> tuple[str, ...]:
    """The labels that occur, numbers in order of value, names in order of the alphabet.

    Raises:
        InputError: there are not two classes, or the labels are scores.
    """
    values = set(_label_values(source, table, label_column))
    if any(isinstance(value, float) and not value.is_integer() for value in values):
        raise InputError(
            f"{source}: {label_column!r} holds fractions; set 'task.regression: true', or list "
            "the classes with the key 'task.labels'"
        )
    if len(values) < 2:
        raise InputError(
            f"{source}: every row has the same {label_column!r}, a task needs two; check the file "
            "and the key 'task.label_column'"
        )
    return tuple(_name(value) for value in sorted(values))


def _at(source: str, row: int) -> str:
    return f"{source}, row {row} (counted from 0)"


def _sentences(source: str, table: pa.Table, column: str) -> list[str]:
    type_ = table.schema.field(column).type
    if not pa.types.is_string(type_):
        raise InputError(
            f"{source}: column {column!r} holds {type_}, not text; name the columns of sentences "
            "with the key 'task.sentence_columns'"
        )
    sentences: list[str] = []
    for row, sentence in enumerate(table[column].to_pylist()):
        if sentence is None:
            raise InputError(f"{_at(source, row)}: no {column!r}; remove the row")
        sentences.append(sentence)
    return sentences


def _label_values(source: str, table: pa.Table, column: str) -> list[Any]:
    """The labels as they are in the file, none of them missing."""
    if column not in table.column_names:
        raise InputError(
            f"{source}: no column {column!r}; the columns are {', '.join(table.column_names)}; "
            "name the one with the labels with the key 'task.label_column'"
        )
    values: list[Any] = table[column].to_pylist()
    if all(value in (None, -1, "-1", "") for value in values):
        raise InputError(
            f"{source}: every {column!r} is a placeholder ({values[0]!r}), as in a test set whose "
            "labels are kept secret; leave this split out, or give one with labels"
        )
    if None in values:
        raise InputError(
            f"{_at(source, values.index(None))}: no {column!r}; label the row or remove it"
        )
    return values


def _classes(source: str, values: Sequence[Any], labels: Sequence[str]) -> list[float]:
    """Class indices of labels given by name, or by index where no name is itself a number."""
    indices = {name: index for index, name in enumerate(labels)}
    if not any(name.lstrip("-").isdecimal() for name in labels):
        indices |= {str(index): index for index in range(len(labels))}
    classes = []
    for row, value in enumerate(values):
        index = indices.get(_name(value))
        if index is None:
            raise InputError(
                f"{_at(source, row)}: label {value!r} is none of the task's: "
                f"{', '.join(labels)}; mend the row, or the task's labels"
            )
        classes.append(float(index))
    return classes


def _name(value: Any) -> str:
    """A label as text; whole numbers are written alike whether stored as int or float."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _scores(
    source: str, values: Sequence[Any], column: str, score_range: tuple[float, float] | None
) -> list[float]:
    low, high = score_range or (-math.inf, math.inf)
    wanted = f"a number from {low:g} to {high:g}" if score_range else "a finite number"
    scores = []
    for row, value in enumerate(values):
        score = _number(value)
        if not (math.isfinite(score) and low <= score <= high):
            raise InputError(
                f"{_at(source, row)}: {column!r} is {value!r}, {wanted} is expected; mend the row "
                "or remove it"
            )
        scores.append(score)
    return scores


def _number(value: Any) -> float:
    try:
        return float(value)
    except (ValueError, TypeError):
        return math.nan
