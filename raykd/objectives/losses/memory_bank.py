"""What contrastive losses remember of earlier batches, the same on all workers.

Shapes: N rows of the text, B rows of the batch, K negatives of a row, Q places, u width.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raykd.objectives.base import Epoch

# Sets these random numbers apart from others that are drawn from the same seed and epoch.
_STREAM = 0xC0D1


def random_numbers(seed: int, epoch: int) -> np.random.Generator:
    """The source of an epoch's draws, the same on every worker; epoch 0 is before training."""
    return np.random.default_rng([seed, epoch, _STREAM])


class OtherRows:
    """For each row, K rows that it shall be told apart from, drawn anew every epoch.

    In the order of the labels, the rows that a row shall not be told apart from stand side by
    side; its pool is what stands before and after them. The pool is cut into K parts of equal
    size, up to one row, and each gives one row: K different rows wherever the pool has as many;
    otherwise each of its rows once, or equally often up to one. All rows of an epoch share the
    places in the parts, but each counts its pool from another place on, going round, so that every
    row of the pool is equally likely. Places and starts depend on (seed, epoch) and the row alone,
    not on its batch or on the worker.

    Args:
        labels: (N,) of all rows.
        margin: rows whose labels differ by no more than this are not told apart.
        num_draws: K.
    """

    def __init__(self, labels: Tensor, margin: float, num_draws: int) -> None:
        labels = labels.double()  # Row numbers can be labels.
        in_order, self._order = labels.sort(stable=True)
        self._start = torch.searchsorted(in_order, labels - margin)
        self._stop = torch.searchsorted(in_order, labels + margin, right=True)
        self._num_draws = num_draws

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self._order)

    def num_different(self, row_ids: Tensor) -> Tensor:
        """How many different rows are drawn for each of (B,) rows, (B,)."""
        return self._pool_sizes(row_ids).clamp(max=self._num_draws)

    def start_epoch(self, epoch: Epoch) -> None:
        """Choose the epoch's places and starts."""
        random = random_numbers(epoch.seed, epoch.number)
        device = self._order.device
        self._places = torch.from_numpy(random.random(self._num_draws)).to(device)
        self._starts = torch.from_numpy(random.random(len(self._order))).to(device)

    def draw(self, row_ids: Tensor) -> Tensor:
        """The epoch's negatives of (B,) rows, (B, K)."""
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
    """One vector for each row of the text: N * u * 4 bytes.

    Args:
        initial: (N, u).
        momentum: share of its old vector that a row keeps.
    """

    vectors: Tensor

    def __init__(self, initial: Tensor, momentum: float) -> None:
        super().__init__()
        self.register_buffer("vectors", initial)
        self._momentum = momentum

    def cosines(self, anchors: Tensor, row_ids: Tensor) -> Tensor:
        """Of anchors (B, u) with the vectors of rows (B, K) each, (B, K)."""
        return torch.einsum("bu,bku->bk", anchors, self.vectors[row_ids])

    def update(self, row_ids: Tensor, vectors: Tensor) -> None:
        """Mix new vectors (B, u) of different rows (B,) into theirs, and give those length 1."""
        mixed = self._momentum * self.vectors[row_ids] + (1 - self._momentum) * vectors
        self.vectors[row_ids] = F.normalize(mixed, dim=-1)


class Queue(nn.Module):
    """The last Q vectors and their rows: Q * u * 4 bytes; the initial ones belong to row -1.

    Args:
        initial: (Q, u).
    """

    vectors: Tensor
    row_ids: Tensor

    def __init__(self, initial: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", initial)
        self.register_buffer("row_ids", initial.new_full((len(initial),), -1, dtype=torch.int64))

    def push(self, row_ids: Tensor, vectors: Tensor) -> None:
        """Append vectors (B, u) of rows (B,); the oldest leave."""
        # New tensors: the old ones may be waiting for a backward pass.
        size = len(self.row_ids)
        self.vectors = torch.cat([self.vectors, vectors])[-size:]
        self.row_ids = torch.cat([self.row_ids, row_ids])[-size:]


def random_vectors(num_vectors: int, width: int, random: np.random.Generator) -> Tensor:
    """Vectors (num_vectors, width), uniform in +-sqrt(3 / width): their mean square length is 1."""
    bound = (3 / width) ** 0.5
    uniform = torch.from_numpy(random.random((num_vectors, width), dtype=np.float32))
    return uniform.mul_(2 * bound).sub_(bound)
