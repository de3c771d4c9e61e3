"""Evaluation of multi-label models: predictions, teacher check, divergence and baselines."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from raykd.evaluation.analysis import divergence
from raykd.evaluation.baselines.linear import fit_linear
from raykd.evaluation.baselines.tfidf import fit_tfidf
from raykd.evaluation.predict import answers_in, to_predictions
from raykd.evaluation.teacher_check import check_answers
from raykd.storage.schemas import examples_schema, predictions_schema
from raykd.tasks.labels.sets import targets_of
from raykd.tasks.task import Task


def examples(sets, texts=None):
    texts = texts or [f"text {number}" for number in range(len(sets))]
    columns = [range(len(sets)), texts, [None] * len(sets), sets]
    schema = examples_schema(len(sets[0]))
    arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
    return pa.table(arrays, schema=schema)


def test_predictions_have_the_sets_and_are_read_as_logits(tmp_path):
    logits = np.array([[0.0, -0.1], [-3.0, 2.0], [-1.0, -1.0]], np.float32)
    table = to_predictions(examples([[1, 0], [0, 1], [1, 1]]), logits)
    assert table.schema == predictions_schema(2)
    assert table["prediction"].to_pylist() == [[1, 0], [0, 1], [0, 0]]
    pq.write_table(table, tmp_path / "p.parquet")
    assert answers_in(tmp_path / "p.parquet").tolist() == logits.astype(float).tolist()
    assert targets_of(pq.read_table(tmp_path / "p.parquet")).tolist() == [[1, 0], [0, 1], [1, 1]]
    # A part of a table has its own rows.
    assert targets_of(table.slice(1, 1)).tolist() == [[0, 1]]


def task_of(sets):
    table = examples(sets)
    return Task("t", ("a", "b", "c"), False, ("f1_micro",), table, table, None, {}, (), True)


SETS = [[1, 0, 0], [1, 1, 0], [1, 0, 1], [0, 1, 0]] * 10


def test_a_teacher_that_is_worse_than_the_constant_in_all_resamples_is_refused():
    targets = np.array(SETS, float)
    finding = check_answers(task_of(SETS), 1 - 2 * targets)
    assert finding.is_certain
    # The constant predicts a and b: 30 + 20 right of 80, 60 true classes.
    assert "its f1_micro on dev is 0.000, that of the best constant set of classes is" in (
        finding.reason
    )
    assert check_answers(task_of(SETS), 2 * targets - 1) is None


def test_a_teacher_that_is_as_good_as_the_constant_is_only_warned_of():
    constant = np.tile([1.0, -1.0, -1.0], (40, 1))
    sets = [[1, 0, 0], [1, 0, 0], [1, 0, 1], [0, 1, 0]] * 10
    finding = check_answers(task_of(sets), constant)
    assert finding is not None
    assert not finding.is_certain


def test_the_divergence_is_that_of_each_class_and_0_for_equal_models():
    random = np.random.default_rng(0)
    student, teacher = random.normal(size=(2, 20, 3)) * 3
    found = divergence(student, teacher, multi_label=True)
    outcomes = [
        torch.distributions.Bernoulli(logits=torch.from_numpy(one)) for one in (teacher, student)
    ]
    expected = torch.distributions.kl_divergence(*outcomes).mean(1)
    assert found.measure == "binary_kl"
    assert found.mean == pytest.approx(expected.mean().item())
    assert found.median == pytest.approx(np.median(expected.numpy()))
    assert divergence(student, student, multi_label=True).mean == 0


def test_baselines_are_a_logistic_regression_per_class():
    random = np.random.default_rng(1)
    features = random.normal(size=(60, 4)).astype(np.float32)
    sets = (features[:, :3] + random.normal(size=(60, 3)) > 0).astype(int)
    sets[:, 2] = 0  # a class without rows
    train = examples(sets.tolist())
    fitted = fit_linear(lambda rows: features[: rows.num_rows], train, num_labels=3)
    found = fitted.predict(train)
    for place, inverse_penalty in enumerate(fitted.inverse_penalties):
        model = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(features, sets[:, place])
        assert found[:, place] == pytest.approx(model.decision_function(features), abs=1e-3)
    assert (found[:, 2] < 0).all()
    assert len(fitted.inverse_penalties) == 2


def test_words_determine_the_sets_of_tfidf():
    texts = ["good film", "dull film", "good music", "dull music", "dull", "good"]
    sets = [[1, 1], [0, 1], [1, 0], [0, 0], [0, 0], [1, 0]]
    predict = fit_tfidf(examples(sets, texts), num_labels=2).predict
    unseen = examples([[0, 0]] * 4, ["film", "good", "good film", "music"])
    # The bias of each class is about its share of the rows.
    assert (predict(unseen)[2] > 0).all()
    assert (predict(unseen)[:, 1] > 0).tolist() == [True, False, True, False]
