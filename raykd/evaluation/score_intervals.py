"""Scores of models with intervals over rows and seeds."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, FiniteFloat

from raykd.evaluation.differences import (
    CONFIDENCE,
    NUM_RESAMPLES,
    ROW_SEED,
    Models,
    answers_of,
    interval,
)
from raykd.evaluation.resampling import resampled_scores
from raykd.tasks.labels.sets import targets_of
from raykd.tasks.metrics import CORRELATIONS, compute
from raykd.tasks.store import read_task


class ScoreInterval(BaseModel):
    """A metric of models that differ in their seed only: the mean over seeds, and its interval.

    `low` and `high` are the bounds of `differences.interval`, within those of the metric.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: str
    init: str | None
    metric: str
    score: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    confidence: float
    num_seeds: int
    num_rows: int
    num_resamples: int


def score_intervals(models: Sequence[Models], task_folder: Path) -> list[ScoreInterval]:
    """Compute the intervals of every metric of the task on the report split, model by model.

    Args:
        models: models with their predictions.
        task_folder: the task's examples.
    """
    task = read_task(task_folder)
    labels = targets_of(task.reported)
    found = []
    for one in models:
        answers = np.stack(answers_of(one, task))
        resampled = resampled_scores(
            labels, answers, task.metrics, num_resamples=NUM_RESAMPLES, seed=ROW_SEED
        )
        for metric in task.metrics:
            scores = [compute([metric], labels, own)[metric] for own in answers]
            zeros = [0.0] * len(scores)
            score, low, high = interval(
                scores,
                zeros,
                resampled[metric],
                np.zeros_like(resampled[metric]),
                is_paired=True,
                limit=1.0,
            )
            if metric not in CORRELATIONS:
                low = max(low, 0.0)
            found.append(
                ScoreInterval(
                    variant=one.variant,
                    init=one.init,
                    metric=metric,
                    score=score,
                    low=low,
                    high=high,
                    confidence=CONFIDENCE,
                    num_seeds=len(scores),
                    num_rows=len(labels),
                    num_resamples=NUM_RESAMPLES,
                )
            )
    return found
