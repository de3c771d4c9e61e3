"""A cross-validation from the folds to the final student."""

from collections.abc import Mapping
from pathlib import Path

from raykd import progress
from raykd.report.page import render
from raykd.report.results import Results
from raykd.storage.manifest import check_replaceable, make_output_directory
from raykd.storage.outputs import alone_in
from raykd.storage.working_files import write_if_new
from raykd.workflow.crossval.epochs import (
    Choice,
    choose_student_epochs,
    name_of,
    take_over_choices,
    with_choice,
)
from raykd.workflow.crossval.folds import Crossval, open_crossval
from raykd.workflow.crossval.pooled import calibrate_pooled, pool_scores
from raykd.workflow.crossval.results import collect
from raykd.workflow.crossval.teachers import run_folds, run_with_teachers, share_given_teacher
from raykd.workflow.run import Run
from raykd.workflow.scoring.student import write_student
from raykd.workflow.stages import run_stages


def crossvalidate(recipe: Path, out: Path | None = None, num_folds: int | None = None) -> Results:
    """Cross-validate a recipe, and train its student on all labeled rows.

    Each fold is a run whose dev rows are those of the fold. Completed trainings are skipped.

    Args:
        recipe: file of a recipe without dev rows.
        out: directory to write; None for `runs/NAME-crossval`.
        num_folds: number of folds; None for that of the recipe, or 5.

    Raises:
        InputError: the recipe or its rows do not suit, before any work; or any error of a stage.
    """
    crossval = open_crossval(recipe, out, num_folds)
    make_output_directory(crossval.out)
    with alone_in(crossval.out):
        return _crossvalidate(crossval)


def _crossvalidate(crossval: Crossval) -> Results:
    check_replaceable(crossval.out / "student")
    runs = {number: crossval.fold_run(number, {}) for number in crossval.numbers}
    final = crossval.final_run({})
    choices: dict[tuple[str, str | None], Choice] = {}

    runs, choice = run_with_teachers(crossval, runs, first="docstrings", last="inject")
    if choice is not None:
        choices["teacher", None] = choice
    for key, choice in choose_student_epochs(crossval, runs).items():
        choices[key] = choice
    runs, final = _with_choices(runs, final, choices)
    take_over_choices(crossval, runs)
    run_folds(runs, "adapt", "adapt")

    progress.say("All labeled rows")
    share_given_teacher(runs[1], final)
    run_stages(final, "adapt", checks_models=False)
    scores = pool_scores(crossval, runs, final)
    calibration = calibrate_pooled(crossval)
    results = collect(crossval, runs, final, scores, choices, calibration)
    write_if_new(crossval.out / "results.json", results.model_dump_json(indent=2) + "\n")
    write_if_new(crossval.out / "report.html", render(results))
    trained = final.adapted(*next(final.students()))
    write_student(final, results, trained, calibration, crossval.out / "student")
    progress.say(f"  {crossval.out / 'report.html'}")
    return results


def _with_choices(
    runs: Mapping[int, Run], final: Run, choices: Mapping[tuple[str, str | None], Choice]
) -> tuple[dict[int, Run], Run]:
    """The runs with the chosen numbers of epochs."""
    chosen = dict(runs)
    for (variant, init), choice in choices.items():
        name = name_of(variant, init)
        for number, run in chosen.items():
            chosen[number] = with_choice(run, name, choice.by_fold[number], choice)
        final = with_choice(final, name, choice.chosen, choice)
    return chosen, final
