"""Which rows stand in which batch: an order that depends on seed and epoch alone."""

import numpy as np
from numpy.typing import NDArray

# Batches of similar length are cut from windows of this many shuffled batches: wide enough to
# leave almost no padding, narrow enough that neighbours in an epoch stay random.
_BUCKET_BATCHES = 50


def num_batches(num_rows: int, batch_size: int) -> int:
    """Batches of an epoch, the incomplete last one included."""
    return -(-num_rows // batch_size)


def epoch_batches(
    lengths: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Row numbers of every batch of an epoch: each row once, rows of similar length together.

    The order is a function of (seed, epoch), so that all workers and a resumed run agree on it.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    window = batch_size * _BUCKET_BATCHES
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), window):
        rows = order[start : start + window]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    return [batches[at] for at in generator.permutation(len(batches))]
