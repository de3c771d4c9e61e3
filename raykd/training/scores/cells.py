"""Numbers of a row of scores, in the order of the task's classes."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from raykd.tasks.labels.cells import key_of

_LABELS_KEY = "teacher.labels"


class CellError(ValueError):
    """A cell without valid scores; the caller adds file and row."""


@dataclass(frozen=True)
class CellReader:
    """Reads all scores of a row from one cell.

    Attributes:
        names: classes of the task in order; empty for regression.
        order: classes in the order of lists; None if it is not given.
    """

    names: tuple[str, ...]
    order: tuple[str, ...] | None
    _places: dict[str, int | None] = field(default_factory=dict)

    def read(self, value: object) -> list[float]:
        """Scores in the order of the classes, or the one score of a regression task.

        Args:
            value: mapping, list, JSON text of these, or a number.

        Raises:
            CellError: scores are missing, of other classes, or no finite numbers.
        """
        if not self.names:
            return [number_of(value, "the score")]
        if isinstance(value, str):
            value = _from_json(value)
        if isinstance(value, list) and value and all(isinstance(one, tuple) for one in value):
            value = dict(value)  # of an Arrow map
        if isinstance(value, Mapping):
            return self._of_mapping(value)
        if isinstance(value, list | tuple):
            return self._of_list(value)
        if value is None:
            raise CellError("there are no scores; score this row, too")
        raise CellError(
            f"{value!r:.60}; a mapping of the classes to numbers, or a list, is expected"
        )

    def _of_mapping(self, value: Mapping[Any, Any]) -> list[float]:
        found: list[float | None] = [None] * len(self.names)
        for name, score in value.items():
            place = self._place_of(str(name))
            if place is None:
                raise CellError(
                    f"a score of {name!r:.60}, which is no class of the task; its classes "
                    f"are {', '.join(self.names)}"
                )
            if found[place] is not None:
                raise CellError(f"two scores of class {self.names[place]!r}; remove one")
            # The fields of an Arrow struct that a row does not have are null.
            if score is not None:
                found[place] = number_of(score, f"the score of {name!r:.60}")
        missing = [self.names[place] for place, score in enumerate(found) if score is None]
        if missing:
            raise CellError(
                f"no score of class {missing[0]!r}; give every class one, 0 where the probability "
                "is 0"
            )
        return [score for score in found if score is not None]

    def _of_list(self, value: Sequence[Any]) -> list[float]:
        if self.order is None:
            raise CellError(
                "a list, whose order of classes is not known; name the classes in its order "
                f"with {_LABELS_KEY}"
            )
        if len(value) != len(self.order):
            raise CellError(f"{len(value)} scores; the task has {len(self.names)} classes")
        return self._of_mapping(dict(zip(self.order, value, strict=True)))

    def _place_of(self, name: str) -> int | None:
        if name not in self._places:
            keys = [key_of(known) for known in self.names]
            key = key_of(name)
            self._places[name] = keys.index(key) if key in keys else None
        return self._places[name]


def number_of(value: object, what: str) -> float:
    """Convert a score to a number.

    Raises:
        CellError: it is missing, no number, or not finite.
    """
    number = math.nan
    match value:
        case None:
            raise CellError(f"{what} is missing; score this row, too")
        case bool():
            pass
        case int() | float() | Decimal() | str():
            number = _converted(value)
    if not math.isfinite(number):
        raise CellError(f"{what} is {value!r:.60}; a finite number is expected")
    return number


def _converted(value: float | Decimal | str) -> float:
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _from_json(text: str) -> object:
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        raise CellError(
            f"{text!r:.60}, which is not JSON; write a JSON object or list, or one column per class"
        ) from None
    return value
