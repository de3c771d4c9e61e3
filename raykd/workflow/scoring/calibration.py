"""The student of a run, and its calibration."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from raykd.evaluation.calibration.calibrate import (
    NUM_FOLDS,
    CalibrationFacts,
    Outputs,
    calibrate,
)
from raykd.models.calibration import Calibration
from raykd.models.student.init import Init
from raykd.workflow.run import Run
from raykd.workflow.scoring.jobs import predictions_on_dev, predictions_on_reported


class StudentCalibration(NamedTuple):
    """Calibration of the run's student: what is kept with it, and what the report shows."""

    kept: Calibration
    facts: CalibrationFacts


def chosen_student(run: Run) -> tuple[str, Init, int]:
    """Variant, init and seed of the student that `RUN/student` has.

    It is of the first seed: the first one of the contextualized corpus, else the last one.
    """
    students = [student for student in run.students() if student[2] == run.recipe.seeds[0]]
    contextualized = (s for s in students if s[0].partition("@")[0] == "contextualized")
    return next(contextualized, students[-1])


def calibrate_student(run: Run) -> StudentCalibration | None:
    """Calibrate the run's student on dev rows; None for a regression or a multi-label task.

    The former has no probabilities, the latter no single most probable class. Missing predictions
    are written.
    """
    task = run.task()
    if task.regression or task.multi_label:
        return None
    student = chosen_student(run)
    variant, folder = student[0], run.adapted(*student)
    dev = predictions_on_dev(run, variant, "adapted", folder)
    test = None
    if task.report_split != "dev":
        test = predictions_on_reported(run, variant, "adapted", folder)
    return calibration_of(student, dev, test, task.labels)


def calibration_of(
    student: tuple[str, Init, int], dev: Path, test: Path | None, labels: Sequence[str]
) -> StudentCalibration:
    """Calibrate a student on its predictions of dev rows.

    Args:
        student: variant, init and seed.
        dev: file of its predictions of dev rows.
        test: file of its predictions of test rows, if there are any.
        labels: class names.
    """
    variant, init, seed = student
    kept, fit, measured = calibrate(_outputs(dev), None if test is None else _outputs(test), labels)
    facts = CalibrationFacts(
        variant=variant,
        init=init,
        seed=seed,
        temperature=fit.temperature,
        temperature_error=fit.error,
        problem=fit.problem,
        num_rows=kept.num_rows,
        num_folds=NUM_FOLDS,
        measured=measured,
    )
    return StudentCalibration(kept, facts)


def describe_calibration(facts: CalibrationFacts) -> str:
    """One line on the calibration, for the log."""
    if not facts.measured:
        return f"probabilities are not calibrated: {facts.problem}"
    first = facts.measured[0]
    if facts.problem:
        return f"temperature 1: {facts.problem}; ECE {100 * first.before.ece:.1f}"
    return (
        f"temperature {facts.temperature:.2f} ± {facts.temperature_error:.2f}, ECE "
        f"{100 * first.before.ece:.1f} before, {100 * first.after.ece:.1f} after (dev, in folds)"
    )


def _outputs(path: Path) -> Outputs:
    table = pq.read_table(path, columns=["label", "logits"])
    logits = table["logits"].combine_chunks()
    values = logits.flatten().to_numpy().astype(np.float64)
    return Outputs(values.reshape(table.num_rows, -1), table["label"].to_numpy().astype(np.int64))
