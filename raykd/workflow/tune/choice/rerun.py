"""Making the winner of a study again from its frozen inputs."""

import shutil
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from raykd import progress
from raykd.errors import InputError
from raykd.report.tune.trials import Trial
from raykd.storage.manifest import read_manifest
from raykd.storage.remote.output import output_at, url_of
from raykd.storage.working_files import write_atomically
from raykd.workflow.collect import package_versions
from raykd.workflow.recipe.recipe_file import load_recipe
from raykd.workflow.run import Run
from raykd.workflow.tune.best import open_result, recipe_text
from raykd.workflow.tune.choice.rows import with_search_rows
from raykd.workflow.tune.choice.training import (
    ChosenStudent,
    final_scores,
    shared_inputs,
    train_students,
    workers_like_trials,
)
from raykd.workflow.tune.study_result import BEST_RECIPE_FILE, RECIPE_FILE, StudyResult
from raykd.workflow.tune.trial.setting import Setting, fold_folder, setting_of

_FOLDER = "rerun"
# Differences of float64 sums; a single changed prediction is far above.
_TOLERANCE = 1e-9


def rerun_winner(run: Path, pick: str | None = None) -> bool:
    """Train the winner again in RUN/tune/rerun, and report if its score is the same.

    Recipe, seed, rows, teacher and texts are those of the trial. An interrupted call resumes.

    Args:
        run: run directory, or its URL.
        pick: conditions on the trial, in place of the study's own choice.

    Raises:
        InputError: there is no completed study, or its inputs have changed since.
    """
    with _local(run) as folder:
        opened = open_result(folder, pick)
        result, winner = opened.result, opened.result.winner
        recipe = load_recipe(opened.folder / RECIPE_FILE)
        setting = _setting(Run(recipe, folder, folder / "units"))
        _check_inputs(setting, opened.folder, folder)
        student = ChosenStudent(
            winner.values, result.seed, setting.folder / _FOLDER / f"trial-{winner.number}"
        )
        if _is_complete(setting, student):
            shutil.rmtree(student.folder)  # of a completed rerun
        student.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(student.folder / BEST_RECIPE_FILE, recipe_text(opened))
        workers = workers_like_trials(
            setting, winner.num_workers, winner.num_cpus or 1.0, winner.num_gpus or 0.0
        )
        train_students(setting, [student], workers, "rerun")
        score = final_scores(setting, student).get(result.metric)
        return _report(result, winner, score, student.folder)


def _local(run: Path) -> AbstractContextManager[Path]:
    return output_at(run) if url_of(run) else nullcontext(run)


def _setting(run: Run) -> Setting:
    if not run.task_folder.is_dir():
        raise _missing(run.task_folder, run.out)
    setting = setting_of(run)
    for part in setting.parts:
        if not part.run.split("dev").is_file():
            raise _missing(part.run.split("dev"), run.out)
    return with_search_rows(setting)


def _is_complete(setting: Setting, student: ChosenStudent) -> bool:
    if not setting.folds:
        return student.trained.exists()
    numbers = range(1, len(setting.folds) + 1)
    return all(fold_folder(student.folder, number).exists() for number in numbers)


def _missing(path: Path, run: Path) -> InputError:
    return InputError(
        f"{path}: missing, so the winner cannot be made again; rerun raykd tune with --out {run}, "
        "which makes it again"
    )


def _check_inputs(setting: Setting, result: Path, run: Path) -> None:
    manifest = read_manifest(result)
    assert manifest is not None
    try:
        present = shared_inputs(setting)
    except FileNotFoundError as error:
        raise _missing(Path(error.filename), run) from None
    changed = sorted(
        name for name, digest in manifest.inputs.items() if present.get(name) != digest
    )
    if changed:
        raise InputError(
            f"{run}: changed since the study: {', '.join(changed)}; rerun raykd tune with --out "
            f"{run}, or restore what was changed"
        )


def _report(result: StudyResult, winner: Trial, score: float | None, folder: Path) -> bool:
    assert winner.score is not None
    is_same = score is not None and abs(score - winner.score) <= _TOLERANCE
    now = "no score" if score is None else f"{score:.6f}"
    verdict = "the same" if is_same else "not the same"
    progress.say(
        f"rerun of trial {winner.number}: {result.metric} {now}, in the study "
        f"{winner.score:.6f}: {verdict}; {folder}"
    )
    if not is_same:
        versions = package_versions()
        others = [
            f"{name} {then} then, {versions.get(name, 'absent')} now"
            for name, then in result.versions.items()
            if versions.get(name) != then
        ]
        progress.say(
            f"other versions: {'; '.join(others)}"
            if others
            else "versions and inputs are the same; another number of threads, CPU or GPU can "
            "round differently"
        )
    return is_same
