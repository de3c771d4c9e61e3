"""Runs of a table, and the recipe of each."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from raykd.errors import InputError
from raykd.objectives import OBJECTIVES
from raykd.workflow.presets import merged
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.recipe.recipe_file import recipe_of
from raykd.workflow.reproduce.table import (
    ColumnConfig,
    Profile,
    ProfileConfig,
    RowConfig,
    TableConfig,
)

# Every run has a score of these; they are no variants of its recipe.
_IN_EVERY_RUN = ("teacher", "majority")


@dataclass(frozen=True)
class TableRun:
    """One run of a table: the recipe of some of its rows in one column."""

    name: str
    column: str
    recipe: Recipe

    @property
    def folder(self) -> str:
        """Its folder below that of the table."""
        return f"{self.column}/{self.name}"


def selected(
    table: TableConfig, profile: Profile, only: Sequence[str], source: str
) -> list[tuple[str, str]]:
    """Rows and columns to make.

    Args:
        table: the table.
        profile: its size.
        only: names of rows, of columns, or ROW/COLUMN; none for all.
        source: origin of the names, for messages.

    Raises:
        InputError: the table has no such profile, row or column.
    """
    if profile not in table.profiles:
        raise InputError(f"{source}: no profile {profile!r}; it has {', '.join(table.profiles)}")
    columns = table.columns_of(profile)
    every = [(row, column) for column in columns for row in table.rows]
    if not only:
        return every
    wanted: list[tuple[str, str]] = []
    for name in only:
        matching = [cell for cell in every if name in (*cell, "/".join(cell))]
        if not matching:
            raise InputError(
                f"--only {name!r}: no such row or column of {source}; rows: "
                f"{', '.join(table.rows)}; columns: {', '.join(columns)}; or ROW/COLUMN"
            )
        wanted += matching
    return [cell for cell in every if cell in wanted]


def runs_of(
    table: TableConfig,
    profile: Profile,
    cells: Sequence[tuple[str, str]],
    path: Path,
    num_seeds: int | None = None,
) -> list[TableRun]:
    """The runs behind some cells of a table, column by column.

    Args:
        table: the table.
        profile: its size.
        cells: rows and columns.
        path: file of the table, to which paths are relative.
        num_seeds: use seeds 1 to this number in place of the profile's.

    Raises:
        InputError: a recipe is not valid, the scores of a column would be of different rows,
            or two runs would make the same student; names the table's file, the run and the
            column.
    """
    config = table.profiles[profile]
    runs = []
    for column in dict.fromkeys(table.task_column(column) for _, column in cells):
        names = dict.fromkeys(row for row, of in cells if table.task_column(of) == column)
        rows = [table.rows[row] for row in names]
        for run in table.runs:
            if own := [row for row in rows if row.run == run]:
                recipe = _recipe(table, config, run, column, own, path, num_seeds)
                runs.append(TableRun(run, column, recipe))
        of_column = [one for one in runs if one.column == column]
        _check_same_rows(of_column, table, path)
        _check_different(of_column, path)
    return runs


def _check_different(runs: Sequence[TableRun], path: Path) -> None:
    """Check that no two runs of a column make the same student."""
    for one, other in combinations(runs, 2):
        values = [
            run.recipe.model_dump(exclude={"name", "preset", "variants"}) for run in (one, other)
        ]
        shared = [name for name in one.recipe.variants if name in other.recipe.variants]
        if shared and values[0] == values[1]:
            raise InputError(
                f"{path}: runs {one.name!r} and {other.name!r}, column {one.column!r}: the same "
                f"settings, so that their rows {shared[0]!r} would be the same student"
            )


def _of_student(recipe: Recipe) -> dict[str, Any]:
    """Settings that determine the student of a variant and init."""
    others: dict[str, Any] = {"name": True, "preset": True, "variants": True, "student": {"inits"}}
    return recipe.model_dump(mode="json", exclude=others)


def _check_same_rows(runs: Sequence[TableRun], table: TableConfig, path: Path) -> None:
    """Check that the runs of a column are scored on the same rows, by the same metrics."""
    sets = {column.set for column in table.columns.values()}
    first, *others = ((run.name, _scored_rows(run.recipe, sets)) for run in runs)
    for name, rows in others:
        if differing := [key for key in rows if rows[key] != first[1][key]]:
            raise InputError(
                f"{path}: run {name!r}, column {runs[0].column!r}: differs from the run "
                f"{first[0]!r} in {', '.join(differing)}, and the scores of a column are of the "
                "same rows; set it in the column, or make another column"
            )


def _scored_rows(recipe: Recipe, sets: Collection[str | None]) -> dict[str, Any]:
    """Settings that determine the rows of the task and of `sets`, and their metrics."""
    task = recipe.task.model_dump(mode="json")
    if recipe.task.dev_fraction is None and recipe.task.folds is None:
        # Runs may differ in the rows that they are trained on.
        task = {key: task[key] for key in task if key not in ("train", "max_train_rows")}
    return {f"task.{key}": value for key, value in task.items()} | {
        "evaluation.sets": [one for one in recipe.evaluation.sets if one.name in sets]
    }


def _recipe(
    table: TableConfig,
    config: ProfileConfig,
    run: str,
    column: str,
    rows: Sequence[RowConfig],
    path: Path,
    num_seeds: int | None,
) -> Recipe:
    values: dict[str, Any] = config.recipe
    for over in (config.columns[column], table.runs[run], config.runs.get(run, {})):
        values = merged(values, over)
    seeds = config.seeds if num_seeds is None else range(1, num_seeds + 1)
    variants = dict.fromkeys(row.variant for row in rows if row.variant not in _IN_EVERY_RUN)
    if not any(row.is_student for row in rows):
        # A run has a student in any case; this one needs no teacher.
        variants["alone"] = None
    values = {
        **values,
        "name": f"{table.name}-{column}-{run}",
        "seeds": list(seeds),
        "variants": list(variants),
    }
    inits = list(dict.fromkeys(row.init for row in rows if row.init is not None))
    if inits:
        values = merged(values, {"student": {"inits": inits}})
    source = f"{path}: run {run!r}, column {column!r}"
    recipe = recipe_of(values, path.absolute().parent, source)
    for row in rows:
        if row.is_student and row.init is None and len(recipe.student.inits) > 1:
            raise InputError(
                f"{source}: row {row.title!r} needs an init, one of "
                f"{', '.join(recipe.student.inits)}"
            )
        if row.stage == "injected":
            _check_injected(row, recipe, source)
    for name, shown in table.columns.items():
        if table.task_column(name) == column:
            _check_metric(shown, recipe, f"{path}: columns.{name}")
    return recipe


def _check_injected(row: RowConfig, recipe: Recipe, source: str) -> None:
    chain = recipe.chain_of(row.variant)
    if chain is None:
        raise InputError(
            f"{source}: row {row.title!r}: {row.variant} has no injection; remove 'stage: injected'"
        )
    step = recipe.injection_of(chain.last)
    if not step.adapt:
        raise InputError(
            f"{source}: row {row.title!r}: its students are not adapted (adapt: false); remove "
            "'stage: injected'"
        )
    objective = step.objective
    if not OBJECTIVES[objective.name].trains_classifier:
        raise InputError(
            f"{source}: row {row.title!r}: {objective.name} does not train the classifier, so that "
            "there is no score before adaptation; remove 'stage: injected'"
        )


def _check_metric(column: ColumnConfig, recipe: Recipe, key: str) -> None:
    metrics = recipe.task.reported_metrics
    if column.set is not None:
        sets = {one.name: one for one in recipe.evaluation.sets}
        if column.set not in sets:
            known = ", ".join(sets) or "none"
            raise InputError(f"{key}.set {column.set!r}: not in evaluation.sets; known: {known}")
        metrics = sets[column.set].reported_metrics(recipe.task)
    if column.metric is not None and column.metric not in metrics:
        raise InputError(f"{key}.metric {column.metric!r}: its runs report {', '.join(metrics)}")
