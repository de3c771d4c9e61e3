"""Penalty of a linear model, chosen by cross-validation inside the train split.

Shapes: N rows, F features, T different texts or pairs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import sparse

from raykd.evaluation.baselines.strata import stratified_sample
from raykd.tasks.dev_split import texts_of

# (N, F)
Features = sparse.csr_matrix | NDArray[np.float32]
# Loss on each held-out row of a model that is fitted on other rows: features and targets of these,
# those of the held-out rows, and the inverse penalty. NaN leaves a row out.
Losses = Callable[[Features, NDArray[Any], Features, NDArray[Any], float], NDArray[Any]]

# Inverse strengths of the L2 penalty, the strongest penalty first: it is taken if losses are equal.
# They are C of scikit-learn's logistic regression and 1 / alpha of its ridge regression.
_INVERSE_PENALTIES = (0.1, 1.0, 10.0, 100.0)
# For train splits with too few texts for two folds.
FALLBACK_INVERSE_PENALTY = 10.0
_NUM_FOLDS = 5
_MAX_ROWS = 20_000
_SEED = 1
SETTINGS = {
    "inverse_penalties": list(_INVERSE_PENALTIES),
    "fallback": FALLBACK_INVERSE_PENALTY,
    "num_folds": _NUM_FOLDS,
    "max_rows": _MAX_ROWS,
}


def number_texts(train: pa.Table) -> NDArray[np.int64]:
    """Number (N,) of the text or pair of each row (`schemas.EXAMPLES`), from 0.

    The order is random, with a fixed seed, and does not depend on the order of the rows.
    """
    numbers = np.empty(train.num_rows, np.int64)
    texts = sorted(texts_of(train, _SEED), key=lambda text: text.draw)
    for number, text in enumerate(texts):
        numbers[text.rows] = number
    return numbers


def choose_inverse_penalty(
    features: Features,
    targets: NDArray[Any],
    text_of_rows: NDArray[np.int64],
    losses: Losses,
    *,
    of_classes: bool,
) -> float:
    """Inverse penalty with the lowest mean loss on held-out rows of the train split.

    Five folds are stratified by class or score, and rows with equal texts are in one fold. There
    are fewer folds if a class has fewer texts; classes with one text do not count. For more than
    20,000 rows, it is chosen on a stratified sample of about 20,000. It is
    `FALLBACK_INVERSE_PENALTY` if fewer than two classes have two texts, or a regression has fewer
    than four texts.

    Args:
        features: of the train split (N, F).
        targets: classes or scores (N,).
        text_of_rows: numbers of texts (N,) of `number_texts`.
        losses: fits a model on some rows, and computes its losses on others.
        of_classes: targets are classes, not scores.
    """
    # The target of a text's first row.
    target_of_texts = targets[np.unique(text_of_rows, return_index=True)[1]]
    num_texts = len(target_of_texts)
    size = num_texts * min(_MAX_ROWS, len(targets)) // len(targets)
    sample = stratified_sample(target_of_texts, size)
    num_folds = _num_folds(target_of_texts[sample], of_classes=of_classes)
    if num_folds < 2:
        return FALLBACK_INVERSE_PENALTY
    # Texts of a class, or with adjacent scores, are dealt out to the folds in turn: every class
    # with two texts is among the other folds of each fold. Texts outside the sample have fold -1.
    in_turn = sample[np.argsort(target_of_texts[sample], kind="stable")]
    fold_of_texts = np.full(num_texts, -1)
    fold_of_texts[in_turn] = np.arange(len(in_turn)) % num_folds
    fold_of_rows = fold_of_texts[text_of_rows]
    means = []
    for inverse_penalty in _INVERSE_PENALTIES:
        found = []
        for fold in range(num_folds):
            held = fold_of_rows == fold
            others = (fold_of_rows >= 0) & ~held
            data = features[others], targets[others], features[held], targets[held]
            found.append(losses(*data, inverse_penalty))
        means.append(np.nanmean(np.concatenate(found)))
    return _INVERSE_PENALTIES[int(np.argmin(means))]


def _num_folds(target_of_texts: NDArray[Any], *, of_classes: bool) -> int:
    """Number of folds; 0 if there are too few texts."""
    if not of_classes:
        return min(_NUM_FOLDS, len(target_of_texts) // 2)
    sizes = np.unique(target_of_texts, return_counts=True)[1]
    divisible = sizes[sizes >= 2]
    return min(_NUM_FOLDS, int(divisible.min())) if len(divisible) >= 2 else 0
