"""Checks of a sweep that scores trials by cross-validation, made before anything is trained."""

from raykd.errors import InputError
from raykd.tasks.folds import assign_folds
from raykd.tasks.task import load_task
from raykd.workflow.checks.corpus_keys import searched_corpus_keys
from raykd.workflow.crossval.folds import chooses
from raykd.workflow.recipe.recipe import DOCSTRINGS_SCHEME, Recipe
from raykd.workflow.run import Run

_KEEP, _NUM_STEPS = "adaptation.keep", "adaptation.num_steps"


def check_folds(recipe: Recipe) -> None:
    """Refuse what `tune.folds` does not support, and recipes that can be tuned only with it.

    Raises:
        InputError: names the key, the reason and the remedy.
    """
    config, task = recipe.tune, recipe.task
    assert config is not None
    if config.folds is None:
        if task.folds is not None and task.fold is None:
            raise InputError(
                "tune: the recipe has no dev rows to score trials on (task.folds); set tune.folds: "
                f"{task.folds}, so that trials are scored by cross-validation"
            )
        return
    if task.multi_label:
        raise InputError(
            "tune.folds: folds are stratified by class, and with task.multi_label a row has "
            "several; remove tune.folds"
        )
    if recipe.task_da is not None:
        raise InputError(
            "tune.folds: the text of task_da has variants of the rows that folds hold out; remove "
            "task_da and its variants, or tune.folds"
        )
    if keys := searched_corpus_keys(recipe):
        raise InputError(
            f"tune.space: {keys[0]!r} cannot be searched with tune.folds, because each fold has a "
            "contextualized corpus of its own; remove the key, or tune.folds"
        )
    _check_choices(recipe)


def check_rows(run: Run) -> None:
    """Check that the training rows can be divided into `tune.folds`, before the cluster starts.

    Rows of the section docstrings are made by the first stage, and divided after it.

    Raises:
        InputError: a file is invalid, or a class has fewer different texts than folds.
    """
    task, config = run.recipe.task, run.recipe.tune
    assert config is not None
    if config.folds is None or any(
        path.startswith(DOCSTRINGS_SCHEME) for path in task.files_of("train")
    ):
        return
    rows = load_task(task, run.resolve)
    source = rows.sources["train"]
    assign_folds(rows.train, config.folds, task.dev_seed, labels=rows.labels, source=source)


def _check_choices(recipe: Recipe) -> None:
    """Refuse numbers of steps where numbers of epochs are chosen."""
    assert recipe.tune is not None
    space = recipe.tune.space
    keys = {key for name, parameter in space.items() for key in parameter.keys_of(name)}
    has_steps = {
        "teacher": recipe.teacher.num_steps is not None,
        "adaptation": recipe.adaptation.num_steps is not None or _NUM_STEPS in keys,
        "alone": recipe.alone is not None and recipe.alone.num_steps is not None,
    }
    for section, has in has_steps.items():
        may_choose = chooses(recipe, section) or (section == "adaptation" and _KEEP in keys)
        if has and may_choose:
            raise InputError(
                f"tune.folds: {section}.num_steps: with keep: best, the number of epochs is chosen "
                "by the scores of all folds; give epochs instead, or set keep: last"
            )
