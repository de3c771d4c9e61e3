"""Checks for label values of a train split that are unlikely to be classes."""

import re
from collections.abc import Mapping, Sequence

from raykd.errors import InputError
from raykd.tasks.labels.cells import INTEGER, Cell, in_order, is_placeholder
from raykd.tasks.labels.rules import LabelRules, located, rows_text

# A class with fewer rows than this is refused, if it also has less than a tenth of the mean.
MIN_CLASS_ROWS = 5
_RARE_SHARE = 0.1
# More classes than this are refused where there are fewer than two rows per class.
_MANY_CLASSES = 10


def check_no_fractions(source: str, cells: Sequence[Cell | None], rules: LabelRules) -> None:
    """Refuse a numeric column with fractions.

    Raises:
        InputError: there are fractions.
    """
    known = [cell for cell in cells if cell is not None and not is_placeholder(cell)]
    fractions = [cell for cell in known if cell.is_fraction]
    numbers = [cell for cell in known if cell.is_fraction or INTEGER.fullmatch(cell.key)]
    if fractions and len(numbers) == len(known):
        raise InputError(
            f"{source}: {rules.column!r} holds fractions ({fractions[0].name}); set "
            f"{rules.key('regression')} for scores, or list the classes with {rules.key('labels')}"
        )


def check_likely(
    source: str, rows: Mapping[str, Sequence[int]], names: Mapping[str, str], rules: LabelRules
) -> None:
    """Refuse classes that are more likely a mistake.

    Args:
        source: source of the rows, for messages.
        rows: rows of each class, by key.
        names: name of each class, by key.
        rules: names of the settings.

    Raises:
        InputError: there are too many classes, lists written as text, classes that differ only in
            case, or classes with very few rows.
    """
    listing = f"if they are intended, list all classes: {rules.listing(in_order(names))}"
    num_rows = sum(map(len, rows.values()))
    if len(rows) > _MANY_CLASSES and num_rows < 2 * len(rows):
        raise InputError(
            f"{source}: {rules.column!r} holds {len(rows)} different values in {num_rows} rows, "
            f"too many for classes; name another column with {rules.key('label_column')}, or set "
            f"{rules.key('regression')} for scores; {listing}"
        )
    lists = [key for key in rows if re.fullmatch(r"\[.*\]|\{.*\}", key, re.DOTALL)]
    if lists:
        list_rows = rows[lists[0]]
        raise InputError(
            f"{source}, {located(list_rows)}: {rules.column!r} holds a list written as text, "
            f"{names[lists[0]]!r:.60}; give each row one label, or, with 'task.multi_label: true', "
            f"lists in Parquet or JSON, or names joined by a separator; {listing}"
        )
    folded: dict[str, list[str]] = {}
    for key in rows:
        folded.setdefault(key.casefold(), []).append(key)
    for alike in folded.values():
        if len(alike) > 1:
            groups = "; ".join(f"{names[key]!r} in {rows_text(rows[key])}" for key in sorted(alike))
            raise InputError(
                f"{source}: labels that differ only in case: {groups} (counted from 0); write "
                f"them the same; {listing}"
            )
    limit = min(MIN_CLASS_ROWS, _RARE_SHARE * num_rows / len(rows))
    rare = [key for key in rows if len(rows[key]) < limit]
    if rare:
        groups = "; ".join(f"{names[key]!r} in {rows_text(rows[key])}" for key in sorted(rare))
        raise InputError(
            f"{source}: classes of very few of the {num_rows} rows: {groups} (counted from 0); "
            f"correct or remove these rows; {listing}"
        )
