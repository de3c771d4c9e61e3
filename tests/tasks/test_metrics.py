import numpy as np
import pytest

from raykd.tasks.metrics import compute, majority_predictions


def score(metric, labels, predictions):
    return compute([metric], np.array(labels, float), np.array(predictions, float))[metric]


def test_accuracy_is_the_fraction_of_correct_predictions():
    assert score("accuracy", [0, 1, 2, 2], [0, 1, 1, 2]) == 0.75


def test_f1_is_of_class_one():
    # 2 true positives, 1 false negative, 1 false positive: precision 2/3, recall 2/3.
    assert score("f1", [1, 1, 1, 0, 0], [1, 1, 0, 1, 0]) == pytest.approx(2 / 3)


def test_f1_without_positive_predictions_is_zero():
    assert score("f1", [1, 0, 1], [0, 0, 0]) == 0.0


def test_matthews_by_hand():
    # tp 2, tn 1, fp 1, fn 1: (2*1 - 1*1) / sqrt(3 * 3 * 2 * 2) = 1/6.
    assert score("matthews", [1, 1, 1, 0, 0], [1, 1, 0, 0, 1]) == pytest.approx(1 / 6)


def test_matthews_correlation_of_a_constant_prediction_is_zero():
    assert score("matthews", [1, 0, 1], [1, 1, 1]) == 0.0


def test_pearson_by_hand():
    # Deviations (-1, 0, 1) and (-4/3, -1/3, 5/3): 3 / sqrt(2 * 14/3).
    assert score("pearson", [1, 2, 3], [0, 1, 3]) == pytest.approx(3 / np.sqrt(2 * 14 / 3))


def test_spearman_depends_only_on_the_order():
    assert score("spearman", [1, 2, 3, 4], [0.1, 0.2, 5.0, 900.0]) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_correlation_with_a_constant_is_zero(metric):
    assert score(metric, [1, 2, 3], [2, 2, 2]) == 0.0


def test_metrics_are_in_the_given_order():
    labels = np.array([0.0, 1.0])
    assert list(compute(("f1", "accuracy"), labels, labels)) == ["f1", "accuracy"]


def test_majority_is_the_most_frequent_class_of_the_train_split():
    answers = majority_predictions(np.array([2.0, 0.0, 2.0, 1.0]), 3, regression=False)
    assert answers.tolist() == [2.0, 2.0, 2.0]


def test_majority_of_a_regression_task_is_the_mean():
    assert majority_predictions(np.array([1.0, 4.0]), 2, regression=True).tolist() == [2.5, 2.5]
