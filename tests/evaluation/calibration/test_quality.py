import math

import numpy as np
import pytest

from raykd.evaluation.calibration.quality import (
    Bin,
    calibration_error,
    error_of_perfect,
    quality_of,
    reliability,
)

CONFIDENCES = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
RIGHT = np.array([False, True, True, False, True, True])


def test_the_error_of_six_rows_in_three_bins_is_that_by_hand():
    # Gaps of the bins: |1/2 - 0.55|, |1/2 - 0.75|, |1 - 0.95|.
    assert calibration_error(CONFIDENCES, RIGHT, 3) == pytest.approx((0.05 + 0.25 + 0.05) / 3)
    order = [3, 1, 5, 0, 2, 4]
    assert calibration_error(CONFIDENCES[order], RIGHT[order], 3) == pytest.approx(0.35 / 3)
    assert [(one.num_rows, one.share_right) for one in reliability(CONFIDENCES, RIGHT, 3)] == [
        (2, 0.5),
        (2, 0.5),
        (2, 1.0),
    ]


def test_rows_of_equal_probability_share_a_bin():
    equal = np.full(6, 0.7)
    [only] = reliability(equal, RIGHT, 3)
    assert only == Bin(probability=only.probability, share_right=4 / 6, num_rows=6)
    assert only.probability == pytest.approx(0.7)
    assert calibration_error(equal, RIGHT, 3) == pytest.approx(0.7 - 4 / 6)
    some = np.array([0.6, 0.7, 0.7, 0.7, 0.7, 0.9])
    assert [one.num_rows for one in reliability(some, RIGHT, 3)] == [1, 5]


def test_likelihood_and_brier_score_of_two_rows_are_those_by_hand():
    logits = np.log([[0.8, 0.2], [0.6, 0.4]])
    found = quality_of(logits, np.array([0, 1]), 1.0)
    assert found.nll == pytest.approx(-(math.log(0.8) + math.log(0.4)) / 2)
    assert found.brier == pytest.approx((0.04 + 0.04 + 0.36 + 0.36) / 2)
    assert found.ece == pytest.approx(((1 - 0.8) + 0.6) / 2)
    scaled = quality_of(2 * logits, np.array([0, 1]), np.array([2.0, 2.0]))
    assert scaled.nll == pytest.approx(found.nll)


def test_perfect_probabilities_have_the_error_of_chance():
    # One bin of 100 rows with 0.5: the mean distance of a binomial share, 0.05 * sqrt(2 / pi).
    assert error_of_perfect(np.full(100, 0.5)) == pytest.approx(0.0399, abs=0.01)
    assert error_of_perfect(np.ones(100)) == 0
