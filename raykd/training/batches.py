"""Which rows stand in which batch: an order that depends on seed and epoch alone."""

import numpy as np
from numpy.typing import NDArray


def num_batches(num_rows: int, batch_size: int) -> int:
    """Batches of an epoch, the incomplete last one included."""
    return -(-num_rows // batch_size)


def split_into_micro_batches(
    lengths: NDArray[np.int64], overhead_tokens: float, max_tokens: int | None = None
) -> list[NDArray[np.int64]]:
    """Cut rows into passes, each padded to its longest row, at the least cost.

    A pass costs its tokens, padding included, and `overhead_tokens` more. None has more than
    `max_tokens`, but a row that is longer has a pass of its own; otherwise no row is alone, since
    what is measured of pairs of rows is measured in a pass.

    Args:
        lengths: (B,) tokens of each row.
        overhead_tokens: what a pass costs beside its tokens, in tokens.
        max_tokens: None for any number.

    Returns:
        Positions in `lengths` of the rows of each pass.
    """
    order = np.argsort(lengths, kind="stable")
    ascending = lengths[order]
    # The least cost of the first `end` rows, and where the last pass of those begins.
    costs, begins = np.zeros(len(order) + 1), np.zeros(len(order) + 1, np.int64)
    fewest = 1 if len(order) < 2 or max_tokens is not None else 2
    for end in range(1, len(order) + 1):
        longest = ascending[end - 1]
        tokens = np.arange(end, 0, -1) * longest
        first = 0 if max_tokens is None else min(int(np.sum(tokens > max_tokens)), end - 1)
        of_last = costs[first:end] + tokens[first:] + overhead_tokens
        of_last[max(0, end - first - fewest + 1) :] = np.inf
        best = int(of_last.argmin())
        costs[end], begins[end] = of_last[best], first + best
    passes, end = [], len(order)
    while end:
        passes.append(order[begins[end] : end])
        end = int(begins[end])
    return passes[::-1]


def split_for_workers(lengths: NDArray[np.int64], num_workers: int) -> list[NDArray[np.int64]]:
    """Cut rows by length into shares of about equally many tokens.

    Each share holds rows of similar length, so that its micro-batches are few and have little
    padding. A share has at least two rows if there are enough rows, otherwise one.

    Args:
        lengths: (B,) tokens of each row.
        num_workers: shares wanted.

    Returns:
        Positions in `lengths` of the rows of each share, the shortest first; the last shares are
        empty where there are fewer rows than workers.
    """
    order = np.argsort(lengths, kind="stable")
    fewest = 2 if len(order) >= 2 * num_workers else 1
    tokens = np.concatenate([[0], np.cumsum(lengths[order])])
    bounds = [0]
    for left in range(num_workers - 1, 0, -1):
        wanted = tokens[-1] * (1 - left / num_workers)
        nearest = int(np.abs(tokens - wanted).argmin())
        low, high = bounds[-1] + fewest, len(order) - fewest * left
        bounds.append(min(max(min(nearest, high), low), len(order)))
    return np.split(order, bounds[1:])


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
