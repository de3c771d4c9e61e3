"""Files of a study's result: trials, recipes, and the winner's student."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from raykd.config import dump_yaml
from raykd.report.tune.importance import importances
from raykd.report.tune.study import keys_of
from raykd.report.tune.trials import Trial
from raykd.training.phases import MODEL_FOLDER
from raykd.workflow.collect import package_versions
from raykd.workflow.recipe.recipe import Recipe
from raykd.workflow.tune.choice.confirmation import Confirmation
from raykd.workflow.tune.choice.repetition import repeated_student
from raykd.workflow.tune.choice.students import best_student
from raykd.workflow.tune.study_page import log_keys
from raykd.workflow.tune.study_result import (
    BEST_RECIPE_FILE,
    RECIPE_FILE,
    STUDENT_FOLDER,
    TRIALS_FILE,
    StudyResult,
)
from raykd.workflow.tune.trial.setting import Setting


def write_result(
    folder: Path,
    setting: Setting,
    recipe: Recipe,
    trials: Sequence[Trial],
    confirmation: Confirmation | None,
) -> StudyResult:
    """Write the result of a study, with the winner's student if there is one.

    It is that of the search, if it was kept; else the first repetition of a confirmed trial.
    """
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
    )
    best = recipe.with_values(result.winner.values, "best trial")
    (folder / TRIALS_FILE).write_text(result.to_json(), encoding="utf-8")
    (folder / RECIPE_FILE).write_text(dump_yaml(recipe), encoding="utf-8")
    (folder / BEST_RECIPE_FILE).write_text(dump_yaml(best), encoding="utf-8")
    student = best_student(setting.folder, result.winner.number)
    if student is None and confirmation is not None:
        student = repeated_student(setting, result.winner, confirmation.seeds[0]).trained
    if student is not None:
        shutil.copytree(student / MODEL_FOLDER, folder / STUDENT_FOLDER)
    return result
