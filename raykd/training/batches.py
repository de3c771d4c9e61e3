"""Assignment of rows to batches, workers and micro-batches, a function of seed and epoch."""

import numpy as np
from numpy.typing import NDArray


def num_batches(num_rows: int, batch_size: int) -> int:
    """Number of batches per epoch, including an incomplete last one."""
    return -(-num_rows // batch_size)


def split_into_micro_batches(
    lengths: NDArray[np.int64], overhead_tokens: float, max_tokens: int | None = None
) -> list[NDArray[np.int64]]:
    """Split rows by length into micro-batches of the least total cost.

    A micro-batch is padded to its longest row and costs its tokens, including padding, plus
    `overhead_tokens`. A row longer than `max_tokens` gets its own micro-batch; otherwise each
    micro-batch has at least two rows, since measures of pairs of rows are taken within one.

    Args:
        lengths: (B,) tokens per row.
        overhead_tokens: fixed cost of a micro-batch, in tokens.
        max_tokens: maximum tokens per micro-batch; None for no limit.

    Returns:
        Positions in `lengths` of the rows of each micro-batch.
    """
    order = np.argsort(lengths, kind="stable")
    ascending = lengths[order]
    # Least cost of the first `end` rows, and the first row of the last of their micro-batches.
    costs, begins = np.zeros(len(order) + 1), np.zeros(len(order) + 1, np.int64)
    min_rows = 1 if len(order) < 2 or max_tokens is not None else 2
    for end in range(1, len(order) + 1):
        longest = ascending[end - 1]
        tokens = np.arange(end, 0, -1) * longest
        first = 0 if max_tokens is None else min(int(np.sum(tokens > max_tokens)), end - 1)
        candidates = costs[first:end] + tokens[first:] + overhead_tokens
        candidates[max(0, end - first - min_rows + 1) :] = np.inf
        best = int(candidates.argmin())
        costs[end], begins[end] = candidates[best], first + best
    micro_batches, end = [], len(order)
    while end:
        micro_batches.append(order[begins[end] : end])
        end = int(begins[end])
    return micro_batches[::-1]


def split_for_workers(lengths: NDArray[np.int64], num_workers: int) -> list[NDArray[np.int64]]:
    """Split rows by length into shares with about equal numbers of tokens.

    Each share holds rows of similar length, so that its micro-batches are few and have little
    padding. A share has at least two rows if there are enough rows, otherwise one.

    Args:
        lengths: (B,) tokens per row.
        num_workers: number of shares.

    Returns:
        Positions in `lengths` of the rows of each share, shortest rows first; the last shares are
        empty if there are fewer rows than workers.
    """
    order = np.argsort(lengths, kind="stable")
    min_rows = 2 if len(order) >= 2 * num_workers else 1
    tokens = np.concatenate([[0], np.cumsum(lengths[order])])
    bounds = [0]
    for left in range(num_workers - 1, 0, -1):
        target = tokens[-1] * (1 - left / num_workers)
        nearest = int(np.abs(tokens - target).argmin())
        low, high = bounds[-1] + min_rows, len(order) - min_rows * left
        bounds.append(min(max(min(nearest, high), low), len(order)))
    return np.split(order, bounds[1:])


class EpochBatches:
    """Sequence of an epoch's batches; each row is in exactly one.

    The order is a function of (seed, epoch), the same on all workers and after a resume. Batches
    are computed on access, in constant time.

    Args:
        lengths: (N,) tokens per row.
        batch_size: rows per batch; the last batch of a bucket may have fewer.
        bucket_batches: see `TrainingConfig`.
        seed: seed of the run.
        epoch: epoch number, from 1.
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
        """Row numbers of the batch at a position, from 0."""
        bucket, offset = divmod(int(self._order[position]), self._bucket_batches)
        size = self._batch_size * self._bucket_batches
        rows = self._rows[bucket * size : (bucket + 1) * size]
        if self._bucket_batches > 1:
            rows = rows[np.argsort(self._lengths[rows], kind="stable")]
        return rows[offset * self._batch_size : (offset + 1) * self._batch_size]
