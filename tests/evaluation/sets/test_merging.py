"""Answers in the classes of a set, with probabilities computed by hand."""

import numpy as np
import pytest

from raykd.evaluation.predict import answers
from raykd.evaluation.sets.merging import constant_prediction, merged_logits

# Entailment stays, neutral and contradiction are one class.
TWO_OF_THREE = (0, 1, 1)


def logits(*probabilities):
    return np.log(np.array(probabilities, np.float32))


def softmax(rows):
    exponentials = np.exp(rows.astype(np.float64))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_probabilities_of_merged_classes_are_sums_and_decide_the_prediction():
    # The task's most probable class of the first row is entailment, with 0.4 < 0.3 + 0.3.
    rows = logits([0.4, 0.3, 0.3], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1])
    merged = merged_logits(rows, TWO_OF_THREE)
    assert merged.dtype == np.float32
    assert softmax(merged) == pytest.approx(
        np.array([[0.4, 0.6], [0.7, 0.3], [0.1, 0.9]]), abs=1e-6
    )
    assert answers(merged).tolist() == [1.0, 0.0, 1.0]
    assert answers(rows).tolist() == [0.0, 0.0, 1.0]


def test_the_order_of_the_sets_classes_is_that_of_its_labels():
    merged = merged_logits(logits([0.4, 0.35, 0.25]), (1, 0, 1))
    assert softmax(merged) == pytest.approx(np.array([[0.35, 0.65]]), abs=1e-6)


def test_large_logits_do_not_overflow():
    merged = merged_logits(np.array([[900.0, 900.0, 900.0]], np.float32), TWO_OF_THREE)
    # ln 2 = 0.6931
    assert merged.tolist()[0] == pytest.approx([900.0, 900.6931], abs=1e-4)


def test_classes_that_are_not_merged_keep_their_logits_exactly():
    rows = np.array([[0.1, -7.3, 1e-7], [3.0, 2.9999998, -50.0]], np.float32)
    assert np.array_equal(merged_logits(rows, (0, 1, 2)), rows)
    assert np.array_equal(merged_logits(rows, (2, 0, 1)), rows[:, [1, 2, 0]])


def test_scores_of_a_regression_stay_as_they_are():
    scores = np.array([[0.5], [4.25]], np.float32)
    assert merged_logits(scores, ()) is scores


def test_the_constant_answer_is_the_most_frequent_class_of_the_mapped_training_rows():
    # 3 entailment, 2 neutral, 2 contradiction: entailment is most frequent, 4 of 7 are not.
    train = np.array([0, 0, 0, 1, 1, 2, 2], np.float64)
    assert constant_prediction(train, (0, 1, 2)) == 0.0
    assert constant_prediction(train, TWO_OF_THREE) == 1.0
    assert constant_prediction(np.array([0.0, 1.0]), (1, 0)) == 0.0
    assert constant_prediction(np.array([1.0, 4.0]), ()) == 2.5
