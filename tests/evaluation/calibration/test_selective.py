import numpy as np
import pytest

from raykd.evaluation.calibration.selective import (
    cuts_of,
    interval_of,
    risk_curve,
    threshold_for,
)
from raykd.models.calibration import PRECISIONS


def test_the_curve_of_four_rows_is_that_by_hand():
    curve = risk_curve(np.array([0.7, 0.9, 0.6, 0.8]), np.array([True, True, False, False]))
    assert curve.errors == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4])
    assert curve.area == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 4)


def test_rows_of_equal_probability_share_their_errors():
    right = np.array([True, False, True, False])
    assert risk_curve(np.full(4, 0.7), right).errors == pytest.approx([0.5] * 4)
    # One right row, then two with one error between them, then an error.
    curve = risk_curve(np.array([0.9, 0.8, 0.8, 0.6]), right)
    assert curve.errors == pytest.approx([0, 1 / 4, 1 / 3, 1 / 2])


def oracle_answered(confidences, right, precision):
    """Largest set of rows above a probability that has the precision."""
    for limit in sorted(set(confidences)):
        answered = confidences >= limit
        if right[answered].sum() / answered.sum() >= precision:
            return answered
    return None


@pytest.mark.parametrize("seed", range(12))
def test_thresholds_answer_the_rows_of_the_slow_search(seed):
    random = np.random.default_rng(seed)
    confidences = random.uniform(0.25, 1, size=random.integers(1, 80))
    if seed % 2:
        confidences = confidences.round(1)
    right = random.random(len(confidences)) < confidences
    cuts = cuts_of(confidences, right, num_classes=5)
    for precision in PRECISIONS:
        expected = oracle_answered(confidences, right, precision)
        threshold = threshold_for(cuts, precision)
        if expected is None:
            assert threshold is None
        else:
            assert 0 < threshold < 1
            assert (confidences >= threshold).tolist() == expected.tolist()


def test_a_threshold_is_halfway_to_the_next_smaller_probability():
    confidences = np.array([0.9, 0.8, 0.6])
    cuts = cuts_of(confidences, np.array([True, False, True]), num_classes=4)
    assert cuts == [(pytest.approx(2 / 3), pytest.approx(0.425)), (1.0, pytest.approx(0.85))]
    [(precision, threshold)] = cuts_of(np.array([1.0, 1.0]), np.array([True, True]), 1)
    assert precision == 1.0
    assert threshold < 1


def test_the_interval_is_that_of_clopper_and_pearson():
    # All of 10 are right: the lower end has a probability of 2.5 % of that, p^10 = 0.025.
    assert interval_of(10, 10) == pytest.approx((0.025**0.1, 1.0))
    assert interval_of(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))
    assert interval_of(0, 0) is None
