"""Linear models on embeddings of texts."""

import numpy as np
from test_tfidf import examples
from tiny_models import save_tiny_model

from raykd.evaluation.baselines.embeddings import fit_on_embeddings, pair_features
from raykd.evaluation.baselines.static import load_static, make_static

VECTORS = {"a": (3.0, 4.0), "b": (0.0, 2.0), "c": (6.0, 8.0), "": (0.0, 0.0)}


def embed(texts):
    return np.array([VECTORS[text] for text in texts], np.float32)


def test_features_of_a_text_are_its_embedding_with_length_one():
    rows = examples(["a", "b", ""], [0, 1, 0])
    np.testing.assert_allclose(
        pair_features(embed, rows), [[0.6, 0.8], [0.0, 1.0], [0.0, 0.0]], rtol=1e-6
    )


def test_features_of_a_pair_are_both_their_difference_their_product_and_their_cosine():
    rows = examples(["a"], [0], ["b"])
    expected = np.array([0.6, 0.8, 0.0, 1.0, 0.6, 0.2, 0.0, 0.8]) / np.sqrt(3.04)
    np.testing.assert_allclose(pair_features(embed, rows), [[*expected, 3 * 0.8]], rtol=1e-6)


def test_no_rows_have_features_of_the_same_width():
    assert pair_features(embed, examples([], [])).shape == (0, 2)


def test_a_text_gets_the_class_of_texts_in_its_direction():
    train = examples(["a", "b", "a", "b"], [1, 0, 1, 0])
    logits = fit_on_embeddings(embed, train, num_labels=3).predict(examples(["c", "b"], [0, 0]))
    assert logits.argmax(axis=1).tolist() == [1, 0]
    assert logits[:, 2].tolist() == [-100.0, -100.0]  # a class that train lacks


def test_scores_of_a_regression_stay_within_those_of_train():
    train = examples(["a", "b"], [1.0, 3.0])
    scores = fit_on_embeddings(embed, train, num_labels=1).predict(examples(["a", "b"], [0, 0]))
    assert scores.shape == (2, 1)
    assert 1.0 <= scores[0, 0] < scores[1, 0] <= 3.0


def test_a_static_embedding_is_that_of_a_bag_of_words(tmp_path):
    make_static(str(save_tiny_model(tmp_path / "model")), tmp_path / "static")
    static, num_parameters = load_static(tmp_path / "static")
    first, swapped, other = static(["good film", "film good", "bad film"])
    np.testing.assert_allclose(first, swapped, rtol=1e-5)
    assert np.abs(first - other).max() > 1e-3
    vocabulary = len((tmp_path / "model" / "vocab.txt").read_text().split())
    assert num_parameters % static(["film"]).shape[1] == 0
    assert num_parameters // static(["film"]).shape[1] <= vocabulary
