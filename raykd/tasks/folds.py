"""Folds of the training rows for cross-validation, stratified by class or score."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raykd.errors import InputError
from raykd.tasks.dev_split import Text, texts_of


def assign_folds(
    train: pa.Table, num_folds: int, seed: int, *, labels: Sequence[str], source: str
) -> NDArray[np.int64]:
    """Assign every training row to one fold; the order of the rows has no effect.

    Rows with the same text are in one fold. The rows of each class are divided equally between the
    folds, as far as rows with the same text allow; for regression, those of each range of
    `num_folds` texts with adjacent scores. Within a class or range, a hash of seed and text
    decides.

    Args:
        train: rows as `schemas.EXAMPLES`.
        num_folds: number of folds.
        seed: seed of the draw.
        labels: class names; empty for regression.
        source: source of the rows, for messages.

    Returns:
        Fold per row, from 1.

    Raises:
        InputError: a class has fewer different texts than folds, or there are too few for
            regression; names the class, its size and the largest possible number of folds.
    """
    texts = texts_of(train, seed)
    _check_sizes(texts, num_folds, labels, source)
    fold_of_rows = np.zeros(train.num_rows, np.int64)
    sizes = np.zeros(num_folds, np.int64)
    for stratum in _strata(texts, num_folds, labels):
        own_sizes = np.zeros(num_folds, np.int64)
        # Texts of many rows first, so that those of one row can fill the gaps.
        for text in sorted(stratum, key=lambda text: (-len(text.rows), text.draw)):
            fold = int(np.lexsort((sizes, own_sizes))[0])
            fold_of_rows[text.rows] = fold + 1
            own_sizes[fold] += len(text.rows)
            sizes[fold] += len(text.rows)
    return fold_of_rows


def _strata(texts: Sequence[Text], num_folds: int, labels: Sequence[str]) -> list[list[Text]]:
    """Texts of each class, or of each range of adjacent scores with as many texts as folds."""
    if labels:
        return [[text for text in texts if text.label == number] for number, _ in enumerate(labels)]
    by_score = sorted(texts)
    return [by_score[first : first + num_folds] for first in range(0, len(texts), num_folds)]


def most_folds(train: pa.Table, labels: Sequence[str]) -> int:
    """Largest number of folds that rows as `schemas.EXAMPLES` can be divided into."""
    texts = texts_of(train, 0)
    of_classes = _by_class(texts, labels)
    return min((len(own) for own in of_classes.values() if own), default=len(texts))


def _by_class(texts: Sequence[Text], labels: Sequence[str]) -> dict[str, list[Text]]:
    return {
        name: [text for text in texts if text.label == number] for number, name in enumerate(labels)
    }


def _check_sizes(texts: Sequence[Text], num_folds: int, labels: Sequence[str], source: str) -> None:
    if not labels:
        if len(texts) < num_folds:
            raise InputError(
                f"{source}: {len(texts)} different texts cannot be divided into {num_folds} "
                f"folds; {_remedy(len(texts))}"
            )
        return
    # A class that has no rows at all has none to hold out.
    of_classes = {name: own for name, own in _by_class(texts, labels).items() if own}
    name = min(of_classes, key=lambda name: len(of_classes[name]))
    num_texts = len(of_classes[name])
    if num_texts < num_folds:
        num_rows = sum(len(text.rows) for text in of_classes[name])
        repeated = "" if num_rows == num_texts else f" ({num_texts} different texts)"
        raise InputError(
            f"{source}: class {name!r} has {num_rows} rows{repeated}, which cannot be divided "
            f"into {num_folds} folds; {_remedy(num_texts)}"
        )


def _remedy(num_texts: int) -> str:
    if num_texts < 2:
        return "add rows: cross-validation needs 2 different texts at least"
    return f"use at most {num_texts} folds, or add rows"
