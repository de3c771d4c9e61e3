"""Penalties of linear models are chosen by cross-validation inside the train split."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from test_tfidf import examples

from raykd.evaluation.baselines.embeddings import fit_on_embeddings, pair_features
from raykd.evaluation.baselines.linear import fit_linear
from raykd.evaluation.baselines.penalty import choose_inverse_penalty, number_texts
from raykd.evaluation.baselines.pipeline import BaselineJob
from raykd.evaluation.baselines.strata import stratified_sample


def choose(targets, texts, losses, *, of_classes=True):
    """Choose with features that are the numbers of the rows."""
    rows, targets = np.arange(len(targets))[:, None], np.array(targets)
    return choose_inverse_penalty(rows, targets, np.array(texts), losses, of_classes=of_classes)


def folds_of(targets, texts, *, of_classes=True):
    """Pairs of fitted and held-out rows of each fold of one penalty."""
    found = []

    def losses(fitted, _fitted_targets, held, _held_targets, inverse_penalty):
        if inverse_penalty == 1.0:
            found.append((fitted[:, 0].tolist(), held[:, 0].tolist()))
        return np.zeros(len(held))

    choose(targets, texts, losses, of_classes=of_classes)
    return found


def test_each_row_is_held_out_once_with_all_rows_of_its_text():
    targets, texts = [0, 1] * 20, [row // 2 for row in range(0, 80, 2)]
    texts[4] = texts[0]
    folds = folds_of(targets, np.unique(texts, return_inverse=True)[1])
    assert len(folds) == 5
    assert sorted(row for _, held in folds for row in held) == list(range(40))
    for fitted, held in folds:
        assert sorted(fitted + held) == list(range(40))
        assert (0 in held) == (4 in held)
        assert {targets[row] for row in fitted} == {0, 1}


def test_a_rare_class_has_as_many_folds_as_texts_and_one_text_does_not_count():
    folds = folds_of([0] * 9 + [1] * 3 + [2], list(range(13)))
    assert len(folds) == 3
    assert all(sum(9 <= row < 12 for row in held) == 1 for _, held in folds)


def test_folds_of_a_regression_have_low_and_high_scores():
    folds = folds_of(np.linspace(0, 5, 50), list(range(50)), of_classes=False)
    assert len(folds) == 5
    assert all(max(held) - min(held) > 40 for _, held in folds)


def test_the_lowest_mean_loss_decides_and_then_the_stronger_penalty():
    targets, texts = [0, 1] * 5, range(10)
    by_distance = lambda *data: np.full(len(data[2]), abs(data[4] - 9.0))  # noqa: E731
    assert choose(targets, texts, by_distance) == 10.0
    assert choose(targets, texts, lambda *data: np.zeros(len(data[2]))) == 0.1
    # Rows without a loss, of a class without fitted rows, do not count.
    partly = lambda *data: np.array([np.nan] + [-data[4]] * (len(data[2]) - 1))  # noqa: E731
    assert choose(targets, texts, partly) == 100.0


@pytest.mark.parametrize(
    ("labels", "num_labels"), [([0, 1], 2), ([0, 1, 1, 1], 2), ([0.0, 2.0, 5.0], 1)]
)
def test_too_few_rows_have_the_fixed_penalty(labels, num_labels):
    features = np.eye(len(labels), dtype=np.float32)
    train = examples([str(row) for row in range(len(labels))], labels)
    fitted = fit_linear(lambda rows: features[: rows.num_rows], train, num_labels=num_labels)
    assert fitted.inverse_penalties == (10.0,)


def noise_and_signal(order):
    """Penalties for classes that are random, and that the features show."""
    random = np.random.default_rng(3)
    features = random.normal(size=(120, 8)).astype(np.float32)
    drawn = random.integers(2, size=120)
    chosen = []
    for classes in (drawn, (features[:, 0] > 0).astype(int)):
        train = examples([str(row) for row in order], classes[order].tolist())
        fitted = fit_linear(lambda rows: features[order][: rows.num_rows], train, num_labels=2)
        chosen.append(fitted.inverse_penalties)
    return chosen


def test_noise_has_a_strong_penalty_and_signal_a_weak_one_in_any_order_of_the_rows():
    order = np.arange(120)
    assert noise_and_signal(order) == [(0.1,), (100.0,)]
    assert noise_and_signal(order[::-1].copy()) == [(0.1,), (100.0,)]


def test_the_penalty_is_chosen_before_other_rows_are_seen():
    seen = []

    def features_of(rows):
        seen.extend(rows["sentence1"].to_pylist())
        return np.array([[len(text), 1.0] for text in rows["sentence1"].to_pylist()], np.float32)

    train = examples(["a", "bb", "ccc", "dddd"], [0, 0, 1, 1])
    fitted = fit_linear(features_of, train, num_labels=2)
    assert seen == ["a", "bb", "ccc", "dddd"]
    before = fitted.predict(train)
    fitted.predict(examples(["eeeee"], [0]))
    np.testing.assert_array_equal(fitted.predict(train), before)


def test_more_than_20000_rows_use_a_sample_with_the_same_shares_of_classes():
    targets = np.repeat([0, 1, 2], [30_000, 9_990, 10])
    fitted, held = folds_of(targets, np.random.default_rng(0).permutation(40_000))[0]
    shares = np.bincount(targets[fitted + held])
    assert shares.tolist() == [15_000, 4_995, 5]


def test_a_rare_class_of_which_the_sample_has_one_row_does_not_fail():
    targets = np.repeat([0, 1], [59_998, 2])
    random = np.random.default_rng(0).permutation(60_000)
    assert choose(targets, random, lambda *data: np.zeros(len(data[2]))) == 10.0


def test_equal_pairs_have_one_number_in_any_order_of_the_rows():
    first, second = ["a", "a", "b", "a"], ["x", "y", "x", "x"]
    numbers = number_texts(examples(first, [0] * 4, second))
    assert numbers[0] == numbers[3]
    assert sorted(set(numbers)) == [0, 1, 2]
    swapped = number_texts(examples(first[::-1], [0] * 4, second[::-1]))
    assert swapped[::-1].tolist() == numbers.tolist()


def test_a_stratified_sample_has_the_share_of_each_stratum_and_all_strata():
    strata = np.array([0] * 12 + [1] * 6 + [2])
    assert stratified_sample(strata, 10).tolist() == [0, 1, 2, 3, 4, 5, 12, 13, 14, 18]
    assert stratified_sample(strata, 3).tolist() == [0, 12, 18]
    assert stratified_sample(strata, 40).tolist() == list(range(19))


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_scores_that_follow_the_cosine_are_predicted_as_well_as_by_the_cosine(noise):
    random = np.random.default_rng(0)
    vectors = random.normal(size=(1200, 32)).astype(np.float32)
    vectors[600:] += random.uniform(-1, 2, size=(600, 1)) * vectors[:600]

    def embed(texts):
        return vectors[[int(text) for text in texts]]

    def rows(start, stop):
        first = [str(place) for place in range(start, stop)]
        second = [str(place + 600) for place in range(start, stop)]
        return examples(first, [0.0] * (stop - start), second)

    cosines = pair_features(embed, rows(0, 600))[:, -1] / 3
    scores = 2.5 + 2.5 * cosines + noise * random.normal(size=600)
    train = rows(0, 150).set_column(3, rows(0, 1).schema.field(3), [scores[:150]])
    predicted = fit_on_embeddings(embed, train, num_labels=1).predict(rows(150, 600))[:, 0]
    of_cosine = np.corrcoef(cosines[150:], scores[150:])[0, 1]
    assert np.corrcoef(predicted, scores[150:])[0, 1] > of_cosine - 0.01


def test_logits_are_the_log_probabilities_of_a_logistic_regression_and_finite():
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 4)).astype(np.float32)
    train = examples([str(row) for row in range(60)], random.integers(3, size=60).tolist())
    fitted = fit_linear(lambda rows: features[: rows.num_rows], train, num_labels=3)
    model = LogisticRegression(C=fitted.inverse_penalties[0], max_iter=1000)
    model.fit(features, train["label"].to_numpy())
    expected = model.predict_log_proba(features)
    np.testing.assert_allclose(fitted.predict(train), expected, rtol=1e-3)
    # A probability below the smallest number of 32 bits.
    by_class = np.repeat([[1.0], [-1.0]], 2, axis=0).astype(np.float32) * 1000
    pairs = examples(["a", "b", "c", "d"], [1, 1, 0, 0])
    far = fit_linear(lambda rows: by_class[: rows.num_rows], pairs, num_labels=2).predict(pairs)
    assert np.isfinite(far).all()
    assert far.argmax(axis=1).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("name", ["tfidf", "embeddings", "static", "setfit"])
def test_how_the_penalty_is_chosen_is_a_setting_of_linear_baselines(name):
    job = BaselineJob(name, Path("task"), Path("out"), (), Path("cost"), Path("made"))
    assert job.settings()["penalty"] == {
        "inverse_penalties": [0.1, 1.0, 10.0, 100.0],
        "fallback": 10.0,
        "num_folds": 5,
        "max_rows": 20000,
    }
