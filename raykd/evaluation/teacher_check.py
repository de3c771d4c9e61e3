"""Check of a teacher's predictions against constant predictions and permuted classes.

Otherwise a teacher that learned nothing, or whose classes are in another order, would be distilled
without an error. A teacher is refused only if a useful one would score this badly with a
probability below one in a thousand, or if another order of its classes is significantly more
accurate.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from raykd.evaluation.resampling import resampled_scores
from raykd.tasks.config import Split
from raykd.tasks.labels.sets import targets_of
from raykd.tasks.metrics import FloatArray, compute, majority_predictions
from raykd.tasks.task import Task

# A useful teacher's accuracy exceeds that of the constant prediction by this, or it makes half as
# many errors, whichever is less.
_USEFUL_GAIN = 0.1
# Minimum correlation of a useful teacher with the scores of a regression task.
_USEFUL_CORRELATION = 0.3
_MAX_PROBABILITY = 1e-3
# For another order of classes: minimum gain in accuracy, and maximum probability by chance.
_ORDER_GAIN = 0.05
_ORDER_PROBABILITY = 1e-4
_RESAMPLING_SEED = 0x54454143


@dataclass(frozen=True)
class Finding:
    """Problem of a teacher's predictions.

    `is_certain`: whether it is significant. `order`: the class that each output seems to mean, if
    that explains its predictions.
    """

    reason: str
    is_certain: bool
    order: tuple[str, ...] | None = None


def check_answers(task: Task, answers: FloatArray, *, split: Split = "dev") -> Finding | None:
    """Check a teacher's answers on a split; None if there is no problem.

    Args:
        task: the task.
        answers: (N,) classes or scores, or logits (N, C) of a multi-label task.
        split: split of the answers.
    """
    labels = targets_of(task.splits[split])
    if task.multi_label:
        return _check_sets(task, labels, answers, split)
    if np.ptp(labels) == 0:
        return None  # any constant answer is as good; `class_counts.limits` reports it
    if task.regression:
        return _check_scores(task, labels, answers, split)
    return _check_order(task, labels, answers, split) or _check_classes(
        task, labels, answers, split
    )


def _check_classes(
    task: Task, labels: FloatArray, answers: FloatArray, split: Split
) -> Finding | None:
    constant = majority_predictions(task.train["label"].to_numpy(), len(labels), regression=False)
    metric = task.main_metric
    score, floor = (compute([metric], labels, given)[metric] for given in (answers, constant))
    if score > floor or _agrees(labels, answers, task.num_labels):
        return None
    num_right, share = int(np.sum(answers == labels)), float(np.mean(constant == labels))
    useful = min(share + _USEFUL_GAIN, (1 + share) / 2)
    probability = float(stats.binom.cdf(num_right, len(labels), useful))
    return Finding(
        f"its {metric} on {split} is {score:.3f}, that of the constant answer "
        f"{task.labels[int(constant[0])]!r} is {floor:.3f} ({len(labels)} rows)",
        is_certain=probability < _MAX_PROBABILITY,
    )


def _check_sets(
    task: Task, labels: FloatArray, answers: FloatArray, split: Split
) -> Finding | None:
    """Finding if a multi-label teacher is no better than the best constant set of classes."""
    metric = task.main_metric
    constant = majority_predictions(targets_of(task.train), len(labels), regression=False)
    score, floor = (compute([metric], labels, given)[metric] for given in (answers, constant))
    if score > floor:
        return None
    return Finding(
        f"its {metric} on {split} is {score:.3f}, that of the best constant set of classes is "
        f"{floor:.3f} ({len(labels)} rows)",
        is_certain=_is_seen(metric, labels, answers, constant),
    )


def _is_seen(metric: str, labels: FloatArray, answers: FloatArray, constant: FloatArray) -> bool:
    """Return whether the constant is better in all of a thousand resamples of the rows."""
    scores = resampled_scores(
        labels, np.stack([answers, constant]), [metric], num_resamples=1000, seed=_RESAMPLING_SEED
    )[metric]
    return bool((scores[:, 0] < scores[:, 1]).all())


def _check_order(
    task: Task, labels: FloatArray, answers: FloatArray, split: Split
) -> Finding | None:
    """Finding if another order of classes explains the predictions much better."""
    num_classes = task.num_labels
    pairs = (answers.astype(np.int64), labels.astype(np.int64))
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, pairs, 1)
    rows, columns = optimize.linear_sum_assignment(confusion, maximize=True)
    reordered = columns[np.argsort(rows)][pairs[0]]
    gained = int(np.sum((reordered == pairs[1]) & (pairs[0] != pairs[1])))
    lost = int(np.sum((reordered != pairs[1]) & (pairs[0] == pairs[1])))
    if gained - lost < _ORDER_GAIN * len(labels):
        return None
    # The best of all orders is selected, so correct for multiple tests (Bonferroni).
    by_chance = math.log(float(stats.binom.sf(gained - 1, gained + lost, 0.5)) or 5e-324)
    constant = majority_predictions(task.train["label"].to_numpy(), len(labels), regression=False)
    beats_constant = np.mean(reordered == labels) > np.mean(constant == labels)
    if not beats_constant or by_chance + math.lgamma(num_classes + 1) > math.log(
        _ORDER_PROBABILITY
    ):
        return None
    order = tuple(task.labels[int(column)] for column in columns)
    changed = [
        f"{name!r} for {task.labels[output]!r}"
        for output, name in enumerate(order)
        if name != task.labels[output]
    ]
    right, now = (float(np.mean(given == labels)) for given in (reordered, answers))
    return Finding(
        f"its classes seem to be in another order: it answers the task's labels in {now:.1%} of "
        f"the {len(labels)} rows of {split} as they are, and in {right:.1%} if it means "
        f"{', '.join(changed[:5])}{', ...' if len(changed) > 5 else ''}",
        is_certain=True,
        order=order,
    )


def _check_scores(
    task: Task, labels: FloatArray, answers: FloatArray, split: Split
) -> Finding | None:
    num_rows = len(labels)
    metric = task.main_metric
    score = compute([metric], labels, answers)[metric]
    if score > 0:
        constant = np.full(num_rows, task.train["label"].to_numpy().mean())
        apart = _mean_square(answers - labels), _mean_square(constant - labels)
        if apart[0] <= apart[1]:
            return None
        return Finding(
            f"its scores are on another scale or far off: their mean squared error on {split} is "
            f"{apart[0]:.3g}, that of the constant answer {constant[0]:.3g} is {apart[1]:.3g} "
            f"(its {metric} is {score:.3f})",
            is_certain=False,
        )
    # Fisher's transformation of a correlation.
    distance = math.atanh(_USEFUL_CORRELATION) - math.atanh(max(score, -1 + 1e-12))
    certainty = distance * math.sqrt(max(num_rows - 3, 0))
    return Finding(
        f"its {metric} on {split} is {score:.3f}, and any constant answer has 0 ({num_rows} rows)",
        is_certain=float(stats.norm.sf(certainty)) < _MAX_PROBABILITY,
    )


def _agrees(labels: FloatArray, answers: FloatArray, num_classes: int) -> bool:
    """True if answers and labels agree more often than their frequencies alone explain.

    Source: the standard error of Cohen's kappa under chance, Fleiss, Cohen and Everitt 1969.
    """

    def shares(values: FloatArray) -> NDArray[np.float64]:
        counts = np.bincount(values.astype(np.int64), minlength=num_classes)
        return np.asarray(counts / len(values), np.float64)

    p, q = shares(labels), shares(answers)
    by_chance = float(p @ q)
    variance = by_chance + by_chance**2 - float((p * q) @ (p + q))
    if variance <= 0:
        return False
    excess = float(np.mean(labels == answers)) - by_chance
    certainty = excess * math.sqrt(len(labels) / variance)
    return float(stats.norm.sf(certainty)) < _MAX_PROBABILITY


def _mean_square(values: FloatArray) -> float:
    return float(np.mean(values**2))
