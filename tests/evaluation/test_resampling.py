import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raykd.evaluation import resampling
from raykd.evaluation.resampling import resampled_scores
from raykd.tasks.metrics import METRICS, MULTI_LABEL_METRICS, compute


def data(seed, num_rows, num_models, num_values):
    """Labels and predictions of few values, so that ties, absent classes and constants occur."""
    random = np.random.default_rng(seed)
    labels = random.integers(num_values, size=num_rows).astype(float)
    predictions = random.integers(num_values, size=(num_models, num_rows)).astype(float)
    return labels, predictions


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    num_rows=st.integers(1, 12),
    num_values=st.integers(1, 4),
    metric=st.sampled_from(sorted(METRICS.keys() - MULTI_LABEL_METRICS)),
)
def test_scores_are_those_of_the_drawn_rows(seed, num_rows, num_values, metric):
    # F1 is defined for two classes.
    labels, predictions = data(seed, num_rows, 2, min(num_values, 2 if metric == "f1" else 4))
    scores = resampled_scores(labels, predictions, [metric], num_resamples=4, seed=seed)[metric]
    drawn = np.random.default_rng(seed).integers(num_rows, size=(4, num_rows))
    expected = [
        [compute([metric], labels[rows], own[rows])[metric] for own in predictions]
        for rows in drawn
    ]
    assert scores == pytest.approx(np.array(expected), abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    num_rows=st.integers(1, 12),
    num_classes=st.integers(2, 4),
    metric=st.sampled_from(sorted(MULTI_LABEL_METRICS)),
)
def test_scores_of_sets_are_those_of_the_drawn_rows(seed, num_rows, num_classes, metric):
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=(num_rows, num_classes)).astype(float)
    # Few values, so that ties and empty sets occur.
    logits = random.integers(-2, 3, size=(3, num_rows, num_classes)).astype(float)
    scores = resampled_scores(labels, logits, [metric], num_resamples=4, seed=seed)[metric]
    drawn = np.random.default_rng(seed).integers(num_rows, size=(4, num_rows))
    expected = [
        [compute([metric], labels[rows], own[rows])[metric] for own in logits] for rows in drawn
    ]
    assert scores == pytest.approx(np.array(expected), abs=1e-9)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_correlations_of_real_numbers_are_those_of_the_drawn_rows(metric):
    random = np.random.default_rng(1)
    labels = random.uniform(0, 5, 60).round(1)
    predictions = np.stack([labels + random.normal(size=60), np.full(60, 2.7)])
    scores = resampled_scores(labels, predictions, [metric], num_resamples=20, seed=3)[metric]
    drawn = np.random.default_rng(3).integers(60, size=(20, 60))
    expected = [compute([metric], labels[rows], predictions[0, rows])[metric] for rows in drawn]
    assert scores[:, 0].tolist() == pytest.approx(expected, abs=1e-9)
    assert set(scores[:, 1]) == {0.0}


def test_scores_do_not_depend_on_how_many_resamples_are_held_at_once(monkeypatch):
    labels, predictions = data(0, 10, 3, 2)
    names = ["accuracy", "f1", "matthews", "spearman"]
    whole = resampled_scores(labels, predictions, names, num_resamples=7, seed=5)
    monkeypatch.setattr(resampling, "_COUNTS_AT_ONCE", 20)
    parts = resampled_scores(labels, predictions, names, num_resamples=7, seed=5)
    for name in names:
        assert whole[name].shape == (7, 3)
        assert parts[name] == pytest.approx(whole[name])


def test_nearly_constant_predictions_keep_their_correlation():
    random = np.random.default_rng(7)
    labels = random.uniform(0.0, 5.0, 200)
    predictions = 2.5 + 1e-7 * (labels - 2.5)
    found = resampled_scores(labels, predictions[None], ["pearson"], num_resamples=20, seed=1)
    np.testing.assert_allclose(found["pearson"], 1.0, atol=1e-6)
