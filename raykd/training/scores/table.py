"""Reading of files of scores: a key per row, by which rows are matched, and its scores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raykd.errors import InputError, shortened
from raykd.storage.locations import Location, shown
from raykd.storage.tables import read_table
from raykd.tasks.labels.cells import key_of
from raykd.tasks.labels.rules import located
from raykd.training.scores.cells import CellError, CellReader, number_of
from raykd.training.scores.config import ScoresConfig

# The texts of a row (the second is None for single sentences), or its id.
Key = tuple[str, str | None]

# Column of a regression task's scores, as `raykd predict` writes it.
_REGRESSION_COLUMN = "prediction"
# Files that `raykd predict` writes into its output directory.
_PARTS = "part-*.parquet"
_SHOWN_TEXT = 80


@dataclass(frozen=True)
class ScoreTable:
    """Rows of all files.

    Attributes:
        keys: key per row.
        values: (N, C) scores in the order of the task's classes, 1 column for regression.
        rows: source of each row, and its number in it.
    """

    keys: list[Key]
    values: NDArray[np.float64]
    rows: list[tuple[str, int]]

    def located(self, row: int) -> str:
        """Text like `scores.csv, row 7 (counted from 0)`."""
        source, number = self.rows[row]
        return f"{source}, {located([number])}"


@dataclass(frozen=True)
class TableReader:
    """Reader of files of scores.

    Attributes:
        config: columns and kind.
        names: classes of the task in order; empty for regression.
        order: classes in the order of lists; None if it is not given.
        candidates: possible names of the task's sentence columns, in order of preference.
    """

    config: ScoresConfig
    names: tuple[str, ...]
    order: tuple[str, ...] | None
    candidates: Sequence[tuple[str, ...]]

    def read(self, paths: Sequence[Location]) -> ScoreTable:
        """Read the rows of all files that have a text, or an id.

        Raises:
            InputError: a file is invalid, a column is missing, or a row has no valid scores.
        """
        keys: list[Key] = []
        values: list[list[float]] = []
        rows: list[tuple[str, int]] = []
        for path in paths:
            source = shown(path)
            for number, key, scores in self._rows(path, source):
                keys.append(key)
                values.append(scores)
                rows.append((source, number))
        if not keys:
            sources = ", ".join(shown(path) for path in paths)
            raise InputError(f"{sources}: holds no rows; the teacher's scores are expected")
        return ScoreTable(keys, np.array(values, np.float64), rows)

    def _rows(self, path: Location, source: str) -> Iterator[tuple[int, Key, list[float]]]:
        config, reader = self.config, CellReader(self.names, self.order)
        texts = [name for columns in self._candidates() for name in columns]

        def choose(names: Sequence[str]) -> list[str]:
            keys = self._key_columns(source, names)
            return [*keys, *self._score_columns(source, [n for n in names if n not in keys])]

        table = read_table(
            path,
            choose=choose,
            text_columns=() if config.id_column else texts,
            id_columns=[config.id_column] if config.id_column else (),
        )
        if table.num_rows == 0:
            return
        key_columns = self._key_columns(source, table.column_names)
        columns = table.column_names[len(key_columns) :]
        keys = _keys_of(source, table, key_columns, is_id=config.id_column is not None)
        is_whole = len(columns) == 1  # a task has two classes or more
        for number, (key, cells) in enumerate(
            zip(keys, zip(*(table[name].to_pylist() for name in columns), strict=True), strict=True)
        ):
            if not f"{key[0]}{key[1] or ''}".strip():
                continue  # matches no row of the task, which all have a text
            try:
                if is_whole:
                    scores = reader.read(cells[0])
                else:
                    scores = [
                        number_of(cell, f"the score of {name!r:.60}")
                        for name, cell in zip(columns, cells, strict=True)
                    ]
            except CellError as error:
                column = f"column {columns[0]!r}: " if is_whole else ""
                raise InputError(f"{source}, {located([number])}: {column}{error}") from None
            yield number, key, scores

    def _candidates(self) -> Sequence[tuple[str, ...]]:
        return self.candidates if self.config.text_columns is None else [self.config.text_columns]

    def _key_columns(self, source: str, names: Sequence[str]) -> tuple[str, ...]:
        """Columns by which rows are matched."""
        if self.config.id_column is not None:
            return (self.config.id_column,)
        candidates = self._candidates()
        for columns in candidates:
            if set(columns) <= set(names):
                return columns
        wanted = " or ".join(", ".join(columns) for columns in dict.fromkeys(candidates))
        raise InputError(
            f"{source}: rows of scores are matched by their text, which is expected in {wanted}; "
            f"the columns are {', '.join(names)}; name yours with teacher.scores.text_columns, or "
            "match rows by an id with teacher.scores.id_column"
        )

    def _score_columns(self, source: str, names: Sequence[str]) -> list[str]:
        """The column with all scores, or one column per class, in the order of the classes."""
        if self.config.column is not None:
            return [self.config.column]
        default = self.config.kind if self.names else _REGRESSION_COLUMN
        classes = self._class_columns(names)
        missing = [name for name, column in classes.items() if column is None]
        if not missing and self.names:
            if default in names and default not in classes.values():
                raise InputError(
                    f"{source}: has a column per class, and the column {default!r}; name the one "
                    "with the scores with teacher.scores.column, or remove one or the others"
                )
            return [column for column in classes.values() if column is not None]
        if default in names:
            return [default]
        shown_names = ", ".join(names)
        if self.names and len(missing) < len(self.names):
            raise InputError(
                f"{source}: no column {missing[0]!r}, and the scores of the other classes are in "
                f"columns with their names; the columns are {shown_names}; add it"
            )
        per_class = f"one column per class ({', '.join(self.names)}), or " if self.names else ""
        raise InputError(
            f"{source}: the teacher's scores are expected in {per_class}the column {default!r}; "
            f"the columns are {shown_names}; name the column with all scores with "
            "teacher.scores.column"
        )

    def _class_columns(self, names: Sequence[str]) -> dict[str, str | None]:
        """Column of each class, None where there is none."""
        columns = {key_of(column): column for column in reversed(names)}
        return {name: columns.get(key_of(name)) for name in self.names}


def files_of(path: Location) -> list[Location]:
    """The file itself, or the files of a directory that `raykd predict` wrote.

    Raises:
        InputError: a directory has no such files.
    """
    if not (isinstance(path, Path) and path.is_dir()):
        return [path]
    parts: list[Location] = [*sorted(path.glob(_PARTS))]
    if not parts:
        raise InputError(
            f"teacher.scores: {path} is a directory without files {_PARTS}, as raykd predict "
            "writes them; name files"
        )
    return parts


def shown_key(key: Key) -> str:
    """Beginning of the texts of a row, for messages."""
    return " / ".join(repr(shortened(text, _SHOWN_TEXT)) for text in key if text is not None)


def _keys_of(
    source: str, table: pa.Table, columns: Sequence[str], *, is_id: bool = False
) -> list[Key]:
    values = [table[name].to_pylist() for name in columns]
    allowed = {"str", "int", "NoneType"} if is_id else {"str", "NoneType"}
    for name, cells in zip(columns, values, strict=True):
        if wrong := {type(cell).__name__ for cell in cells} - allowed:
            expected = "text or whole numbers are" if is_id else "text is"
            raise InputError(
                f"{source}: column {name!r} holds values of type {', '.join(sorted(wrong))}; "
                f"{expected} expected, to match rows by"
            )
    texts = [[None if cell is None else str(cell) for cell in cells] for cells in values]
    if len(texts) == 1:
        return [(first or "", None) for first in texts[0]]
    return [(first or "", second) for first, second in zip(*texts, strict=True)]
