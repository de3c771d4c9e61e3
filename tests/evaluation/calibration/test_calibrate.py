import numpy as np
import pytest
from test_temperature import drawn, nll

from raykd.evaluation.calibration.calibrate import NUM_FOLDS, Outputs, _folds, calibrate
from raykd.evaluation.calibration.selective import cuts_of, interval_of, threshold_for
from raykd.evaluation.calibration.temperature import fit_temperature, probabilities

LABELS = ("a", "b", "c", "d")


def outputs(num_rows, seed=0, scale=3.0):
    logits, labels = drawn(num_rows, seed=seed)
    return Outputs(scale * logits, labels)


def test_what_is_reported_is_cross_fitted_and_what_is_kept_is_fitted_on_all_rows():
    dev = outputs(203)
    kept, fit, [measured] = calibrate(dev, None, LABELS)
    assert kept.temperature == fit.temperature
    assert fit == fit_temperature(*dev)
    assert (kept.labels, kept.num_rows, kept.problem) == (LABELS, 203, None)
    logs, answered, right = [], 0, 0
    folds = _folds(203)
    assert np.bincount(folds).tolist() == [41, 41, 41, 40, 40]
    for fold in range(NUM_FOLDS):
        other, own = dev.take(folds != fold), dev.take(folds == fold)
        temperature = fit_temperature(*other).temperature
        assert temperature != fit.temperature
        logs += [
            nll(row[None], np.array([label]), temperature) for row, label in zip(*own, strict=True)
        ]
        threshold = threshold_for(cuts_of(other.confidences(temperature), other.right, 4), 0.9)
        reached = own.confidences(temperature) >= threshold
        answered += reached.sum()
        right += (reached & own.right).sum()
    assert measured.after.nll == pytest.approx(np.mean(logs))
    assert measured.before.nll == pytest.approx(nll(*dev, 1.0))
    assert measured.after.nll < measured.before.nll
    assert measured.after.ece < measured.before.ece
    [target] = [one for one in measured.targets if one.wanted == 0.9]
    assert (target.num_answered, target.num_right) == (answered, right)
    assert (target.low, target.high) == pytest.approx(interval_of(right, answered))
    found = kept.threshold_for(0.9)
    assert (found.num_answered, found.num_right) == (answered, right)
    # In contrast to them, the threshold itself is chosen on all rows.
    shares = probabilities(dev.logits, fit.temperature).max(axis=1)
    assert dev.right[shares >= found.threshold].mean() >= 0.9
    assert found.threshold == target.threshold


def test_test_rows_are_measured_with_what_is_kept():
    dev, test = outputs(200), outputs(500, seed=1)
    kept, _, [_, measured] = calibrate(dev, test, LABELS)
    assert (measured.split, measured.num_rows) == ("test", 500)
    assert measured.after.nll == pytest.approx(nll(*test, kept.temperature))
    shares = probabilities(test.logits, kept.temperature).max(axis=1)
    for target in measured.targets:
        answered = shares >= kept.threshold_for(target.wanted).threshold
        assert target.num_answered == answered.sum()
        assert target.num_right == test.right[answered].sum()
    assert measured.error == pytest.approx(1 - test.right.mean())
    assert measured.errors[-1] == pytest.approx(measured.error)
    assert measured.coverages[-1] == 1
    assert len(measured.coverages) == 200


def test_too_few_rows_are_stated_and_nothing_is_fitted():
    kept, fit, measured = calibrate(outputs(29), None, LABELS)
    assert (kept.temperature, kept.thresholds, measured) == (1, (), [])
    assert kept.problem == fit.problem == "29 dev rows are too few, 30 are needed"
    assert calibrate(outputs(30), None, LABELS).calibration.problem is None


def test_rows_that_are_all_right_keep_the_temperature_of_1_and_have_thresholds():
    logits, _ = drawn(40)
    kept, _, [measured] = calibrate(Outputs(logits, logits.argmax(axis=1)), None, LABELS)
    assert kept.temperature == 1
    assert kept.problem.startswith("every row is answered right")
    assert measured.after == measured.before
    assert {one.num_right == one.num_answered >= 35 for one in kept.thresholds} == {True}
    assert kept.threshold_for(0.999) is not None


def test_a_precision_that_no_threshold_reaches_has_none():
    dev = Outputs(np.tile([2.0, 0, 0, 0], (40, 1)), np.array([0, 0, 0, 1] * 10))
    kept, _, [measured] = calibrate(dev, None, LABELS)
    assert [one.precision for one in kept.thresholds] == [n / 100 for n in range(50, 76)]
    assert kept.threshold_for(0.76) is None
    [*_, last] = measured.targets
    assert (last.wanted, last.threshold, last.num_answered, last.low) == (0.99, None, 0, None)


def test_the_same_rows_give_the_same_calibration():
    first, second = (calibrate(outputs(90), outputs(50, seed=4), LABELS) for _ in range(2))
    assert first == second
