"""Held-out predictions of all folds together, and their scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq

from raykd.evaluation.differences import ScoreDifference
from raykd.evaluation.pipeline import PREDICTIONS_FILE, constant_scores
from raykd.evaluation.pooling import pool_predictions
from raykd.evaluation.score_intervals import ScoreInterval, score_intervals
from raykd.models.student.init import Init
from raykd.report.results import Score
from raykd.tasks.class_counts import constant_answer
from raykd.tasks.store import pool_folds
from raykd.workflow.collect import score_models
from raykd.workflow.comparisons import compare_scores, reference_models, student_models
from raykd.workflow.crossval.folds import Crossval
from raykd.workflow.run import Run
from raykd.workflow.scoring.calibration import (
    StudentCalibration,
    calibration_of,
    chosen_student,
)


def pool_scores(crossval: Crossval, runs: Mapping[int, Run], final: Run) -> list[Score]:
    """Score every model on the held-out rows of all folds together; write what is missing.

    Args:
        crossval: the cross-validation.
        runs: completed runs of the folds.
        final: run with all labeled rows.
    """
    pooled = crossval.pooled_run
    folders = [run.task_folder for run in runs.values()]
    pool_folds(final.task_folder, folders, pooled.task_folder)
    of_folds = [score_models(run) for run in runs.values()]
    # A teacher that is known by its scores has a score only where it has those of all rows.
    common = set.intersection(*({_key(score) for score in scores} for scores in of_folds))
    return [_pooled(score, pooled, runs) for score in of_folds[0] if _key(score) in common]


def compare_pooled(crossval: Crossval, scores: Sequence[Score]) -> list[ScoreDifference]:
    """Compare the scores of models, as the report of a run does."""
    return compare_scores(crossval.pooled_run, scores)


def pooled_intervals(crossval: Crossval, scores: Sequence[Score]) -> list[ScoreInterval]:
    """Scores with their intervals: students, constant answer, linear baselines and teacher."""
    pooled = crossval.pooled_run
    models = [one for variants in student_models(pooled).values() for one in variants.values()]
    return score_intervals([*models, *reference_models(pooled, scores)], pooled.task_folder)


def calibrate_pooled(crossval: Crossval) -> StudentCalibration | None:
    """Calibrate the student on the held-out rows; None for a regression."""
    pooled = crossval.pooled_run
    task, student = pooled.task(), chosen_student(pooled)
    if task.regression:
        return None
    predictions = pooled.predictions(pooled.adapted(*student)) / PREDICTIONS_FILE
    return calibration_of(student, predictions, None, task.labels)


def _key(score: Score) -> tuple[object, ...]:
    return score.variant, score.init, score.seed, score.stage


def _pooled(score: Score, pooled: Run, runs: Mapping[int, Run]) -> Score:
    if score.variant == "majority":
        metrics = constant_scores(pooled.task_folder)
        return score.model_copy(update={"metrics": metrics})
    out = _predictions(pooled, score)
    parts = [_predictions(run, score) for run in runs.values()]
    metrics = pool_predictions(parts, pooled.task_folder, out)
    answers = pq.read_table(out / PREDICTIONS_FILE, columns=["prediction"])["prediction"]
    is_model = score.stage != "baseline"
    constant = constant_answer(pooled.task(), answers) if is_model else None
    return score.model_copy(update={"metrics": metrics, "constant_answer": constant})


def _predictions(run: Run, score: Score) -> Path:
    """Folder of a scored model's predictions in a run."""
    if score.stage == "baseline":
        return run.predictions(run.out / score.variant)
    if score.stage == "teacher":
        return run.predictions(run.teacher)
    init: Init = next(init for init in run.recipe.student.inits if init == score.init)
    assert score.seed is not None
    if score.stage == "adapted":
        return run.predictions(run.adapted(score.variant, init, score.seed))
    chain = run.recipe.chain_of(score.variant)
    assert chain is not None
    return run.predictions(run.injected(chain, init, score.seed))
