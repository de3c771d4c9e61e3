"""What objectives compare of hidden states: one vector a row.

Shapes: B rows, L tokens, d width.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Pooling = Literal["cls", "mean"]


def pooled(hidden_states: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """The first token's vector, or the mean over the tokens that are not padding, (B, d) float32.

    Args:
        hidden_states: (B, L, d).
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        pooling: which.
    """
    if pooling == "cls":
        return hidden_states[:, 0].float()
    mask = attention_mask[..., None].to(torch.float32)
    return (hidden_states.float() * mask).sum(1) / mask.sum(1).clamp(min=1)


def pooled_layers(
    hidden_states: Mapping[int, Tensor],
    layers: Iterable[int],
    attention_mask: Tensor,
    pooling: Pooling,
) -> Tensor:
    """`pooled` of several layers, (B, layers, d) float32."""
    return torch.stack(
        [pooled(hidden_states[layer], attention_mask, pooling) for layer in layers], dim=1
    )


def mean_pairwise_cosine(vectors: Tensor) -> Tensor:
    """Mean cosine of all pairs of different rows of (B, d): 1 where all point the same way.

    A single row has no pair: 0.
    """
    unit = F.normalize(vectors.float(), dim=-1)
    num_rows = len(unit)
    if num_rows < 2:
        return unit.new_zeros(())
    total = unit.sum(0).square().sum() - unit.square().sum()
    return total / (num_rows * (num_rows - 1))
