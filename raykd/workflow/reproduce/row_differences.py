"""Differences between rows of a table, with bootstrap intervals over evaluation rows and seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from raykd.evaluation.differences import Models, ScoreDifference, write_differences
from raykd.storage.manifest import read_manifest
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.reproduce.row_scores import init_of
from raykd.workflow.reproduce.table import RowConfig
from raykd.workflow.run import Run
from raykd.workflow.teacher.scores import is_scored_on


class CompleteRow(NamedTuple):
    """A row of a table in one column, whose run is complete."""

    name: str
    config: RowConfig
    run: Run


def differences_of(
    pairs: Sequence[tuple[CompleteRow, CompleteRow]], metric: str, out: Path
) -> list[ScoreDifference]:
    """Differences of rows of one column to those that they are compared with.

    Args:
        pairs: a row, and the one that it is compared with; both on the same task.
        metric: metric of the column.
        out: folder to write the differences of all metrics to.
    """
    if not pairs:
        return []
    rows = {row.name: row for pair in pairs for row in pair}
    models = {name: _models(row) for name, row in rows.items()}
    compared = [(models[row.name], models[other.name]) for row, other in pairs]
    found = write_differences(compared, pairs[0][0].run.task_folder, out)
    return [one for one in found if one.metric == metric]


def has_predictions(row: CompleteRow) -> bool:
    """Return whether the task and all predictions of the row are in its run's folder.

    A teacher that is known by scores of other rows only has none.
    """
    if read_manifest(row.run.task_folder) is None:
        return False
    if row.config.variant == "teacher" and not is_scored_on(row.run, row.run.task().report_split):
        return False
    folders = _models(row).folders.values()
    return all(read_manifest(folder) is not None for folder in folders)


def _models(row: CompleteRow) -> Models:
    run, variant = row.run, row.config.variant
    if variant == "majority":
        return Models(row.name, None, {}, run.task_folder)
    if not row.config.is_student:
        folder = run.teacher if variant == "teacher" else run.out / variant
        return Models(row.name, None, {None: run.predictions(folder)})
    folders = {seed: _student(row.config, run, run.recipe, seed) for seed in run.recipe.seeds}
    return Models(row.name, None, {seed: run.predictions(one) for seed, one in folders.items()})


def _student(config: RowConfig, run: Run, recipe: Recipe, seed: int) -> Path:
    init, chain = init_of(config, recipe), recipe.chain_of(config.variant)
    if config.stage == "adapted" or chain is None:
        return run.adapted(config.variant, init, seed)
    return run.injected(chain, init, seed)
