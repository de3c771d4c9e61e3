"""The folder of a run's student: model, model card and calibration."""

import shutil
from pathlib import Path

from raykd.models.calibration import write_calibration
from raykd.models.tokenization.positions import set_model_max_length
from raykd.report.model_card import write_card
from raykd.report.results import Results
from raykd.storage.manifest import Draft, digest_of, digest_of_directory, write_once
from raykd.training.phase.job import MODEL_FOLDER
from raykd.workflow.run import Run
from raykd.workflow.scoring.calibration import StudentCalibration, chosen_student
from raykd.workflow.scoring.jobs import max_length_of
from raykd.workflow.teacher.scores import teacher_name


def write_student(
    run: Run,
    results: Results,
    trained: Path,
    calibration: StudentCalibration | None,
    out: Path,
) -> None:
    """Write the run's chosen student with its card, unless it is complete.

    Args:
        run: run of the student.
        results: scores, for the card.
        trained: output of its training.
        calibration: its calibration; None for a regression.
        out: folder to write.
    """
    chosen = chosen_student(run)
    student = next(
        score
        for score in results.scores
        if score.stage == "adapted" and (score.variant, score.init, score.seed) == chosen
    )
    card = write_card(results, student, teacher_name(run), "student")
    inputs = {"model": digest_of_directory(trained), "card": digest_of(card)}
    if calibration is not None:
        inputs["calibration"] = digest_of(calibration.kept.model_dump(mode="json"))
    max_length = max_length_of(run.recipe, student.variant, student.stage)

    def write(draft: Draft) -> None:
        shutil.copytree(trained / MODEL_FOLDER, draft.directory, dirs_exist_ok=True)
        set_model_max_length(draft.directory, max_length)
        (draft.directory / "README.md").write_text(card, encoding="utf-8")
        if calibration is not None:
            write_calibration(draft.directory, calibration.kept)

    write_once(out, "student", {"max_length": max_length}, inputs, write)
