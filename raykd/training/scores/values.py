"""Probabilities and logits: checks of a teacher's scores, and logits that train as the teacher's.

A teacher that is softened by a temperature T is softmax(z / T), z its logits. Probabilities
p = softmax(z) give the same: log p = z - c with a constant c of the row, and a softmax does not
change with a constant, so that softmax(log p / T) = softmax(z / T) for every T. Of all logits of p
those with mean 0 are taken, log p - mean(log p), for objectives that compare the logits themselves
(Annealing-KD): the classifiers of fine-tuned models have means near 0, too.
"""

import numpy as np
from numpy.typing import NDArray

from raykd.errors import InputError
from raykd.training.scores.table import ScoreTable, shown_key

# Largest distance of a row's sum of probabilities from 1.
SUM_TOLERANCE = 1e-3
# Probabilities below count as this: a probability of 0 has no logarithm.
FLOOR = 1e-9
# Scores of equal rows that differ by more conflict.
_SAME = 1e-6

_KIND_KEY = "teacher.scores.kind"


def check_probabilities(table: ScoreTable) -> None:
    """Refuse probabilities that are below 0, or whose sum is not 1.

    Raises:
        InputError: names the first such row, their number, and the remedy.
    """
    sums = table.values.sum(axis=1)
    negative = np.flatnonzero((table.values < 0).any(axis=1))
    if len(negative):
        raise InputError(
            f"{table.located(int(negative[0]))}: a probability is "
            f"{table.values[negative[0]].min():g}, below 0{_more(negative)}; if these are logits, "
            f"or logarithms of probabilities, set {_KIND_KEY}: logits"
        )
    wrong = np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)
    if len(wrong):
        raise InputError(
            f"{table.located(int(wrong[0]))}: the probabilities sum to {sums[wrong[0]]:.6g}, not "
            f"to 1 (within {SUM_TOLERANCE:g}){_more(wrong)}; divide each row's by its sum, write "
            f"more digits, or, if these are logits, set {_KIND_KEY}: logits"
        )


def check_not_probabilities(table: ScoreTable) -> None:
    """Refuse logits that all look like probabilities.

    Raises:
        InputError: every row's are from 0 to 1 and sum to 1.
    """
    values = table.values
    if (values >= 0).all() and (np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE).all():
        raise InputError(
            f"{table.rows[0][0]}: the logits of every row are from 0 to 1 and sum to 1, as "
            f"probabilities do; set {_KIND_KEY}: probabilities, or remove the key"
        )


def logits_of(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logits (N, C) with mean 0 whose softmax are the probabilities (N, C), not below `FLOOR`."""
    logs = np.log(np.maximum(probabilities, FLOOR))
    centered: NDArray[np.float64] = logs - logs.mean(axis=1, keepdims=True)
    return centered


def rows_by_key(table: ScoreTable) -> dict[tuple[str, str | None], int]:
    """First row of each key.

    Raises:
        InputError: rows with equal keys have different scores.
    """
    firsts: dict[tuple[str, str | None], int] = {}
    for row, key in enumerate(table.keys):
        first = firsts.setdefault(key, row)
        if first == row:
            continue
        difference = float(np.abs(table.values[first] - table.values[row]).max())
        if difference > _SAME:
            raise InputError(
                f"{table.located(first)}, and {table.located(row)}: the same row, "
                f"{shown_key(key)}, has two different scores (by up to {difference:.3g}); keep one "
                "of them, or their mean"
            )
    return firsts


def _more(rows: NDArray[np.int64]) -> str:
    return "" if len(rows) == 1 else f", and so in {len(rows):,} rows"
