"""Which rows stand in which batch: an order that depends on seed and epoch alone."""

import numpy as np
from numpy.typing import NDArray


def num_batches(num_rows: int, batch_size: int) -> int:
    """Batches of an epoch, the incomplete last one included."""
    return -(-num_rows // batch_size)


class EpochBatches:
    """The batches of one epoch by their position: each row is in one of them.

    The order is a function of (seed, epoch), so that all workers and a resumed training agree on
    it. A batch is made when it is asked for: any position costs the same.

    Args:
        lengths: (N,) tokens of each row.
        batch_size: rows of a batch; the last one of a bucket may have fewer.
        bucket_batches: see `TrainingConfig`.
        seed: of the run.
        epoch: counted from 1.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        batch_size: int,
        *,
        bucket_batches: int,
        seed: int,
        epoch: int,
    ) -> None:
        generator = np.random.default_rng([seed, epoch])
        self._lengths = lengths
        self._batch_size = batch_size
        self._bucket_batches = bucket_batches
        self._rows = generator.permutation(len(lengths))
        self._order = generator.permutation(num_batches(len(lengths), batch_size))

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> NDArray[np.int64]:
        """Row numbers of the batch at a position, counted from 0."""
        bucket, at = divmod(int(self._order[position]), self._bucket_batches)
        size = self._batch_size * self._bucket_batches
        rows = self._rows[bucket * size : (bucket + 1) * size]
        if self._bucket_batches > 1:
            rows = rows[np.argsort(self._lengths[rows], kind="stable")]
        return rows[at * self._batch_size : (at + 1) * self._batch_size]
