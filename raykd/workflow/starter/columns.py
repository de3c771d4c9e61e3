"""Detection of the text and label columns of a table."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import regex

from raykd.errors import InputError
from raykd.storage.tables import holds_text
from raykd.tasks.glue import GLUE
from raykd.text.unspaced import UNSPACED

# Rows that are looked at.
_MAX_ROWS = 1000
# A column with fewer words per row on average holds names, ids or labels.
_MIN_WORDS = 2.5
# A column whose values repeat more often than this is no text.
_MIN_DISTINCT = 0.5
# A label has at least this many rows on average.
_ROWS_PER_LABEL = 3
_LABEL_NAMES = ("label", "labels")
_UNSPACED = regex.compile(UNSPACED, regex.VERSION1)


def text_columns(source: str, table: pa.Table, label: str | None) -> tuple[str, ...]:
    """The column of the text, or the two columns of a pair.

    Columns of text have several words per row and few repeated rows. Two of them are a pair only if
    they are named as such (`sentence1` and `sentence2`, or as those of a GLUE task).

    Args:
        source: the table's file, for messages.
        table: all columns.
        label: the label's column, where the user named it.

    Raises:
        InputError: there is no such column, or there are several; names the option to use.
    """
    found = [name for name in _texts(table) if name != label]
    if len(found) == 1:
        return tuple(found)
    for pair in _pairs():
        if len(found) == 2 and set(pair) == set(found):
            return pair
    if not found:
        raise InputError(
            f"{source}: no column looks like text (several words per row); the columns are "
            f"{_listed(table.column_names)}; name one with --text-columns"
        )
    raise InputError(
        f"{source}: {len(found)} columns look like text: {_listed(found)}; name the one to "
        f"classify, or the two of a pair, with --text-columns, such as --text-columns {found[0]}"
    )


def label_column(source: str, table: pa.Table, texts: Sequence[str]) -> str:
    """The column of the label: the one named `label`, else the only one with repeated values.

    Args:
        source: the table's file, for messages.
        table: all columns.
        texts: the columns of text.

    Raises:
        InputError: there is no such column, or there are several; names the option to use.
    """
    others: list[str] = [name for name in table.column_names if name not in texts]
    for name in others:
        if name.lower() in _LABEL_NAMES:
            return name
    found = [name for name in others if _may_be_label(table[name])]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{source}: no column looks like a label (few different values); the columns are "
            f"{_listed(table.column_names)}; name one with --label-column"
        )
    raise InputError(
        f"{source}: {len(found)} columns look like a label: {_listed(found)}; name the one to "
        f"predict with --label-column, such as --label-column {found[0]}"
    )


def _pairs() -> list[tuple[str, ...]]:
    """Names of the columns of pairs."""
    glue = [task.sentence_columns for task in GLUE.values() if len(task.sentence_columns) == 2]
    numbered = [(f"{name}1", f"{name}2") for name in ("sentence", "text", "question")]
    return [*dict.fromkeys(glue), *numbered]


def _texts(table: pa.Table) -> list[str]:
    found: list[str] = []
    for name in table.column_names:
        if not holds_text(table[name].type):
            continue
        values = [value for value in _values(table[name]) if value.strip()]
        has_words = sum(map(_num_words, values)) >= _MIN_WORDS * len(values)
        if values and has_words and len(set(values)) > _MIN_DISTINCT * len(values):
            found.append(name)
    return found


def _num_words(text: str) -> int:
    """Words between white space; each letter of a script without blanks counts as one."""
    letters, rest = _UNSPACED.findall(text), _UNSPACED.sub(" ", text)
    return len(letters) + len(rest.split())


def _may_be_label(column: pa.ChunkedArray) -> bool:
    if pa.types.is_nested(column.type):
        return False
    values = _values(column)
    num_different = len(set(values))
    return 2 <= num_different <= max(2, len(values) // _ROWS_PER_LABEL)


def _values(column: pa.ChunkedArray) -> list[Any]:
    """The first values that are not null."""
    values: list[Any] = column.slice(0, _MAX_ROWS).drop_null().to_pylist()
    return values


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
