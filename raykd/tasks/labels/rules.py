"""Label settings of a task, and texts about rows for messages."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

_SHOWN_ROWS = 5
_SHOWN_CLASSES = 30

UnlabeledRows = Literal["error", "skip"]


@dataclass(frozen=True)
class LabelRules:
    """Label settings of a recipe or command.

    Args:
        column: name of the label column.
        labels: classes in order; None for those of the train split.
        unlabeled_rows: whether rows without a label are an error or are skipped.
        options: whether settings are command options, not recipe keys.
        section: path of the settings in the recipe.
        owner: "task", or "set" for an evaluation set with classes of its own.
        separator: of the classes in a text, in a multi-label task; None: a row has one class.
        remedy: what else to do about unknown labels, for messages.
    """

    column: str
    labels: tuple[str, ...] | None = None
    unlabeled_rows: UnlabeledRows = "error"
    options: bool = False
    section: str = "task"
    owner: str = "task"
    remedy: str = ""
    separator: str | None = None

    def key(self, name: str) -> str:
        """Name of a setting in messages: `'task.labels'`, or `--labels`."""
        return f"--{name.replace('_', '-')}" if self.options else f"'{self.section}.{name}'"

    def listing(self, names: Sequence[str]) -> str:
        """Setting that lists the classes, to copy from a message."""
        shown = [json.dumps(name, ensure_ascii=False) for name in names[:_SHOWN_CLASSES]]
        if len(names) > _SHOWN_CLASSES:
            shown.append("...")
        if self.options:
            return f"--labels {' '.join(shown)}"
        return f"labels: [{', '.join(shown)}]"


def located(rows: Sequence[int]) -> str:
    """Text like `row 7 (counted from 0)`, or the first of several rows and their number."""
    if len(rows) == 1:
        return f"row {rows[0]} (counted from 0)"
    return f"{rows_text(rows)} (counted from 0)"


def rows_text(rows: Sequence[int]) -> str:
    """Text like `rows 7, 27`, or `9 rows (7, 27, 31, 40, 52, ...)`."""
    shown = ", ".join(map(str, rows[:_SHOWN_ROWS]))
    if len(rows) > _SHOWN_ROWS:
        return f"{len(rows)} rows ({shown}, ...)"
    return f"row{'s' if len(rows) > 1 else ''} {shown}"


def grouped(values: Mapping[int, str]) -> str:
    """Text like `'-' in rows 3, 8; null in row 9 (counted from 0)`."""
    rows: dict[str, list[int]] = {}
    for row, what in values.items():
        rows.setdefault(what, []).append(row)
    groups = [f"{what} in {rows_text(ids)}" for what, ids in list(rows.items())[:_SHOWN_ROWS]]
    more = len(rows) - len(groups)
    return "; ".join(groups) + (f"; {more} more values" if more else "") + " (counted from 0)"
