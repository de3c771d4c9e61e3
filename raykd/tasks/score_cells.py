"""Cells of a score column of a regression task, as numbers or text."""

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from raykd.errors import InputError
from raykd.tasks.labels.classes import Targets
from raykd.tasks.labels.rules import LabelRules, located

_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


def read_score(value: object) -> float | None:
    """Parse a score; None if there is none (NaN, infinite, a boolean, other text)."""
    match value:
        case bool():
            return None
        case int() | float() | Decimal():
            number = float(value)
        case str() if _NUMBER.fullmatch(value.strip()):
            number = float(value)
        case _:
            return None
    return number if math.isfinite(number) else None


def scores(
    source: str,
    values: Sequence[Any],
    rules: LabelRules,
    score_range: tuple[float, float] | None,
) -> Targets:
    """Score per row, None for a skipped row.

    Args:
        source: source of the rows, for messages.
        values: values of the label column.
        rules: handling of rows without a score.
        score_range: minimum and maximum score.

    Raises:
        InputError: names the rows without a score, or with one out of range.
    """
    low, high = score_range or (-math.inf, math.inf)
    wanted = f"a number from {low:g} to {high:g}" if score_range else "a finite number"
    found = [read_score(value) for value in values]
    wrong = [row for row, score in enumerate(found) if score is None or not low <= score <= high]
    if not wrong:
        return Targets(found, [])
    if len(wrong) == len(values) or rules.unlabeled_rows == "error":
        raise InputError(
            f"{source}, {located(wrong)}: {rules.column!r} is {values[wrong[0]]!r:.60}, {wanted} "
            f"is expected; correct or remove these rows, or leave them out with "
            f"{rules.key('unlabeled_rows')} set to skip"
        )
    left_out = set(wrong)
    kept = [None if row in left_out else score for row, score in enumerate(found)]
    return Targets(kept, [f"left out {located(wrong)}: no score, {wanted} is expected"])
