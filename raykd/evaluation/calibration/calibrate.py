"""Calibration of a classifier on dev rows, and its measures on rows it was not fitted on.

What is kept with the model is chosen on all dev rows. What is measured is cross-fitted: each fold
has the temperature and the thresholds that the same procedure chooses on the other folds.

Shapes: N rows, C classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat

from raykd.evaluation.calibration.quality import (
    Bin,
    Quality,
    error_of_perfect,
    quality_of,
    reliability,
)
from raykd.evaluation.calibration.selective import (
    Cut,
    cuts_of,
    interval_of,
    risk_curve,
    threshold_for,
)
from raykd.evaluation.calibration.temperature import Fit, fit_temperature, probabilities
from raykd.models.calibration import PRECISIONS, Calibration, Threshold

# With fewer dev rows the temperature has an error of about half its value.
MIN_ROWS = 30
NUM_FOLDS = 5
WANTED_PRECISIONS = (0.9, 0.95, 0.99)
_FOLD_SEED = 0x464F4C44
_MAX_CURVE_POINTS = 200

FloatArray = NDArray[np.float64]


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Target(_Facts):
    """A wanted precision: its threshold, and the rows answered with it.

    `threshold` is the one kept with the model, None if no dev row has the precision. `low` and
    `high` are the 95 % interval of `num_right / num_answered`, None without an answered row.
    """

    wanted: float
    threshold: FiniteFloat | None
    num_answered: int
    num_right: int
    low: FiniteFloat | None
    high: FiniteFloat | None


class Measured(_Facts):
    """Measures on the rows of a split: dev in folds (cross-fitted), or test.

    `before` is without a temperature. `perfect_ece` is the ECE that calibrated probabilities would
    have on these rows. `error` is the share of wrong answers of all rows, `aurc` the mean of the
    risk-coverage curve, whose points are `errors` at `coverages`.
    """

    split: str
    num_rows: int
    before: Quality
    after: Quality
    perfect_ece: FiniteFloat
    bins_before: list[Bin]
    bins_after: list[Bin]
    error: FiniteFloat
    aurc: FiniteFloat
    coverages: list[FiniteFloat]
    errors: list[FiniteFloat]
    targets: list[Target]


class CalibrationFacts(_Facts):
    """Calibration of one student, and its measures; without any if there are too few dev rows.

    `temperature_error` is the standard error of the temperature, None if it was not estimated;
    then `problem` is the reason. `num_rows` are the dev rows.
    """

    variant: str
    init: str
    seed: int
    temperature: FiniteFloat
    temperature_error: FiniteFloat | None
    problem: str | None
    num_rows: int
    num_folds: int
    measured: list[Measured] = []


class Outputs(NamedTuple):
    """Logits (N, C) of a classifier, and the labels (N,) of the rows."""

    logits: FloatArray
    labels: NDArray[np.int64]

    def take(self, rows: NDArray[np.bool_]) -> "Outputs":
        """Keep the rows of a mask."""
        return Outputs(self.logits[rows], self.labels[rows])

    @property
    def right(self) -> NDArray[np.bool_]:
        """Rows whose most probable class, the first one of ties, is the label."""
        right: NDArray[np.bool_] = self.logits.argmax(axis=1) == self.labels
        return right

    def confidences(self, temperature: float | FloatArray) -> FloatArray:
        """Probability of the most probable class."""
        largest: FloatArray = probabilities(self.logits, temperature).max(axis=1)
        return largest


class _Chosen(NamedTuple):
    fit: Fit
    cuts: list[Cut]


class Calibrated(NamedTuple):
    """A calibration to keep with the model, and what the report needs."""

    calibration: Calibration
    fit: Fit
    measured: list[Measured]


def calibrate(dev: Outputs, test: Outputs | None, labels: Sequence[str]) -> Calibrated:
    """Choose temperature and thresholds on dev rows, and measure them.

    Args:
        dev: outputs on the dev rows.
        test: outputs on the test rows, which are measured as well; None if there are none.
        labels: names of the classes.
    """
    num_rows = len(dev.labels)
    if num_rows < MIN_ROWS:
        problem = f"{num_rows} dev rows are too few, {MIN_ROWS} are needed"
        kept = Calibration(temperature=1, labels=tuple(labels), num_rows=num_rows, problem=problem)
        return Calibrated(kept, Fit(1.0, None, problem), [])
    chosen = _choose(dev)
    folds = _folds(num_rows)
    # Where all rows together determine no temperature, no fold has one either.
    fixed = chosen.fit if chosen.fit.problem is not None else None
    by_fold = [_choose(dev.take(folds != fold), fixed) for fold in range(NUM_FOLDS)]
    cross_fitted = np.array([of_fold.fit.temperature for of_fold in by_fold])[folds]
    thresholds = {one: threshold_for(chosen.cuts, one) for one in PRECISIONS}
    confidences, right = dev.confidences(cross_fitted), dev.right
    counts = {}
    for precision, threshold in thresholds.items():
        of_folds = [threshold_for(of_fold.cuts, precision) for of_fold in by_fold]
        if threshold is not None:
            counts[precision] = _counts(confidences, right, _limits(of_folds)[folds])
    temperature = chosen.fit.temperature
    kept = Calibration(
        temperature=temperature,
        labels=tuple(labels),
        num_rows=num_rows,
        problem=chosen.fit.problem,
        thresholds=tuple(
            Threshold(
                precision=precision,
                threshold=thresholds[precision],
                num_answered=num_answered,
                num_right=num_right,
            )
            for precision, (num_answered, num_right) in counts.items()
        ),
    )
    wanted = {one: thresholds[one] for one in WANTED_PRECISIONS}
    targets = [_target(one, wanted[one], *counts.get(one, (0, 0))) for one in wanted]
    measured = [_measure("dev", dev, cross_fitted, targets)]
    if test is not None:
        of_test = test.confidences(temperature)
        targets = [
            _target(one, limit, *_counts(of_test, test.right, _limits([limit])))
            for one, limit in wanted.items()
        ]
        temperatures = np.full(len(test.labels), temperature)
        measured.append(_measure("test", test, temperatures, targets))
    return Calibrated(kept, chosen.fit, measured)


def _choose(outputs: Outputs, fixed: Fit | None = None) -> _Chosen:
    """Choose temperature, unless it is fixed, and thresholds."""
    fit = fixed or fit_temperature(outputs.logits, outputs.labels)
    num_classes = outputs.logits.shape[1]
    cuts = cuts_of(outputs.confidences(fit.temperature), outputs.right, num_classes)
    return _Chosen(fit, cuts)


def _folds(num_rows: int) -> NDArray[np.int64]:
    """Fold of each row, drawn with a fixed seed; sizes differ by at most 1."""
    folds = np.arange(num_rows) % NUM_FOLDS
    return np.random.default_rng(_FOLD_SEED).permutation(folds)


def _limits(thresholds: Sequence[float | None]) -> FloatArray:
    """Thresholds; 2, which no probability reaches, for None."""
    return np.array([2.0 if threshold is None else threshold for threshold in thresholds])


def _counts(
    confidences: FloatArray, right: NDArray[np.bool_], thresholds: FloatArray
) -> tuple[int, int]:
    """Numbers of answered rows, and of those answered right."""
    answered = confidences >= thresholds
    return int(answered.sum()), int((answered & right).sum())


def _target(wanted: float, threshold: float | None, num_answered: int, num_right: int) -> Target:
    low, high = interval_of(num_right, num_answered) or (None, None)
    return Target(
        wanted=wanted,
        threshold=threshold,
        num_answered=num_answered,
        num_right=num_right,
        low=low,
        high=high,
    )


def _measure(
    split: str, outputs: Outputs, temperatures: FloatArray, targets: list[Target]
) -> Measured:
    right = outputs.right
    before, after = outputs.confidences(1.0), outputs.confidences(temperatures)
    curve = risk_curve(after, right)
    num_rows = len(right)
    num_points = min(num_rows, _MAX_CURVE_POINTS)
    shown = np.unique(np.linspace(1, num_rows, num_points).round().astype(int))
    return Measured(
        split=split,
        num_rows=num_rows,
        before=quality_of(outputs.logits, outputs.labels, 1.0),
        after=quality_of(outputs.logits, outputs.labels, temperatures),
        perfect_ece=error_of_perfect(after),
        bins_before=reliability(before, right),
        bins_after=reliability(after, right),
        error=float(1 - right.mean()),
        aurc=curve.area,
        coverages=(shown / num_rows).tolist(),
        errors=curve.errors[shown - 1].tolist(),
        targets=targets,
    )
