"""Choice of rows to label, against gradients that are formed, and by hand."""

import numpy as np
import pytest

from raykd.prediction.suggestion import diverse_uncertain_rows


def choice_with_gradients(probabilities, embeddings, num_rows, seed):
    """The same choice with every gradient written out."""
    one_hot = np.eye(probabilities.shape[1])[probabilities.argmax(1)]
    gradients = np.einsum("nc,nd->ncd", probabilities - one_hot, embeddings)
    gradients = gradients.reshape(len(gradients), -1)
    generator = np.random.default_rng(seed)
    chosen = [int((gradients**2).sum(1).argmax())]
    while len(chosen) < num_rows:
        squares = [((gradients - gradients[row]) ** 2).sum(1) for row in chosen]
        nearest = np.min(squares, axis=0)
        chosen.append(int(generator.choice(len(nearest), p=nearest / nearest.sum())))
    return chosen


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_those_of_k_means_plus_plus_on_gradients(seed):
    generator = np.random.default_rng(100 + seed)
    logits = generator.normal(size=(200, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    embeddings = generator.normal(size=(200, 8))
    expected = choice_with_gradients(probabilities, embeddings, 20, seed)
    assert diverse_uncertain_rows(probabilities, embeddings, 20, seed) == expected
    assert len(set(expected)) == 20


def test_certain_and_repeated_rows_are_not_chosen():
    certain, unsure = [1.0, 0.0], [0.5, 0.5]
    probabilities = np.array([certain, unsure, unsure, unsure, certain])
    embeddings = np.array([[9.0, 9.0], [1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [5.0, 0.0]])
    # The longest gradient is that of row 3. Rows 0 and 4 have the gradient 0, rows 1 and 2 are
    # equal: after one of each there is nothing new.
    found = diverse_uncertain_rows(probabilities, embeddings, 5, seed=0)
    assert found[0] == 3
    assert len(set(found) & {1, 2}) == 1
    assert len(set(found) & {0, 4}) <= 1
    assert len(found) <= 3


def test_nothing_is_chosen_of_nothing():
    empty = np.empty((0, 2))
    assert diverse_uncertain_rows(empty, empty, 3, seed=0) == []
    assert diverse_uncertain_rows(np.array([[0.5, 0.5]]), np.ones((1, 2)), 0, seed=0) == []
