"""Teachers of the folds: each is trained without the rows that its fold holds out."""

from collections.abc import Mapping

from raykd import progress
from raykd.workflow.crossval.epochs import (
    Choice,
    choose_teacher_epochs,
    take_over_choices,
    with_choice,
)
from raykd.workflow.crossval.folds import Crossval
from raykd.workflow.reproduce.shared_outputs import take_over
from raykd.workflow.run import Run
from raykd.workflow.stages import run_stages


def run_with_teachers(
    crossval: Crossval, runs: Mapping[int, Run], *, first: str, last: str
) -> tuple[dict[int, Run], Choice | None]:
    """Run stages of all folds, and choose the teachers' number of epochs on the way.

    Args:
        crossval: the cross-validation.
        runs: runs of the folds.
        first: first stage, before `teacher`.
        last: last stage, `teacher` or a later one.

    Returns:
        The runs with the chosen number; and the choice, None if there is none.
    """
    run_folds(runs, first, "generator", checks_models=True)
    chosen, choice = dict(runs), None
    if crossval.chooses("teacher"):
        choice = choose_teacher_epochs(crossval, runs)
        for number, run in runs.items():
            chosen[number] = with_choice(run, "teacher", choice.by_fold[number], choice)
        take_over_choices(crossval, chosen)
    run_folds(chosen, "teacher", last)
    return chosen, choice


def run_folds(
    runs: Mapping[int, Run], first: str, last: str, *, checks_models: bool = False
) -> None:
    """Run stages of all folds, one fold after the other."""
    for number, run in runs.items():
        progress.say(f"Fold {number} of {len(runs)}")
        share_given_teacher(runs[1], run)
        # All folds have the same models.
        run_stages(run, last, first=first, checks_models=checks_models and number == 1)


def share_given_teacher(source: Run, run: Run) -> None:
    """Link a fine-tuned teacher, which does not depend on the fold, from another run."""
    if source.recipe.teacher.fine_tuned and run.out != source.out:
        take_over([(source.out, source.recipe)], run.out, run.recipe)
