"""Choice of the rows whose labels would help a classifier most (BADGE).

Ash et al. 2020, "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds",
https://arxiv.org/abs/1906.03671: k-means++ on the gradients that a row would have at the
classifier's last layer if its predicted class were its label. Their lengths grow with uncertainty,
their directions differ for different texts.

Shapes: N rows, C classes, d width of an embedding.
"""

import numpy as np
from numpy.typing import NDArray


def squared_lengths(
    probabilities: NDArray[np.float32], embeddings: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Squared length of each row's gradient, (N,)."""
    texts = (embeddings.astype(np.float64) ** 2).sum(axis=1)
    lengths: NDArray[np.float64] = (_errors(probabilities) ** 2).sum(axis=1) * texts
    return lengths


def diverse_uncertain_rows(
    probabilities: NDArray[np.float32], embeddings: NDArray[np.float32], num_rows: int, seed: int
) -> list[int]:
    """Positions of the chosen rows, in the order of the choice (BADGE, algorithm 1).

    The gradient of row i is the outer product of `probabilities[i]` minus the one-hot vector of its
    most probable class, and `embeddings[i]`; it is never formed, since distances need only the
    products of both parts. The first row has the longest gradient; each further one is drawn with
    a probability proportional to its squared distance from the nearest chosen row.

    Args:
        probabilities: (N, C).
        embeddings: (N, d).
        num_rows: rows to choose; fewer are chosen if the others have the gradient of a chosen one.
        seed: seed of the draws.
    """
    errors, texts = _errors(probabilities), embeddings.astype(np.float64)
    lengths = squared_lengths(probabilities, embeddings)
    generator = np.random.default_rng(seed)
    chosen = [int(lengths.argmax())] if num_rows and len(lengths) else []
    nearest = np.full(len(lengths), np.inf)
    while chosen and len(chosen) < num_rows:
        last = chosen[-1]
        products = (errors @ errors[last]) * (texts @ texts[last])
        distances = np.maximum(lengths + lengths[last] - 2 * products, 0)
        nearest = np.minimum(nearest, distances)
        # Equal rows differ by rounding only.
        nearest[nearest < 1e-12 * max(lengths[last], 1e-300)] = 0
        nearest[chosen] = 0
        total = nearest.sum()
        if total == 0:
            break
        chosen.append(int(generator.choice(len(nearest), p=nearest / total)))
    return chosen


def _errors(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities minus the one-hot vectors of the most probable classes, (N, C)."""
    errors = probabilities.astype(np.float64)
    errors[np.arange(len(errors)), errors.argmax(axis=1)] -= 1
    return errors
