"""Differences between the scores of models, with intervals over rows and seeds."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat
from scipy import stats

from raykd.evaluation.pipeline import PREDICTIONS_FILE
from raykd.evaluation.predict import answers_in
from raykd.evaluation.resampling import resampled_scores
from raykd.storage.manifest import Draft, digest_of, digest_of_directory, write_once
from raykd.tasks.labels.sets import targets_of
from raykd.tasks.metrics import CORRELATIONS, compute, majority_predictions
from raykd.tasks.store import read_task
from raykd.tasks.task import Task

DIFFERENCES_FILE = "differences.json"
NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
ROW_SEED = 0x524F5753
# Smaller differences are rounding errors of float64.
_ROUNDING = 1e-12

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Models:
    """Models that differ in their seed only; `is_injected`: students before adaptation.

    `folders` has their predictions by seed; the seed of a model without one is None. Without
    folders, this is the best constant answer, `majority_predictions`, on the training rows of
    `task_folder`, or if that is None of the task that models are compared on.
    """

    variant: str
    init: str | None
    folders: Mapping[int | None, Path]
    task_folder: Path | None = None
    is_injected: bool = False

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """Seeds of the models."""
        return tuple(self.folders) or (None,)


class Interval(NamedTuple):
    """A difference of two means over seeds, and the bounds of its interval."""

    difference: float
    low: float
    high: float


class ScoreDifference(BaseModel):
    """Difference of a metric between models and others (`other`), means over their seeds.

    `low` and `high` are the bounds of `interval`: rows are drawn with replacement, the same for all
    models, and seeds are compared as pairs if `is_paired`. `other_is_injected`: the others are
    students before adaptation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: str
    init: str | None
    other: str
    other_init: str | None
    other_is_injected: bool = False
    metric: str
    difference: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    confidence: float
    num_seeds: int
    num_other_seeds: int
    is_paired: bool
    num_rows: int
    num_resamples: int

    @property
    def is_seen(self) -> bool:
        """Return whether the interval excludes 0."""
        return not self.low <= 0 <= self.high


def write_differences(
    pairs: Sequence[tuple[Models, Models]], task_folder: Path, out: Path
) -> list[ScoreDifference]:
    """Compare the scores of pairs of models on the report split; write them to `out`.

    Args:
        pairs: models, and those that they are compared with.
        task_folder: the task's examples.
        out: output directory.

    Returns:
        One difference per pair and metric of the task.
    """
    models = list({id(side): side for pair in pairs for side in pair}.values())
    folders = [folder for side in models for folder in side.folders.values()]
    settings = {
        "num_resamples": NUM_RESAMPLES,
        "method": "rows resampled, seeds by Student's t",
        "pairs": [[_name(left), _name(right)] for left, right in pairs],
    }
    constants = [side.task_folder for side in models if side.task_folder is not None]
    inputs = {
        "task": digest_of_directory(task_folder),
        **({"constants": digest_of([*map(digest_of_directory, constants)])} if constants else {}),
        "predictions": digest_of([digest_of_directory(folder) for folder in folders]),
    }

    def write(draft: Draft) -> None:
        found = _differences(pairs, models, task_folder)
        values = [difference.model_dump() for difference in found]
        (draft.directory / DIFFERENCES_FILE).write_text(json.dumps(values, indent=2))

    write_once(out, "differences", settings, inputs, write)
    values = json.loads((out / DIFFERENCES_FILE).read_text())
    return [ScoreDifference.model_validate(value) for value in values]


def interval(
    scores: Sequence[float],
    others: Sequence[float],
    resampled: FloatArray,
    resampled_others: FloatArray,
    *,
    is_paired: bool,
    limit: float = math.inf,
) -> Interval:
    """Compute the interval of the difference of two means over seeds.

    Variation over rows is that of the mean on resamples of the rows, around its mean on them;
    variation over seeds is the variance of the seeds' scores over their number, and few seeds
    widen the interval by Student's t. Resampled seeds would make it far too narrow: of three, the
    2.5 % quantile is the lowest. With one seed, seeds count as if they did not vary.

    Args:
        scores: (S,) metric per seed.
        others: (T,) metric per seed of the other models; S of them if paired.
        resampled: (R, S) metric of each seed on resamples of the rows.
        resampled_others: (R, T) metric of the others on the same resamples.
        is_paired: whether both have the same seeds, in the same order.
        limit: largest possible absolute value of a bound.

    Source: Satterthwaite 1946, "An Approximate Distribution of Estimates of Variance Components",
    doi:10.2307/3002019, for the degrees of freedom of the sum of the variances.
    """
    own, other = np.asarray(scores, np.float64), np.asarray(others, np.float64)
    on_rows = resampled.mean(axis=1) - resampled_others.mean(axis=1)
    on_rows = np.where(np.ptp(on_rows) < _ROUNDING, 0.0, on_rows - on_rows.mean())
    over_seeds = [_of_mean(own - other)] if is_paired else [_of_mean(own), _of_mean(other)]
    seed_variance = sum(variance for variance, _ in over_seeds)
    doubt = sum(variance**2 / freedom for variance, freedom in over_seeds)
    freedom = (on_rows.var() + seed_variance) ** 2 / doubt if doubt > 0 else math.inf
    tail = (1 - CONFIDENCE) / 2
    below, above = np.quantile(on_rows, [tail, 1 - tail]) / stats.norm.ppf(1 - tail)
    quantile = stats.t.ppf(1 - tail, freedom)
    difference = float(own.mean() - other.mean())
    if abs(difference) < _ROUNDING:
        difference = 0.0
    low = difference - quantile * math.sqrt(below**2 + seed_variance)
    high = difference + quantile * math.sqrt(above**2 + seed_variance)
    return Interval(difference, max(float(low), -limit), min(float(high), limit))


def _of_mean(values: FloatArray) -> tuple[float, int]:
    """Variance of the mean of seeds, and its degrees of freedom; no variance of a single one."""
    if len(values) == 1 or np.ptp(values) < _ROUNDING:
        return 0.0, max(len(values) - 1, 1)
    return float(values.var(ddof=1)) / len(values), len(values) - 1


def _differences(
    pairs: Sequence[tuple[Models, Models]], models: Sequence[Models], task_folder: Path
) -> list[ScoreDifference]:
    task = read_task(task_folder)
    labels = targets_of(task.reported)
    answers = [answer for side in models for answer in answers_of(side, task)]
    starts = np.cumsum([0, *(len(side.seeds) for side in models)])
    columns = {
        id(side): slice(int(first), int(first) + len(side.seeds))
        for side, first in zip(models, starts[:-1], strict=True)
    }
    scores = [compute(task.metrics, labels, answer) for answer in answers]
    resampled = resampled_scores(
        labels, np.stack(answers), task.metrics, num_resamples=NUM_RESAMPLES, seed=ROW_SEED
    )
    found = []
    for left, right in pairs:
        own, other = columns[id(left)], columns[id(right)]
        is_paired = left.seeds == right.seeds
        for metric in task.metrics:
            values = [score[metric] for score in scores]
            difference, low, high = interval(
                values[own],
                values[other],
                resampled[metric][:, own],
                resampled[metric][:, other],
                is_paired=is_paired,
                limit=2.0 if metric in CORRELATIONS else 1.0,
            )
            found.append(
                ScoreDifference(
                    variant=left.variant,
                    init=left.init,
                    other=right.variant,
                    other_init=right.init,
                    other_is_injected=right.is_injected,
                    metric=metric,
                    difference=difference,
                    low=low,
                    high=high,
                    confidence=CONFIDENCE,
                    num_seeds=len(left.seeds),
                    num_other_seeds=len(right.seeds),
                    is_paired=is_paired,
                    num_rows=len(labels),
                    num_resamples=NUM_RESAMPLES,
                )
            )
    return found


def answers_of(models: Models, task: Task) -> list[FloatArray]:
    """Answers (N,) of each seed on the reported rows of a task."""
    if not models.folders:
        own = task if models.task_folder is None else read_task(models.task_folder)
        train, num_rows = targets_of(own.train), task.reported.num_rows
        return [majority_predictions(train, num_rows, regression=task.regression)]
    return [answers_in(folder / PREDICTIONS_FILE) for folder in models.folders.values()]


def _name(models: Models) -> list[object]:
    stage = ["injected"] if models.is_injected else []
    return [models.variant, models.init, list(models.seeds), *stage]
