"""Classes of a task, and the class of each row.

Unless they are listed, classes are those of the train split. Missing labels, apparent placeholders
and classes with very few rows are refused; listing the classes permits such labels. `cells`
defines how a cell is parsed.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from raykd.errors import InputError
from raykd.tasks.labels.cells import (
    BOOLEANS,
    INTEGER,
    YAML_BOOLEANS,
    Cell,
    in_order,
    is_placeholder,
    key_of,
    read_cell,
)
from raykd.tasks.labels.checks import check_likely, check_no_fractions
from raykd.tasks.labels.rules import LabelRules, grouped, located, rows_text
from raykd.tasks.labels.tally import Tally, check_any_left, indices_by_key

_SHOWN_SPELLINGS = 5
_MULTI_LABEL = "give each row one label, or set 'task.multi_label: true' for any number of classes"


class Targets(NamedTuple):
    """Class index per row of a split, None for a skipped row; and remarks."""

    values: list[float | None]
    remarks: list[str]


def label_column(source: str, table: pa.Table, rules: LabelRules) -> list[Any]:
    """Values of the label column.

    Raises:
        InputError: the column does not exist, or every value is a placeholder.
    """
    require_label_column(source, table.column_names, rules)
    values: list[Any] = table[rules.column].to_pylist()
    if rules.separator is not None:
        return values
    listed = {key_of(name) for name in rules.labels or ()}
    cells = _cells(source, values, rules)
    if cells and all(
        cell is None or ((is_placeholder(cell) or cell.key == "-1") and cell.key not in listed)
        for cell in cells
    ):
        raise InputError(
            f"{source}: every {rules.column!r} is a placeholder ({values[0]!r}), as in a test set "
            "with secret labels; remove this split, or name one with labels"
        )
    return values


def require_label_column(source: str, names: Sequence[str], rules: LabelRules) -> None:
    """Check that the label column exists.

    Raises:
        InputError: it does not; names the columns of the table.
    """
    if rules.column not in names:
        raise InputError(
            f"{source}: no column {rules.column!r}; the columns are {', '.join(names)}; name the "
            f"one with the labels with the key {rules.key('label_column')}"
        )


def class_names(source: str, values: Sequence[Any], rules: LabelRules) -> tuple[str, ...]:
    """Classes of a train split: numbers in order of value, names in alphabetical order.

    Raises:
        InputError: there are fewer than two classes, or a value is unlikely to be a class (missing,
            a placeholder, a fraction, a class with very few rows); names the rows.
    """
    cells = _cells(source, values, rules)
    check_no_fractions(source, cells, rules)
    unlabeled = _unlabeled(values, cells, _only_negative(cells))
    tally = Tally()
    for row, cell in enumerate(cells):
        if cell is not None and row not in unlabeled:
            tally.add(row, cell)
    called = tally.called()
    every = in_order({cell.key: called.get(cell.key, cell.name) for cell in cells if cell})
    if unlabeled and rules.unlabeled_rows == "error":
        raise InputError(_unlabeled_message(source, unlabeled, rules, every))
    found = in_order(called)
    if len(found) < 2:
        raise InputError(
            f"{source}: every row has the same {rules.column!r} ({', '.join(found)}), a task needs "
            f"two; check the file and the key {rules.key('label_column')}"
        )
    check_likely(source, tally.rows, called, rules)
    return found


def class_indices(
    source: str, values: Sequence[Any], names: Sequence[str], rules: LabelRules
) -> Targets:
    """Index of each row's class, given by name, or by index if no name is a number.

    Args:
        source: source of the rows, for messages.
        values: values of the label column.
        names: classes in order.
        rules: settings; `labels` is None if the classes are those of the train split.

    Raises:
        InputError: names the rows without a label of the task.
    """
    cells = _cells(source, values, rules)
    indices = indices_by_key(names)
    unlabeled: dict[int, str] = {}
    unknown: dict[int, str] = {}
    targets: list[float | None] = []
    for row, cell in enumerate(cells):
        index = None if cell is None else indices.get(cell.key)
        targets.append(None if index is None else float(index))
        if cell is None:
            unlabeled[row] = _kind_of_missing(values[row])
        elif index is None:
            hidden = is_placeholder(cell) or re.fullmatch(r"-[1-9][0-9]*", cell.key)
            (unlabeled if hidden else unknown)[row] = repr(values[row])
    may_skip = rules.unlabeled_rows == "skip"
    if unknown and not (may_skip and rules.labels is not None):
        raise InputError(_unknown_message(source, unknown, names, rules))
    if unlabeled and not may_skip:
        raise InputError(_unlabeled_message(source, unlabeled, rules, names, is_whole=False))
    left_out = unlabeled | unknown
    check_any_left(source, left_out, len(values), names, rules)
    remarks = []
    if left_out:
        remarks.append(f"left out {grouped(left_out)}")
    return Targets(targets, remarks + _spellings(values, targets, names))


def _cells(source: str, values: Sequence[Any], rules: LabelRules) -> list[Cell | None]:
    cells: list[Cell | None] = []
    # Labels repeat: each different one is parsed once.
    read: dict[tuple[type, Any], Cell | None] = {}
    for row, value in enumerate(values):
        if isinstance(value, list | tuple | dict):
            raise InputError(
                f"{source}, {located([row])}: {rules.column!r} holds a "
                f"{'mapping' if isinstance(value, dict) else 'list'}, {value!r:.60}; "
                f"{'give each row one label' if rules.options else _MULTI_LABEL}"
            )
        try:
            if (type(value), value) not in read:
                read[type(value), value] = read_cell(value)
        except TypeError as error:
            raise InputError(
                f"{source}, {located([row])}: {rules.column!r} holds {error}, not text, a whole "
                "number or a boolean; convert the column"
            ) from None
        cells.append(read[type(value), value])
    return cells


def _only_negative(cells: Sequence[Cell | None]) -> str | None:
    """The only negative number among two or more others: a placeholder, such as SNLI's -1."""
    keys = {cell.key for cell in cells if cell is not None and not is_placeholder(cell)}
    if not all(INTEGER.fullmatch(key) for key in keys):
        return None
    negative = [key for key in keys if key.startswith("-")]
    return negative[0] if len(negative) == 1 and len(keys) > 2 else None


def _kind_of_missing(value: object) -> str:
    if value is None:
        return "null"
    return "an empty cell" if isinstance(value, str) else "NaN" if value != value else repr(value)


def _unlabeled(
    values: Sequence[Any], cells: Sequence[Cell | None], negative: str | None
) -> dict[int, str]:
    """Values of the rows that seem to have no label, by row."""
    found = {}
    for row, cell in enumerate(cells):
        if cell is None:
            found[row] = _kind_of_missing(values[row])
        elif is_placeholder(cell) or cell.key == negative:
            found[row] = repr(values[row])
    return found


def _unlabeled_message(
    source: str,
    found: Mapping[int, str],
    rules: LabelRules,
    names: Sequence[str],
    *,
    is_whole: bool = True,
) -> str:
    """Error message; `is_whole`: whether these values can be permitted by listing the classes."""
    message = (
        f"{source}: no label in {rules.column!r}: {grouped(found)}; label these rows or remove "
        f"them, or set {rules.key('unlabeled_rows')} to skip to leave them out"
    )
    has_text = any(what.startswith("'") or what.lstrip("-").isdecimal() for what in found.values())
    if has_text and is_whole:
        message += f"; if it is a class, list all of them: {rules.listing(names)}"
    elif has_text:
        message += f"; the {rules.owner}'s classes are {', '.join(names)}"
    return message


def _unknown_message(
    source: str, unknown: Mapping[int, str], names: Sequence[str], rules: LabelRules
) -> str:
    origin = "" if rules.labels is not None else ", those of the train split"
    rows = list(unknown)
    message = (
        f"{source}, {located(rows)}: label {', '.join(list(dict.fromkeys(unknown.values()))[:5])} "
        f"is none of the {rules.owner}'s: {', '.join(names)}{origin}"
    )
    folded = {name.casefold() for name in names}
    said = {what.strip("'\"").strip().casefold() for what in unknown.values()}
    if folded & BOOLEANS and said & YAML_BOOLEANS:
        message += (
            f"; YAML reads an unquoted yes, no, on or off as a boolean: put the labels in "
            f"{rules.key('labels')} in quotes"
        )
    elif folded & said:
        message += "; it differs from one of them only in case"
    return f"{message}; correct the rows, or the list {rules.key('labels')}{rules.remedy}"


def _spellings(
    values: Sequence[Any], targets: Sequence[float | None], names: Sequence[str]
) -> list[str]:
    """Remarks on text that was matched to a class with another spelling."""
    found: dict[tuple[str, str], list[int]] = {}
    for row, (value, target) in enumerate(zip(values, targets, strict=True)):
        if target is None or not isinstance(value, str) or value == (name := names[int(target)]):
            continue
        if key_of(value) == key_of(name):
            found.setdefault((value, name), []).append(row)
    return [
        f"{value!r} in {rows_text(rows)} (counted from 0) is taken as {name!r}"
        for (value, name), rows in list(found.items())[:_SHOWN_SPELLINGS]
    ]
