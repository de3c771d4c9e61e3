"""Reading of labeled rows, and their conversion to examples with checked sentences and labels.

Row numbers start at 0, as `row_id` does.
"""

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from raykd.errors import InputError
from raykd.storage.delimited import Layout
from raykd.storage.locations import Location, shown
from raykd.storage.schemas import EXAMPLES, examples_schema
from raykd.storage.tables import read_table
from raykd.tasks.labels.classes import Targets, class_indices, label_column, require_label_column
from raykd.tasks.labels.rules import LabelRules, located
from raykd.tasks.labels.sets import LabelSets, label_sets
from raykd.tasks.score_cells import scores


class Examples(NamedTuple):
    """Split as `schemas.EXAMPLES`, and remarks on changed or skipped rows."""

    table: pa.Table
    remarks: list[str]


def read_rows(
    path: Location, candidates: Sequence[tuple[str, ...]], rules: LabelRules, layout: Layout
) -> pa.Table:
    """Read the sentence and label columns of a file.

    Args:
        path: file or URL.
        candidates: possible names of the sentence columns, in order of preference.
        rules: the label column.
        layout: format of a CSV or TSV file.

    Raises:
        InputError: the file is invalid, or lacks a column.
    """
    source = shown(path)
    names = [name for columns in candidates for name in columns]

    def choose(found: Sequence[str]) -> list[str]:
        columns = find_sentence_columns(source, found, candidates, rules)
        require_label_column(source, found, rules)
        return [*columns, rules.column]

    wanted = [*names, rules.column]
    return read_table(path, wanted, choose=choose, text_columns=names, layout=layout)


def find_sentence_columns(
    source: str, names: Sequence[str], candidates: Sequence[tuple[str, ...]], rules: LabelRules
) -> tuple[str, ...]:
    """Choose the first of the candidates that a table has.

    Args:
        source: source of the table, for messages.
        names: names of all columns.
        candidates: possible names of the sentence columns, in order of preference.
        rules: names of the settings, for messages.

    Raises:
        InputError: it has none of them.
    """
    for columns in candidates:
        if set(columns) <= set(names):
            return columns
    wanted = " or ".join(", ".join(columns) for columns in dict.fromkeys(candidates))
    raise InputError(
        f"{source}: the sentences are expected in {wanted}; the columns are "
        f"{', '.join(names)}; name yours with the key {rules.key('sentence_columns')}"
    )


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
    sentences = [_sentences(source, table, column, rules) for column in sentence_columns]
    for row, texts in enumerate(zip(*sentences, strict=True)):
        if not any(text.strip() for text in texts):
            columns = " or ".join(sentence_columns)
            raise InputError(f"{source}, {located([row])}: no text in {columns}; remove the row")
    values = label_column(source, table, rules)
    schema, label_type = EXAMPLES, EXAMPLES.field("label").type
    targets: Targets | LabelSets
    if rules.separator is not None:
        targets = label_sets(source, values, labels, rules)
        schema = examples_schema(len(labels))
        label_type = schema.field("label").type
    elif labels:
        targets = class_indices(source, values, labels, rules)
    else:
        targets = scores(source, values, rules, score_range)
    arrays = [
        pa.array(range(table.num_rows), pa.int64()),
        pa.array(sentences[0], pa.string()),
        pa.array(sentences[1], pa.string())
        if len(sentences) == 2
        else pa.nulls(table.num_rows, pa.string()),
        pa.array(targets.values, label_type),
    ]
    examples = pa.table(arrays, schema=schema)
    return Examples(examples.filter(examples["label"].is_valid()), targets.remarks)


def _sentences(source: str, table: pa.Table, column: str, rules: LabelRules) -> list[str]:
    type_ = table.schema.field(column).type
    if not pa.types.is_string(type_):
        raise InputError(
            f"{source}: column {column!r} has type {type_}, not text; name the sentence columns "
            f"with the key {rules.key('sentence_columns')}"
        )
    sentences: list[str] = []
    for row, sentence in enumerate(table[column].to_pylist()):
        if sentence is None:
            raise InputError(f"{source}, {located([row])}: no {column!r}; remove the row")
        sentences.append(sentence)
    return sentences
