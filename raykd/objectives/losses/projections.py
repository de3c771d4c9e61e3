"""Linear maps of two networks' vectors to the width in which they are compared."""

from typing import Literal

import torch
from torch import Tensor, nn

TeacherProjection = Literal["trainable", "frozen_orthogonal"]


class Projection(nn.Module):
    """Linear maps without bias, from an orthogonal start: one for all slots, or one for each.

    Args:
        width: of the vectors.
        size: of what they are mapped to.
        num_maps: 1, or as many as there are slots.
        frozen: keep the start. If both networks' maps are trained, mapping everything to the same
            vector makes them agree; with the teacher's frozen it does not.
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
