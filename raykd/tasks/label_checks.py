"""Values of a train split's label column that are not likely to be classes."""

import re
from collections.abc import Mapping, Sequence

from raykd.errors import InputError
from raykd.tasks.label_cells import INTEGER, Cell, in_order, is_placeholder
from raykd.tasks.label_rules import LabelRules, located, rows_text

# A class with fewer rows than this is refused, if it also has less than a tenth of the mean.
MIN_CLASS_ROWS = 5
_RARE_SHARE = 0.1
# More classes than this are refused where there are fewer than two rows per class.
_MANY_CLASSES = 10


def check_no_fractions(source: str, cells: Sequence[Cell | None], rules: LabelRules) -> None:
    """Refuse a column of numbers of which some are fractions.

    Raises:
        InputError: it is one.
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
        source: where the rows come from, for messages.
        rows: those of each class, by the key of its cells.
        names: what each class is called, by the same keys.
        rules: names the settings.

    Raises:
        InputError: too many classes; lists written as text; classes that differ in case alone, or
            have very few rows.
    """
    listing = f"if they are meant, list all classes: {rules.listing(in_order(names))}"
    num_rows = sum(map(len, rows.values()))
    if len(rows) > _MANY_CLASSES and num_rows < 2 * len(rows):
        raise InputError(
            f"{source}: {rules.column!r} holds {len(rows)} different values in {num_rows} rows, "
            f"too many for classes; name another column with {rules.key('label_column')}, or set "
            f"{rules.key('regression')} for scores; {listing}"
        )
    lists = [key for key in rows if re.fullmatch(r"\[.*\]|\{.*\}", key, re.DOTALL)]
    if lists:
        at = rows[lists[0]]
        raise InputError(
            f"{source}, {located(at)}: {rules.column!r} holds a list written as text, "
            f"{names[lists[0]]!r:.60}; multi-label is not supported: give each row one label; "
            f"{listing}"
        )
    folded: dict[str, list[str]] = {}
    for key in rows:
        folded.setdefault(key.casefold(), []).append(key)
    for alike in folded.values():
        if len(alike) > 1:
            groups = "; ".join(f"{names[key]!r} in {rows_text(rows[key])}" for key in sorted(alike))
            raise InputError(
                f"{source}: labels that differ in case alone: {groups} (counted from 0); write "
                f"them alike; {listing}"
            )
    limit = min(MIN_CLASS_ROWS, _RARE_SHARE * num_rows / len(rows))
    rare = [key for key in rows if len(rows[key]) < limit]
    if rare:
        groups = "; ".join(f"{names[key]!r} in {rows_text(rows[key])}" for key in sorted(rare))
        raise InputError(
            f"{source}: classes of very few of the {num_rows} rows: {groups} (counted from 0); "
            f"correct or remove these rows; {listing}"
        )
