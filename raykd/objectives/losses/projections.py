"""Linear projections of two networks' vectors to a common width."""

from typing import Literal

import torch
from torch import Tensor, nn

TeacherProjection = Literal["trainable", "frozen_orthogonal"]
FirstMaps = Literal["equal", "random"]


class Projection(nn.Module):
    """Linear maps without bias, initialized orthogonally: one for all slots, or one per slot.

    Args:
        width: width of the vectors.
        size: width of the projection.
        num_maps: 1, or the number of slots.
        frozen: whether to keep the initial weights. If the maps of both networks are trained, they
            can collapse to a constant vector; with the teacher's frozen they cannot.
    """

    def __init__(self, width: int, size: int, *, num_maps: int = 1, frozen: bool = False) -> None:
        super().__init__()
        weight = torch.empty(num_maps, size, width)
        for matrix in weight:
            nn.init.orthogonal_(matrix)
        self.weight = nn.Parameter(weight, requires_grad=not frozen)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map (B, slots, width) to (B, slots, size)."""
        return torch.einsum("bsw,suw->bsu", vectors, self.weight.expand(vectors.size(1), -1, -1))

    @torch.no_grad()
    def copy(self, other: "Projection") -> None:
        """Take the weights of another projection; nothing if its vectors have another width.

        With two independent maps, equal vectors are at first as far from each other as any two,
        and a student lowers that loss most easily by giving all texts one vector.
        """
        if self.weight.shape == other.weight.shape:
            self.weight.copy_(other.weight)
