"""Copy of the winner's student."""

import shutil
from pathlib import Path

from raykd import progress
from raykd.errors import InputError
from raykd.storage.manifest import check_source
from raykd.storage.working_files import partial_of, renamed
from raykd.workflow.tune.best import Opened, open_result
from raykd.workflow.tune.choice.students import KEPT_FOLDER
from raykd.workflow.tune.study_result import BEST_RECIPE_FILE, STUDENT_FOLDER


def export_student(run: Path, target: Path, pick: str | None = None) -> None:
    """Copy the winner's student, a folder that transformers loads.

    It is the student of the trial; if it was not kept, that of `raykd best RUN --rerun`.

    Args:
        run: run directory of a study, or its URL.
        target: folder to create.
        pick: conditions on the trial, in place of the study's own choice.

    Raises:
        InputError: there is no completed study, it has no such student, or the target exists.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target}: exists already; give --export a new folder")
    opened = open_result(run, pick)
    number = opened.result.winner.number
    if opened.result.num_folds is not None:
        raise InputError(
            f"{run}: --export: the students of the trials are of folds of the training rows, and "
            f"are not kept; train one on all rows with raykd {opened.result.command} "
            f"{opened.below(BEST_RECIPE_FILE)}"
        )
    student = _student(opened, number)
    if student is None:
        raise InputError(
            f"{run}: the study has no student of trial {number}; make it with raykd best {run} "
            "--rerun, then give --export again"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(target)
    try:
        shutil.copytree(student, partial)
        if target.is_dir():
            target.rmdir()
        if not renamed(partial, target):
            raise InputError(f"{target}: exists already; give --export a new folder")
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    progress.say(f"student of trial {number}: {target}")


def _student(opened: Opened, number: int) -> Path | None:
    if number == opened.own_winner and (opened.folder / STUDENT_FOLDER).is_dir():
        return opened.folder / STUDENT_FOLDER
    made_again = opened.folder.parent / "rerun" / f"trial-{number}" / "adapted" / "model"
    if made_again.is_dir():
        return made_again
    if number not in opened.result.front:
        return None
    kept = opened.below(f"tune/{KEPT_FOLDER}/{number}")
    if opened.url is not None:
        from raykd.storage.remote.output import local_folder  # imports pyarrow

        return local_folder(kept) / "model"
    student = Path(kept) / "model"
    if student.is_dir():
        check_source(student)
        return student
    return None
