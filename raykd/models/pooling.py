"""Pooling of hidden states to one vector per row.

Shapes: B rows, L tokens, d width.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["cls", "mean"]


def pooled(hidden_states: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """First token's vector, or mean over the non-padding tokens, (B, d) float32.

    Args:
        hidden_states: (B, L, d), or already pooled ones (B, 1, d).
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        pooling: kind of pooling.
    """
    if pooling == "cls" or hidden_states.size(1) == 1:
        return hidden_states[:, 0].float()
    mask = attention_mask[..., None].to(torch.float32)
    return (hidden_states.float() * mask).sum(1) / mask.sum(1).clamp(min=1)


def pooled_layers(
    hidden_states: Mapping[int, Tensor],
    layers: Iterable[int],
    attention_mask: Tensor,
    pooling: Pooling,
) -> Tensor:
    """Pooled vectors of several layers, (B, layers, d) float32."""
    return torch.stack(
        [pooled(hidden_states[layer], attention_mask, pooling) for layer in layers], dim=1
    )
