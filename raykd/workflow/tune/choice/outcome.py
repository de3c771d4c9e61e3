"""Files of a study's result: trials, recipes, and the winner's student."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from raykd.config import dump_yaml
from raykd.report.tune.importance import importances
from raykd.report.tune.pick import winner_of
from raykd.report.tune.study import keys_of
from raykd.report.tune.targets import front
from raykd.report.tune.trials import Trial
from raykd.training.phase.job import MODEL_FOLDER
from raykd.workflow.collect import package_versions
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.tune.choice.confirmation import Confirmation
from raykd.workflow.tune.choice.repetition import repeated_student
from raykd.workflow.tune.choice.students import kept_student
from raykd.workflow.tune.study_page import log_keys
from raykd.workflow.tune.study_result import (
    BEST_RECIPE_FILE,
    FRONT_FOLDER,
    RECIPE_FILE,
    STUDENT_FOLDER,
    TRIALS_FILE,
    StudyResult,
)
from raykd.workflow.tune.trial.costs import student_costs
from raykd.workflow.tune.trial.setting import Setting


def write_result(
    folder: Path,
    setting: Setting,
    recipe: Recipe,
    trials: Sequence[Trial],
    confirmation: Confirmation | None,
) -> StudyResult:
    """Write the result of a study, with the winner's recipe and student; of folds, without one.

    The student is that of the search, if it was kept; else the first repetition of a confirmed
    trial. If no trial meets the conditions of the recipe, there is no winner; the result has the
    recipes of the Pareto front all the same, from which `raykd best` can pick.
    """
    config = recipe.tune
    assert config is not None
    result = StudyResult(
        metric=setting.metric,
        validation=setting.validation,
        seed=setting.seed,
        trials=list(trials),
        variant=setting.variant,
        name=recipe.name,
        importance=[asdict(one) for one in importances(trials, keys_of(trials, log_keys(recipe)))],
        confirmation=None if confirmation is None else asdict(confirmation),
        versions=package_versions(),
        targets=list(setting.targets),
        pick=config.pick,
        front=[trial.number for trial in front(trials, setting.targets)],
        devices=student_costs(setting).devices(),
        num_folds=config.folds,
        command="crossval" if recipe.task.folds and not recipe.task.fold else "run",
    )
    (folder / TRIALS_FILE).write_text(result.to_json(), encoding="utf-8")
    (folder / RECIPE_FILE).write_text(dump_yaml(recipe), encoding="utf-8")

    def write_recipe(trial: Trial, path: Path) -> None:
        changed = recipe.with_values(trial.values, f"trial {trial.number}")
        path.write_text(dump_yaml(changed), encoding="utf-8")

    if len(setting.targets) > 1:
        (folder / FRONT_FOLDER).mkdir()
        for trial in result.front_trials:
            write_recipe(trial, folder / FRONT_FOLDER / f"{trial.number}.yaml")
    winner = winner_of(trials, setting.targets, config.pick, result.confirmation)
    if winner is None:
        return result
    write_recipe(winner, folder / BEST_RECIPE_FILE)
    student = kept_student(setting.folder, winner.number)
    if student is None and confirmation is not None and not setting.folds:
        student = repeated_student(setting, winner, confirmation.seeds[0]).trained
    if student is not None:
        shutil.copytree(student / MODEL_FOLDER, folder / STUDENT_FOLDER)
    return result
