"""Which rows stand in which batch: an order that depends on seed and epoch alone."""

import numpy as np
from numpy.typing import NDArray


def num_batches(num_rows: int, batch_size: int) -> int:
    """Batches of an epoch, the incomplete last one included."""
    return -(-num_rows // batch_size)


def epoch_batches(
    lengths: NDArray[np.int64], batch_size: int, *, bucket_batches: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Row numbers of every batch of an epoch: each row once.

    The order is a function of (seed, epoch), so that all workers and a resumed run agree on it.

    Args:
        lengths: (N,) tokens of each row.
        batch_size: rows of a batch; the last one of a bucket may have fewer.
        bucket_batches: see `TrainingConfig`.
        seed: of the run.
        epoch: counted from 1.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    window = batch_size * bucket_batches
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), window):
        rows = order[start : start + window]
        if bucket_batches > 1:
            rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    return [batches[at] for at in generator.permutation(len(batches))]
