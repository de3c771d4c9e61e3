"""Memories of earlier batches' vectors for contrastive losses, equal on all workers.

Shapes: N rows of the text, B rows of the batch, K negatives per row, Q queue entries, u width.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raykd.objectives.base import Epoch

# Separates these random numbers from others with the same seed and epoch.
_STREAM = 0xC0D1


def random_numbers(seed: int, epoch: int) -> np.random.Generator:
    """Random generator of an epoch, the same on every worker; epoch 0 is before training."""
    return np.random.default_rng([seed, epoch, _STREAM])


class OtherRows:
    """Sampler of K negatives per row, redrawn every epoch.

    In the order of labels, the rows that are no negatives of a row are contiguous; its pool is all
    rows before and after them. The pool is split into K parts whose sizes differ by at most one,
    and each part contributes one row: K different rows if the pool has as many, otherwise each of
    its rows about equally often. The positions within the parts are shared by all rows of an epoch,
    but each row indexes its pool cyclically from a random start, so that every row of the pool is
    equally likely. Positions and starts depend only on (seed, epoch) and the row, not on its batch
    or worker.

    Args:
        labels: (N,) labels of all rows.
        margin: largest difference of labels at which rows are no negatives of each other.
        num_draws: negatives per row, K.
    """

    def __init__(self, labels: Tensor, margin: float, num_draws: int) -> None:
        labels = labels.double()  # row numbers can be labels
        in_order, self._order = labels.sort(stable=True)
        self._start = torch.searchsorted(in_order, labels - margin)
        self._stop = torch.searchsorted(in_order, labels + margin, right=True)
        self._num_draws = num_draws

    @property
    def num_rows(self) -> int:
        """Number of rows, N."""
        return len(self._order)

    def num_different(self, row_ids: Tensor) -> Tensor:
        """Number of different negatives (B,) per row of (B,)."""
        return self._pool_sizes(row_ids).clamp(max=self._num_draws)

    def start_epoch(self, epoch: Epoch) -> None:
        """Draw the epoch's positions and starts."""
        random = random_numbers(epoch.seed, epoch.number)
        device = self._order.device
        self._places = torch.from_numpy(random.random(self._num_draws)).to(device)
        self._starts = torch.from_numpy(random.random(len(self._order))).to(device)

    def draw(self, row_ids: Tensor) -> Tensor:
        """Negatives (B, K) of (B,) rows in the epoch."""
        start = self._start[row_ids][:, None]
        size = self._pool_sizes(row_ids)[:, None]
        part = torch.arange(self._num_draws + 1, device=row_ids.device) * size // self._num_draws
        place = part[:, :-1] + (self._places * part.diff(dim=1)).long()
        place = (place + (self._starts[row_ids][:, None] * size).long()) % size
        excluded = self.num_rows - size
        return self._order[torch.where(place < start, place, place + excluded)]

    def _pool_sizes(self, row_ids: Tensor) -> Tensor:
        return self.num_rows - (self._stop[row_ids] - self._start[row_ids])


class Bank(nn.Module):
    """Memory bank with one vector per row of the text: N * u * 4 bytes.

    Args:
        initial: initial vectors (N, u).
        momentum: weight of a row's old vector in an update.
    """

    vectors: Tensor

    def __init__(self, initial: Tensor, momentum: float) -> None:
        super().__init__()
        self.register_buffer("vectors", initial)
        self._momentum = momentum

    def cosines(self, anchors: Tensor, row_ids: Tensor) -> Tensor:
        """Cosines (B, K) of anchors (B, u) with the vectors of rows (B, K)."""
        return torch.einsum("bu,bku->bk", anchors, self.vectors[row_ids])

    def update(self, row_ids: Tensor, vectors: Tensor) -> None:
        """Update the vectors of different rows (B,) with (B, u) by momentum, and normalize them."""
        mixed = self._momentum * self.vectors[row_ids] + (1 - self._momentum) * vectors
        self.vectors[row_ids] = F.normalize(mixed, dim=-1)


class Queue(nn.Module):
    """Queue of the last Q vectors and their rows: Q * u * 4 bytes; initial ones have row -1.

    Args:
        initial: initial vectors (Q, u).
    """

    vectors: Tensor
    row_ids: Tensor

    def __init__(self, initial: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", initial)
        self.register_buffer("row_ids", initial.new_full((len(initial),), -1, dtype=torch.int64))

    def push(self, row_ids: Tensor, vectors: Tensor) -> None:
        """Append vectors (B, u) of rows (B,) and remove the oldest."""
        # New tensors: a backward pass may still need the old ones.
        size = len(self.row_ids)
        self.vectors = torch.cat([self.vectors, vectors])[-size:]
        self.row_ids = torch.cat([self.row_ids, row_ids])[-size:]


def random_vectors(num_vectors: int, width: int, random: np.random.Generator) -> Tensor:
    """Vectors (num_vectors, width), uniform in +-sqrt(3 / width): mean squared length 1."""
    bound = (3 / width) ** 0.5
    uniform = torch.from_numpy(random.random((num_vectors, width), dtype=np.float32))
    return uniform.mul_(2 * bound).sub_(bound)
