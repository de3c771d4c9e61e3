"""Refusal of teachers that are no better than a constant answer or have another class order."""

import numpy as np
import pyarrow as pa
import pytest

from raykd.errors import InputError
from raykd.evaluation.teacher_check import check_answers
from raykd.models.inference import check_finite
from raykd.tasks.class_counts import constant_answer
from raykd.tasks.task import Task


def make_task(dev, *, num_classes=2, metric="accuracy", regression=False):
    names = ("neutral", "entailment", "contradiction", "other")[:num_classes]
    labels = () if regression else names
    table = pa.table({"label": pa.array(dev, pa.float64())})
    return Task("t", labels, regression, (metric,), table, table, None, {})


def check(dev, answers, **settings):
    return check_answers(make_task(dev, **settings), np.asarray(answers, np.float64))


BALANCED = [0, 1] * 20


def test_a_teacher_with_swapped_classes_is_refused_with_the_right_order():
    finding = check(BALANCED, [1, 0] * 20)
    assert finding.is_certain
    assert finding.order == ("entailment", "neutral")
    assert "0.0%" in finding.reason
    assert "100.0%" in finding.reason


def test_two_of_three_swapped_classes_are_detected_although_the_constant_is_beaten():
    dev = [0, 0, 1, 2] * 20
    answers = [0, 0, 2, 1] * 20
    finding = check(dev, answers, num_classes=3)
    assert finding.order == ("neutral", "contradiction", "entailment")


def test_rotated_classes_are_reported_with_the_class_of_each_output():
    finding = check([0, 1, 2] * 20, [1, 2, 0] * 20, num_classes=3)
    # Output 0 (the task's neutral, as answered) is right where the label is contradiction.
    assert finding.order == ("contradiction", "neutral", "entailment")


@pytest.mark.parametrize(("num_right", "is_certain"), [(22, False), (18, False), (12, True)])
def test_a_teacher_is_refused_if_a_useful_one_would_hardly_score_as_low(num_right, is_certain):
    dev = [0] * 22 + [1] * 18
    answers = [*dev[: num_right // 2], *(1 - label for label in dev[num_right // 2 :])]
    answers[22 : 22 + num_right - num_right // 2] = [1] * (num_right - num_right // 2)
    finding = check(dev, answers)
    assert f"is {num_right / 40:.3f}, that of the constant answer 'neutral' is 0.550" in (
        finding.reason
    )
    assert finding.is_certain == is_certain
    assert finding.order is None


def test_a_constant_teacher_is_refused_on_a_split_large_enough_to_show_it():
    dev = [0] * 550 + [1] * 450
    for metric in ("accuracy", "matthews"):
        finding = check(dev, [0] * 1000, metric=metric)
        assert finding.is_certain
        assert "constant answer" in finding.reason
    assert not check(dev[:1] * 3 + [1] * 2, [0] * 5).is_certain


def test_a_teacher_below_the_constant_that_separates_the_classes_is_accepted():
    dev = [1] * 80 + [0] * 920
    answers = [1] * 50 + [0] * 30 + [1] * 120 + [0] * 800  # accuracy 0.85, constant 0.92
    assert check(dev, answers) is None


def test_a_useful_teacher_is_accepted():
    generator = np.random.default_rng(0)
    dev = generator.integers(0, 3, 60)
    answers = np.where(generator.random(60) < 0.8, dev, generator.integers(0, 3, 60))
    assert check(dev, answers, num_classes=3) is None


def test_a_split_with_one_class_is_not_judged():
    assert check([1] * 30, [0] * 30) is None


def test_scores_with_negative_correlation_are_refused():
    dev = list(range(40))
    settings = {"metric": "pearson", "regression": True}
    finding = check(dev, [-score for score in dev], **settings)
    assert finding.is_certain
    assert "-1.000" in finding.reason
    assert check(dev, dev, **settings) is None
    assert not check(dev[:4], dev[3::-1][:1] * 4, **settings).is_certain
    scaled = check(dev, [score / 100 for score in dev], **settings)
    assert not scaled.is_certain
    assert "another scale" in scaled.reason


def test_nan_logits_are_refused_with_the_row():
    logits = np.zeros((4, 2), np.float32)
    check_finite(logits, "m", "dev split")
    logits[2, 1] = np.nan
    with pytest.raises(InputError, match=r"model m: its logits are NaN in 1 of 4 rows.*row 12"):
        check_finite(logits, "m", "dev split", start=10)


def test_a_constant_answer_is_recognized():
    task = make_task(BALANCED)
    assert constant_answer(task, pa.chunked_array([[1.0, 1.0]])) == "entailment"
    assert constant_answer(task, pa.chunked_array([[1.0, 0.0]])) is None
