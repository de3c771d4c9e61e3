"""Scores that the rows of a table show, from the results of its runs."""

from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import yaml
from pydantic import ValidationError

from raykd.models.student.init import Init
from raykd.report.results import Results, Score
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.reproduce.cells import TableRun
from raykd.workflow.reproduce.table import ColumnConfig, RowConfig


@dataclass(frozen=True)
class RowScore:
    """Score of a row in percent: mean and sample standard deviation over seeds."""

    mean: float
    deviation: float | None
    num_seeds: int


def score_of(
    row: RowConfig, run: TableRun, column: ColumnConfig, results: Results
) -> RowScore | None:
    """The score of a row in the results of its run; None if they lack some of its seeds."""
    scores = [
        score
        for score in results.scores
        if _is_of(score, row, run.recipe) and (column.set is None or column.set in score.sets)
    ]
    if not scores or (row.is_student and len(scores) < len(run.recipe.seeds)):
        return None
    metrics = [score.metrics if column.set is None else score.sets[column.set] for score in scores]
    found = [values[metric_of(column, run.recipe)] for values in metrics]
    return RowScore(
        mean=100 * fmean(found),
        deviation=100 * stdev(found) if len(found) > 1 else None,
        num_seeds=len(found),
    )


def metric_of(column: ColumnConfig, recipe: Recipe) -> str:
    """Metric of a column's scores."""
    if column.metric is not None:
        return column.metric
    own = next((one for one in recipe.evaluation.sets if one.name == column.set), None)
    return (recipe.task.reported_metrics if own is None else own.reported_metrics(recipe.task))[0]


def _is_of(score: Score, row: RowConfig, recipe: Recipe) -> bool:
    if not row.is_student:
        return score.variant == row.variant
    own = (row.variant, init_of(row, recipe), row.stage)
    return (score.variant, score.init, score.stage) == own and score.seed in recipe.seeds


def init_of(row: RowConfig, recipe: Recipe) -> Init:
    """First weights of a row's student."""
    return next(init for init in recipe.student.inits if row.init in (None, init))


def is_current(run: TableRun, results: Results) -> bool:
    """True if results are of the run's recipe, though maybe of more or fewer students."""
    recipe = recipe_of_results(results)
    return recipe is not None and _common(recipe) == _common(run.recipe)


def recipe_of_results(results: Results) -> Recipe | None:
    """The recipe of a run; None if an older version wrote it and it is not valid any more."""
    try:
        return Recipe.model_validate(yaml.safe_load(results.recipe))
    except (ValidationError, yaml.YAMLError):
        return None


def _common(recipe: Recipe) -> dict[str, Any]:
    values = recipe.model_dump(mode="json", exclude={"name", "seeds", "variants", "workers"})
    values["student"].pop("inits")
    return values
