"""Answers of a model of the task in the classes of an evaluation set.

Shapes: N rows, C classes of the task (1: regression), S classes of the set. `targets` has the set's
class of each class of the task; it is empty for regression, whose scores stay as they are.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from raykd.tasks.metrics import FloatArray


def merged_logits(logits: NDArray[np.float32], targets: Sequence[int]) -> NDArray[np.float32]:
    """Logits (N, S) of the set's classes, from those of the task's (N, C).

    The probability of a class of the set (softmax of the result) is the sum of those of the task's
    classes that are mapped to it (softmax of `logits`): the logarithm of a sum of exponentials.
    """
    if not targets:
        return logits
    assert len(targets) == logits.shape[1], (targets, logits.shape)
    merged = np.empty((len(logits), max(targets) + 1), np.float32)
    for target in range(merged.shape[1]):
        columns = [number for number, one in enumerate(targets) if one == target]
        # A single one stays as it is, so that a set with the task's classes has its very answers.
        merged[:, target] = (
            logits[:, columns[0]]
            if len(columns) == 1
            else logsumexp(logits[:, columns].astype(np.float64), axis=1)
        )
    return merged


def constant_prediction(train_labels: FloatArray, targets: Sequence[int]) -> float:
    """Best constant answer: the most frequent class of the mapped train labels, or mean score.

    Of classes that are equally frequent, it is the first one.
    """
    if not targets:
        return float(train_labels.mean())
    mapped = np.asarray(targets)[train_labels.astype(np.int64)]
    return float(np.bincount(mapped).argmax())
