"""Copy of the winner's student."""

import shutil
from pathlib import Path

from raykd import progress
from raykd.errors import InputError
from raykd.storage.working_files import partial_of, renamed
from raykd.workflow.tune.best import Opened, open_result
from raykd.workflow.tune.study_result import STUDENT_FOLDER


def export_student(run: Path, target: Path) -> None:
    """Copy the winner's student, a folder that transformers loads.

    It is the student of the trial; if the study has none, that of `raykd best RUN --rerun`.

    Args:
        run: run directory of a study, or its URL.
        target: folder to create.

    Raises:
        InputError: there is no completed study, it has no student, or the target exists.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target}: exists already; give --export a new folder")
    opened = open_result(run)
    student = _student(opened)
    if student is None:
        raise InputError(
            f"{run}: the study has no student of trial {opened.result.winner.number}; make it "
            f"with raykd best {run} --rerun, then give --export again"
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
    progress.say(f"student of trial {opened.result.winner.number}: {target}")


def _student(opened: Opened) -> Path | None:
    number = opened.result.winner.number
    made_again = opened.folder.parent / "rerun" / f"trial-{number}" / "adapted" / "model"
    for folder in (opened.folder / STUDENT_FOLDER, made_again):
        if folder.is_dir():
            return folder
    return None
