"""Calibration of predicted probabilities, and the threshold for a wanted precision."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from raykd.errors import InputError
from raykd.evaluation.calibration.selective import interval_of
from raykd.models.calibration import (
    PRECISIONS,
    Calibration,
    Threshold,
    check_classes,
    read_calibration,
)
from raykd.prediction.config import PredictConfig


def calibration_in(
    folder: Path, labels: tuple[str, ...], config: PredictConfig
) -> Calibration | None:
    """Calibration of the model in a folder; None if it has none, or none is wanted.

    Raises:
        InputError: it is damaged, or of another model.
    """
    if not labels or not config.calibrated:
        return None
    calibration = read_calibration(folder)
    if calibration is not None:
        check_classes(calibration, labels, str(folder))
    return calibration


def check_confidence(
    reference: str, labels: Sequence[str], config: PredictConfig, *, multi_label: bool = False
) -> None:
    """Refuse settings of probabilities for a model that has none, or those of one class per row.

    Raises:
        InputError: names the setting.
    """
    given = {"threshold": config.threshold, "precision": config.precision}
    for name, value in given.items():
        if not labels and value is not None:
            raise InputError(
                f"predict: model {reference} predicts a score and no probabilities; leave the "
                f"{name} out"
            )
    for name, is_given in {
        "precision": config.precision is not None,
        "glue": config.glue is not None,
    }.items():
        if multi_label and is_given:
            raise InputError(
                f"predict: model {reference} predicts any number of classes per row, and {name} "
                "is for models that predict one; leave it out (threshold: the smallest "
                "probability of a predicted class, 0.5 if none is given)"
            )


def with_threshold(
    config: PredictConfig,
    calibration: Calibration | None,
    reference: str,
    precision: str = "float32",
) -> tuple[PredictConfig, list[str]]:
    """Replace a wanted precision by its threshold; also return lines about the probabilities.

    Args:
        config: settings.
        calibration: that of the model, see `calibration_in`.
        reference: the model, for messages.
        precision: numbers of its weights, for messages.

    Raises:
        InputError: the model has no thresholds, or no one for this precision.
    """
    lines = []
    if config.calibrated:
        lines.append(f"probabilities {_state(calibration, reference, precision)}")
    if config.precision is None:
        return config, lines
    found = _threshold_for(config.precision, calibration, reference)
    assert calibration is not None
    share = found.num_answered / calibration.num_rows
    line = f"precision {found.precision:g}: threshold {found.threshold:.4g}"
    if interval := interval_of(found.num_right, found.num_answered):
        low, high = interval
        line += (
            f"; of held-out dev rows it answers {share:.0%}, {found.num_right:,} of "
            f"{found.num_answered:,} right ({found.num_right / found.num_answered:.1%}, 95% "
            f"interval {low:.1%} to {high:.1%})"
        )
    else:
        line += "; it answers none of the held-out dev rows"
    return replace(config, threshold=found.threshold, precision=None), [*lines, line]


def _state(calibration: Calibration | None, reference: str, precision: str) -> str:
    if calibration is None:
        return f"are not calibrated: {reference} has no calibration"
    if calibration.problem is not None:
        return f"are not calibrated: {calibration.problem}"
    state = (
        f"are calibrated on {calibration.num_rows:,} dev rows: temperature "
        f"{calibration.temperature:.3g}"
    )
    return (
        state if precision == "float32" else f"{state}, of the model before it became {precision}"
    )


def _threshold_for(precision: float, calibration: Calibration | None, reference: str) -> Threshold:
    where = f"predict: precision {precision:g}: "
    remedy = "or give a threshold instead"
    if precision > PRECISIONS[-1]:
        raise InputError(f"{where}at most {PRECISIONS[-1]} can be given; give less, {remedy}")
    if calibration is None:
        raise InputError(
            f"{where}{reference} has no calibration, so the threshold is unknown; give the "
            f"directory of a run, whose student has one, {remedy}"
        )
    if (found := calibration.threshold_for(precision)) is not None:
        return found
    if not calibration.thresholds:
        reached = calibration.problem or "no precision was reached"
        raise InputError(f"{where}no threshold is known: {reached}; use more dev rows, {remedy}")
    raise InputError(
        f"{where}no threshold reached it on the {calibration.num_rows:,} dev rows; the highest "
        f"precision is {calibration.thresholds[-1].precision:g}; give that or less, {remedy}"
    )
