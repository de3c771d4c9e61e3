"""Weights of classes in the cross-entropy with gold labels."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field

from raykd.errors import InputError
from raykd.objectives.losses.logits import GoldLabels
from raykd.tasks.labels.cells import key_of, label_name

ClassWeights = (
    Literal["balanced"]
    | dict[
        Annotated[str, BeforeValidator(label_name)],
        Annotated[float, Field(gt=0, allow_inf_nan=False)],
    ]
)


def check_class_names(key: str, weights: Mapping[str, float], names: Sequence[str]) -> None:
    """Compare the classes that have a weight with those of the task.

    Args:
        key: path of the setting in the recipe.
        weights: weight of each class.
        names: the task's classes.

    Raises:
        InputError: names the classes without a weight, and those that the task does not have.
    """
    given, known = {key_of(name) for name in weights}, {key_of(name) for name in names}
    problems = []
    if unknown := [name for name in weights if key_of(name) not in known]:
        problems.append(f"{_listed(unknown)} is no class of the task")
    if missing := [name for name in names if key_of(name) not in given]:
        problems.append(f"the task's class {_listed(missing)} has no weight")
    if problems:
        raise InputError(
            f"{key}: {', and '.join(problems)}; give each of {_listed(names)} a weight, or set "
            "balanced"
        )


def class_weights_of(
    key: str,
    weights: ClassWeights | None,
    names: Sequence[str],
    labels: NDArray[np.float64],
) -> NDArray[np.float32] | None:
    """Weight per class, (C,); None without weights.

    `balanced` gives a class the weight N / (C n) for its n of N rows, so that every class has the
    same sum of weights.

    Source: King and Zeng 2001, "Logistic Regression in Rare Events Data" (Political Analysis 9),
    as scikit-learn's `class_weight="balanced"`.

    Args:
        key: path of the setting in the recipe, for messages.
        weights: the setting.
        names: the task's classes in order, C.
        labels: (N,) class index of each training row.

    Raises:
        InputError: the weights are not those of the task's classes, or a class has no row that a
            balanced weight could be computed from.
    """
    if weights is None:
        return None
    if weights != "balanced":
        check_class_names(key, weights, names)
        by_key = {key_of(name): weight for name, weight in weights.items()}
        return np.array([by_key[key_of(name)] for name in names], np.float32)
    counts = np.bincount(labels.astype(np.int64), minlength=len(names))
    if not counts.all():
        empty = [name for name, count in zip(names, counts, strict=True) if not count]
        raise InputError(
            f"{key} balanced: no training row is of the class {_listed(empty)}; add rows, remove "
            "the class from task.labels, or give each class a weight"
        )
    return np.asarray(counts.sum() / (len(names) * counts), np.float32)


def gold_labels(
    key: str,
    weights: ClassWeights | None,
    smoothing: float,
    names: Sequence[str],
    labels: NDArray[np.float64] | None,
) -> GoldLabels:
    """Weighting of the gold labels of a training.

    Args:
        key: path of the weights in the recipe, for messages.
        weights: class weights; without effect without labels.
        smoothing: label smoothing.
        names: the task's classes in order.
        labels: (N,) class index of each training row; None for unlabeled text.

    Raises:
        InputError: see `class_weights_of`.
    """
    if labels is None:
        return GoldLabels()
    of_classes = class_weights_of(key, weights, names, labels)
    return GoldLabels(None if of_classes is None else torch.from_numpy(of_classes), smoothing)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
