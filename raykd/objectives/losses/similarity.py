"""Likeness of the vectors of different rows."""

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_pairwise_cosine(vectors: Tensor) -> Tensor:
    """Mean cosine of all pairs of different rows of (B, d): 1 if all have the same direction.

    It is 0 for a single row.
    """
    unit = F.normalize(vectors.float(), dim=-1)
    num_rows = len(unit)
    if num_rows < 2:
        return unit.new_zeros(())
    total = unit.sum(0).square().sum() - unit.square().sum()
    return total / (num_rows * (num_rows - 1))


def mean_cosine(vectors: Tensor) -> Tensor:
    """Mean over slots of the mean cosine of all pairs of different rows of (B, slots, d)."""
    return torch.stack([mean_pairwise_cosine(slot) for slot in vectors.unbind(1)]).mean()
