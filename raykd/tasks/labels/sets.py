"""Sets of classes per row, of multi-label tasks: their reading, and targets of stored examples.

A cell is a list of class names, or a text with the names joined by a separator. An empty list or
text is a row without any class; null is a row whose classes are not known. A class is parsed as in
`labels`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from raykd.errors import InputError
from raykd.storage.schemas import is_multi_label
from raykd.tasks.labels.cells import Cell, in_order, is_placeholder, read_cell
from raykd.tasks.labels.checks import check_likely
from raykd.tasks.labels.rules import LabelRules, grouped, located
from raykd.tasks.labels.tally import Tally, check_any_left, indices_by_key
from raykd.tasks.metrics import FloatArray


class LabelSets(NamedTuple):
    """C numbers per row of a split, 1 for its classes, None for a skipped row; and remarks."""

    values: list[list[int] | None]
    remarks: list[str]


def targets_of(table: pa.Table) -> FloatArray:
    """Targets of examples or predictions: (N,) classes or scores, or (N, C) of a multi-label task.

    The latter are 1 for the row's classes and 0 for all others.
    """
    targets: FloatArray
    if is_multi_label(table):
        return _matrix(table["label"]).astype(np.float64)
    targets = table["label"].to_numpy()
    return targets


def _matrix(column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[Any]]:
    """Numbers (N, C) of lists of equal length."""
    joined = column.combine_chunks()
    values: np.ndarray[Any, np.dtype[Any]] = joined.flatten().to_numpy()
    return values.reshape(len(joined), column.type.list_size)


def class_names_of_sets(source: str, values: Sequence[Any], rules: LabelRules) -> tuple[str, ...]:
    """Classes of a train split, in the order of `labels.class_names`.

    Raises:
        InputError: there are fewer than two classes, or a value is unlikely to be a class; names
            the rows.
    """
    tally = Tally()
    sets = _sets(source, values, rules)
    unlabeled = _unlabeled(values, sets, frozenset())
    for row, cells in enumerate(sets):
        if row not in unlabeled:
            for cell in cells or ():
                tally.add(row, cell)
    called = tally.called()
    found = in_order(called)
    if unlabeled and rules.unlabeled_rows == "error":
        raise InputError(_unlabeled_message(source, unlabeled, rules, found))
    if len(found) < 2:
        raise InputError(
            f"{source}: {rules.column!r} has {len(found)} classes ({', '.join(found)}), a task "
            f"needs two; check the file and the keys {rules.key('label_column')} and "
            f"{rules.key('label_separator')} ({rules.separator!r})"
        )
    check_likely(source, tally.rows, called, rules)
    return found


def label_sets(
    source: str, values: Sequence[Any], names: Sequence[str], rules: LabelRules
) -> LabelSets:
    """Classes of each row, given by name, or by index if no name is a number.

    Args:
        source: source of the rows, for messages.
        values: values of the label column.
        names: classes in order.
        rules: settings; `labels` is None if the classes are those of the train split.

    Raises:
        InputError: names the rows without known classes, or with a class that the task lacks.
    """
    indices = indices_by_key(names)
    sets = _sets(source, values, rules)
    left_out = _unlabeled(values, sets, indices.keys())
    unknown: dict[int, str] = {}
    for row, cells in enumerate(sets):
        if row not in left_out:
            wrong = [cell.name for cell in cells or () if cell.key not in indices]
            if wrong:
                unknown[row] = ", ".join(map(repr, wrong))
    may_skip = rules.unlabeled_rows == "skip"
    if unknown and not (may_skip and rules.labels is not None):
        raise InputError(_unknown_message(source, unknown, names, rules))
    if left_out and not may_skip:
        raise InputError(_unlabeled_message(source, left_out, rules, names))
    left_out |= unknown
    check_any_left(source, left_out, len(values), names, rules)
    targets: list[list[int] | None] = []
    for row, cells in enumerate(sets):
        own = {indices[cell.key] for cell in cells or ()} if row not in left_out else set()
        targets.append(
            None if row in left_out else [int(index in own) for index in range(len(names))]
        )
    return LabelSets(targets, [f"left out {grouped(left_out)}"] if left_out else [])


def _sets(source: str, values: Sequence[Any], rules: LabelRules) -> list[list[Cell] | None]:
    """Parsed classes of each row; None if they are not known."""
    sets: list[list[Cell] | None] = []
    for row, value in enumerate(values):
        if value is None:
            sets.append(None)
            continue
        if isinstance(value, str):
            items: Sequence[Any] = [item for item in value.split(rules.separator) if item.strip()]
        elif isinstance(value, list | tuple):
            items = value
        elif isinstance(value, int):
            items = [value]  # a column of CSV in which no row has several classes
        else:
            raise InputError(
                f"{source}, {located([row])}: {rules.column!r} is {value!r:.60}; a list of class "
                f"names is expected, or a text with names joined by {rules.separator!r} "
                f"({rules.key('label_separator')})"
            )
        sets.append([_cell(source, row, item, rules) for item in items])
    return sets


def _cell(source: str, row: int, item: object, rules: LabelRules) -> Cell:
    try:
        cell = read_cell(item)
    except TypeError:
        cell = None
    if cell is None:
        raise InputError(
            f"{source}, {located([row])}: {rules.column!r} has {item!r:.60} among its classes, not "
            "text, a whole number or a boolean; correct the row"
        )
    return cell


def _unlabeled(
    values: Sequence[Any], sets: Sequence[list[Cell] | None], known: Any
) -> dict[int, str]:
    """Values of the rows whose classes are not known: null, or only a placeholder."""
    found = {}
    for row, cells in enumerate(sets):
        if cells is None:
            found[row] = "null"
        elif len(cells) == 1 and cells[0].key not in known:
            is_negative = re.fullmatch(r"-[1-9][0-9]*", cells[0].key) is not None
            if is_placeholder(cells[0]) or is_negative:
                found[row] = repr(values[row])
    return found


def _unlabeled_message(
    source: str, found: Mapping[int, str], rules: LabelRules, names: Sequence[str]
) -> str:
    return (
        f"{source}: no classes in {rules.column!r}: {grouped(found)}; write an empty list or text "
        "if such a row has no class; else label or remove it, or set "
        f"{rules.key('unlabeled_rows')} to skip to leave it out; the classes are "
        f"{', '.join(names)}"
    )


def _unknown_message(
    source: str, unknown: Mapping[int, str], names: Sequence[str], rules: LabelRules
) -> str:
    rows = list(unknown)
    origin = "" if rules.labels is not None else ", those of the train split"
    return (
        f"{source}, {located(rows)}: class {', '.join(list(dict.fromkeys(unknown.values()))[:5])} "
        f"is none of the {rules.owner}'s: {', '.join(names)}{origin}; correct the rows, the list "
        f"{rules.key('labels')}, or {rules.key('label_separator')} ({rules.separator!r})"
        f"{rules.remedy}"
    )
