"""A user's task as a recipe names it, read from its files."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerBase

from raykd.errors import InputError
from raykd.storage.locations import location_of, shown
from raykd.storage.tables import read_table
from raykd.tasks.config import TaskConfig
from raykd.tasks.folds import most_folds
from raykd.tasks.labels.cells import INTEGER, Cell, is_placeholder, read_cell
from raykd.tasks.labels.rules import UnlabeledRows
from raykd.tasks.task import Task, load_task
from raykd.workflow.starter.columns import label_column, text_columns

# Where one class has a larger share of the rows, always answering it has a high accuracy.
_IMBALANCED = 0.7
_SAMPLE_ROWS = 1000
_DEV_FRACTION = 0.1
# With fewer rows per class, on average, a dev split is too small; a regression has two "classes".
FEW_PER_CLASS = 64
# With fewer rows per class, more folds, so that more rows are trained on.
_VERY_FEW_PER_CLASS = 16
_FOLDS, _MANY_FOLDS = 5, 10
# Lengths are rounded up to a multiple of this, and are at most `_MAX_LENGTH`.
_LENGTH_STEP, _MAX_LENGTH = 32, 256
_LONG_SHARE = 0.95


class StarterTask(NamedTuple):
    """A task's section, its rows, and the share of its largest class (1 for regression)."""

    config: TaskConfig
    task: Task
    largest_share: float


class Lengths(NamedTuple):
    """Tokens that models read per row, the share of the rows that fit, and of unknown tokens."""

    max_length: int
    share: float
    unknown_share: float


def find_task(
    name: str,
    train: str,
    dev: str | None,
    *,
    columns: Sequence[str] | None = None,
    label: str | None = None,
    labels: Sequence[str] | None = None,
    unlabeled_rows: UnlabeledRows = "error",
    regression: bool = False,
) -> StarterTask:
    """Find a task's columns, labels and metric in its files, and read both splits.

    Args:
        name: of the task.
        train: file or URL of the training rows.
        dev: file or URL of the rows on which models are scored; None to cut a tenth of the
            training rows, or, where there are few per class, to cross-validate.
        columns: of the texts; None to find them.
        label: column of the label; None to find it.
        labels: the classes in order; None for those of the training rows.
        unlabeled_rows: whether rows without a label are refused or left out.
        regression: whether the label is a score; it is found if any label is a fraction.

    Raises:
        InputError: a column cannot be found, or a row has no text or label; names the option.
    """
    location = location_of(train)
    source, table = shown(location), read_table(location)
    texts = tuple(columns) if columns else text_columns(source, table, label)
    label = label or label_column(source, table, texts)
    missing = [column for column in (*texts, label) if column not in table.column_names]
    if missing:
        raise InputError(
            f"{source}: no column {missing[0]!r}; the columns are {', '.join(table.column_names)}"
        )
    if dev is not None and location_of(dev) == location:
        raise InputError(f"--dev {dev}: is the file of --train; give rows that are not in it")
    is_regression = regression or (labels is None and _holds_scores(table[label]))
    values: dict[str, Any] = {
        "name": name,
        "train": train,
        "dev": dev,
        "dev_fraction": _DEV_FRACTION if dev is None else None,
        "sentence_columns": texts,
        "label_column": label,
        "labels": labels,
        "unlabeled_rows": unlabeled_rows,
        "regression": is_regression,
    }
    task = load_task(TaskConfig.parse(values, "raykd init"), options=True)
    if dev is None and (num_folds := _num_folds(task)) is not None:
        values |= {"dev_fraction": None, "folds": num_folds}
        task = load_task(TaskConfig.parse(values, "raykd init"), options=True)
    share = 1.0
    if is_regression:
        values["metrics"] = ("pearson", "spearman")
    else:
        classes = np.bincount(task.train["label"].to_numpy().astype(np.int64))
        share = float(classes.max() / classes.sum())
        values["labels"] = task.labels
        values["metrics"] = ("matthews", "accuracy") if share > _IMBALANCED else ("accuracy",)
    return StarterTask(TaskConfig.parse(values, "raykd init"), task, share)


def _num_folds(task: Task) -> int | None:
    """Folds for a task with few rows per class; None if there are enough for a dev split."""
    rows = pa.concat_tables([task.train, task.dev])
    per_class = rows.num_rows / (2 if task.regression else task.num_labels)
    if per_class >= FEW_PER_CLASS:
        return None
    wanted = _MANY_FOLDS if per_class < _VERY_FEW_PER_CLASS else _FOLDS
    return min(wanted, most_folds(rows, task.labels))


def token_lengths(task: Task, tokenizer: PreTrainedTokenizerBase) -> Lengths:
    """Tokens of the task's training rows, of which at most `_SAMPLE_ROWS` are measured."""
    rows = task.train.slice(0, _SAMPLE_ROWS)
    first, second = rows["sentence1"].to_pylist(), rows["sentence2"].to_pylist()
    has_pairs = any(text is not None for text in second)
    encoded = tokenizer(first, second if has_pairs else None)["input_ids"]
    lengths = np.array([len(row) for row in encoded])
    num_unknown = sum(row.count(tokenizer.unk_token_id) for row in encoded)
    wanted = int(np.quantile(lengths, _LONG_SHARE))
    max_length = min(_MAX_LENGTH, -(-wanted // _LENGTH_STEP) * _LENGTH_STEP)
    return Lengths(
        max_length, float((lengths <= max_length).mean()), num_unknown / int(lengths.sum())
    )


def _holds_scores(column: pa.ChunkedArray) -> bool:
    """Return whether all labels are numbers, and some of them fractions."""
    if pa.types.is_nested(column.type):
        return False
    cells = [_cell(value) for value in set(column.to_pylist())]
    known = [cell for cell in cells if cell is not None and not is_placeholder(cell)]
    numbers = [cell for cell in known if cell.is_fraction or INTEGER.fullmatch(cell.key)]
    return len(numbers) == len(known) and any(cell.is_fraction for cell in known)


def _cell(value: object) -> Cell | None:
    try:
        return read_cell(value)
    except TypeError:  # a date or bytes, which reading the labels refuses
        return None
