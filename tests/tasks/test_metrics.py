import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from raykd.tasks import metrics
from raykd.tasks.metrics import compute, majority_predictions, row_precisions


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


SETS = [[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]]
LOGITS = [[2.0, 1.0, -1.0], [-1.0, -2.0, 0.5], [0.3, 0.0, -0.1], [1.0, 2.0, 3.0]]


def test_scores_of_sets_by_hand():
    # Predicted: {0, 1}, {2}, {0, 1}, {0, 1, 2}; right: 1, 0, 1, 3 of 2, 0, 1, 3 classes.
    assert score("f1_micro", SETS, LOGITS) == pytest.approx(2 * 5 / (8 + 6))
    # True positives, predicted and true: 2, 3, 2; 2, 3, 2; 1, 2, 2.
    assert score("f1_macro", SETS, LOGITS) == pytest.approx((4 / 5 + 4 / 5 + 2 / 4) / 3)
    assert score("subset_accuracy", SETS, LOGITS) == 0.25
    # Rows: (1/1 + 2/3) / 2, 1 without a class, 1/2, 1.
    assert score("lrap", SETS, LOGITS) == pytest.approx((5 / 6 + 1 + 1 / 2 + 1) / 4)


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 15), st.integers(2, 5))
def test_scores_of_sets_are_those_of_scikit_learn(seed, num_rows, num_classes):
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=(num_rows, num_classes))
    logits = random.integers(-3, 4, size=(num_rows, num_classes)).astype(float)
    predicted = (1 / (1 + np.exp(-logits)) >= 0.5).astype(int)
    expected = {
        "f1_micro": sklearn.f1_score(labels, predicted, average="micro", zero_division=0),
        "f1_macro": sklearn.f1_score(labels, predicted, average="macro", zero_division=0),
        "lrap": sklearn.label_ranking_average_precision_score(labels, logits),
        "subset_accuracy": sklearn.accuracy_score(labels, predicted),
    }
    assert compute(list(expected), labels.astype(float), logits) == pytest.approx(expected)
    assert row_precisions(labels.astype(float), logits).mean() == pytest.approx(expected["lrap"])


def test_row_precisions_do_not_depend_on_how_many_rows_are_compared_at_once(monkeypatch):
    random = np.random.default_rng(0)
    labels = random.integers(2, size=(9, 4)).astype(float)
    logits = random.normal(size=(9, 4))
    whole = row_precisions(labels, logits)
    monkeypatch.setattr(metrics, "_PAIRS_AT_ONCE", 32)
    assert row_precisions(labels, logits).tolist() == whole.tolist()


def test_the_constant_set_has_the_best_micro_f1_of_all_sets():
    random = np.random.default_rng(3)
    for shares in ([0.6, 0.1, 0.3, 0.05], [0.9, 0.9, 0.9, 0.9], [0.1, 0.02, 0.05, 0.01]):
        train = (random.random((60, 4)) < shares).astype(float)
        constant = majority_predictions(train, 60, regression=False)
        assert constant.shape == (60, 4)
        best = max(
            sklearn.f1_score(train, np.tile(own, (60, 1)), average="micro", zero_division=0)
            for own in itertools.product([0, 1], repeat=4)
        )
        assert compute(["f1_micro"], train, constant)["f1_micro"] == pytest.approx(best)
        by_frequency = np.argsort(-train.sum(0), kind="stable").tolist()
        assert np.argsort(-constant[0], kind="stable").tolist() == by_frequency
