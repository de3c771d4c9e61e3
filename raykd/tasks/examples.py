"""Conversion of rows to examples, with checked sentences and labels.

Row numbers start at 0, as `row_id` does.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from raykd.errors import InputError
from raykd.storage.schemas import EXAMPLES
from raykd.tasks.label_rules import LabelRules, located
from raykd.tasks.labels import class_indices, label_column
from raykd.tasks.score_cells import scores


class Examples(NamedTuple):
    """Split as `schemas.EXAMPLES`, and remarks on changed or skipped rows."""

    table: pa.Table
    remarks: list[str]


def to_examples(
    source: str,
    table: pa.Table,
    sentence_columns: Sequence[str],
    rules: LabelRules,
    *,
    labels: Sequence[str],
    score_range: tuple[float, float] | None = None,
) -> Examples:
    """Rows with a label, in order; `row_id` is the row's number in the source.

    Args:
        source: source of the rows, for messages.
        table: rows.
        sentence_columns: one or two text columns.
        rules: label column, and handling of rows without a label.
        labels: class names; empty for regression.
        score_range: minimum and maximum score of a regression task.

    Raises:
        InputError: names the rows without text or without a label of this task.
    """
    sentences = [_sentences(source, table, column) for column in sentence_columns]
    for row, texts in enumerate(zip(*sentences, strict=True)):
        if not any(text.strip() for text in texts):
            columns = " or ".join(sentence_columns)
            raise InputError(f"{source}, {located([row])}: no text in {columns}; remove the row")
    values = label_column(source, table, rules)
    if labels:
        targets = class_indices(source, values, labels, rules)
    else:
        targets = scores(source, values, rules, score_range)
    arrays = [
        pa.array(range(table.num_rows), pa.int64()),
        pa.array(sentences[0], pa.string()),
        pa.array(sentences[1], pa.string())
        if len(sentences) == 2
        else pa.nulls(table.num_rows, pa.string()),
        pa.array(targets.values, pa.float64()),
    ]
    examples = pa.table(arrays, schema=EXAMPLES)
    return Examples(examples.filter(examples["label"].is_valid()), targets.remarks)


def _sentences(source: str, table: pa.Table, column: str) -> list[str]:
    type_ = table.schema.field(column).type
    if not pa.types.is_string(type_):
        raise InputError(
            f"{source}: column {column!r} has type {type_}, not text; name the sentence columns "
            "with the key 'task.sentence_columns'"
        )
    sentences: list[str] = []
    for row, sentence in enumerate(table[column].to_pylist()):
        if sentence is None:
            raise InputError(f"{source}, {located([row])}: no {column!r}; remove the row")
        sentences.append(sentence)
    return sentences
