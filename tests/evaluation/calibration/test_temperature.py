import math

import numpy as np
import pytest
from scipy.special import log_softmax

from raykd.evaluation.calibration.temperature import fit_temperature, probabilities


def drawn(num_rows, num_classes=4, seed=0):
    """Logits, and labels drawn with their probabilities: the temperature is 1."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(num_rows, num_classes))
    shares = probabilities(logits, 1.0)
    labels = (shares.cumsum(axis=1) > random.random((num_rows, 1))).argmax(axis=1)
    return logits, labels


def nll(logits, labels, temperature):
    return -log_softmax(logits / temperature, axis=1)[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_a_known_scale_of_the_logits_is_recovered(scale):
    logits, labels = drawn(4000)
    fit = fit_temperature(scale * logits, labels)
    assert fit.problem is None
    assert abs(fit.temperature - scale) < 3 * fit.error
    assert fit.error < 0.04 * scale
    # A scaled model has the scaled temperature, exactly.
    assert fit.temperature == pytest.approx(scale * fit_temperature(logits, labels).temperature)


def test_no_temperature_of_a_fine_grid_has_a_smaller_nll():
    logits, labels = drawn(60, seed=3)
    fit = fit_temperature(2.5 * logits, labels)
    grid = np.geomspace(0.01, 100, 5000)
    best = min(grid, key=lambda temperature: nll(2.5 * logits, labels, temperature))
    assert fit.temperature == pytest.approx(best, rel=2e-3)
    assert nll(2.5 * logits, labels, fit.temperature) <= nll(2.5 * logits, labels, best)


def test_temperature_and_error_of_four_equal_rows_are_those_by_hand():
    # Three of four are right: sigmoid(2 / T) = 3/4. Information of 1 / T: 4 * 2^2 * 3/4 * 1/4 = 3.
    fit = fit_temperature(np.array([[2.0, 0.0]] * 4), np.array([0, 0, 0, 1]))
    temperature = 2 / math.log(3)
    assert fit == pytest.approx((temperature, temperature**2 / math.sqrt(3), None))


@pytest.mark.parametrize(
    ("logits", "labels", "problem"),
    [
        ([[2.0, 0.0], [0.0, 1.0]], [0, 1], "every row is answered right"),
        ([[2000.0, 0.0], [0.0, 1.0]], [0, 1], "every row is answered right"),
        ([[1.0, 1.0], [0.0, 0.0]], [0, 1], "all classes are equally probable"),
        ([[2.0, 0.0], [0.0, 1.0]], [1, 1], "the best temperature is above 100"),
        ([[0.001, 0.0]] * 4, [0, 0, 0, 1], "the best temperature is below 0.01"),
    ],
)
def test_rows_that_do_not_determine_a_temperature_leave_it_at_1(logits, labels, problem):
    temperature, error, found = fit_temperature(np.array(logits), np.array(labels))
    assert (temperature, error) == (1.0, None)
    assert found.startswith(problem)


def test_probabilities_take_one_temperature_or_one_per_row():
    logits = np.array([[math.log(16), 0.0], [math.log(16), 0.0]])
    assert probabilities(logits, 2.0)[:, 0] == pytest.approx([0.8, 0.8])
    assert probabilities(logits, np.array([1.0, 4.0]))[:, 0] == pytest.approx([16 / 17, 2 / 3])
