"""Classes that occur in a train split, with their rows and spellings; their indices in a task."""

from collections import Counter
from collections.abc import Mapping, Sequence

from raykd.errors import InputError
from raykd.tasks.labels.cells import INTEGER, Cell, key_of
from raykd.tasks.labels.rules import LabelRules


class Tally:
    """Rows and spellings of each class, by its key."""

    def __init__(self) -> None:
        self.rows: dict[str, list[int]] = {}
        self._names: dict[str, Counter[str]] = {}

    def add(self, row: int, cell: Cell) -> None:
        """Count a class of a row."""
        self.rows.setdefault(cell.key, []).append(row)
        self._names.setdefault(cell.key, Counter())[cell.name] += 1

    def called(self) -> dict[str, str]:
        """Name of each class, by its key: its most frequent spelling, of equal ones the first."""
        return {
            key: min(found, key=lambda name: (-found[name], name))
            for key, found in self._names.items()
        }


def indices_by_key(names: Sequence[str]) -> dict[str, int]:
    """Index of each class by its key, and by its index as text if no name is a number."""
    indices = {key_of(name): index for index, name in enumerate(names)}
    if not any(INTEGER.fullmatch(key) for key in indices):
        indices |= {str(index): index for index in range(len(names))}
    return indices


def check_any_left(
    source: str, left_out: Mapping[int, str], num_rows: int, names: Sequence[str], rules: LabelRules
) -> None:
    """Check that not every row is left out.

    Raises:
        InputError: every row is.
    """
    if len(left_out) == num_rows:
        raise InputError(
            f"{source}: no row is left, since none has a label of the {rules.owner}: "
            f"{', '.join(names)}; check the keys {rules.key('label_column')} and "
            f"{rules.key('labels')}"
        )
