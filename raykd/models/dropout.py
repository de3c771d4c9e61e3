"""Fast dropout on the CPU.

torch draws masks element by element: 7 ns each, an eighth of a student's step
(experiments/LOG.md). Sixteen bits of a fast generator take 0.5 ns; a probability is rounded to
1 / 65,536, and kept values are scaled by the rounded probability.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_STEPS = 1 << 16


class CpuDropout(TorchFunctionMode):
    """Torch function mode in which dropout and attention with dropout draw fast masks.

    Masks depend only on torch's generator. Other devices, and calls without dropout, use torch's
    implementation.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace dropout and attention; torch calls this instead of each of its functions."""
        named = dict(kwargs or {})
        if func is functional.dropout and (result := _dropped(*args, **named)) is not None:
            return result
        if func is functional.scaled_dot_product_attention:
            result = _attended(*args, **named)
            if result is not None:
                return result
        return func(*args, **named)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    probability: float,
    scale: float | None = None,
) -> Tensor:
    """Scaled dot-product attention with dropout of its weights.

    Args:
        query: (B, heads, L, d)
        key: (B, heads, M, d)
        value: (B, heads, M, d)
        mask: None, or broadcastable to (B, heads, L, M): boolean mask, or numbers to add to scores.
        probability: probability of dropping a weight.
        scale: factor of the products; None for 1 / sqrt(d).

    Returns:
        (B, heads, L, d); a query whose keys are all masked attends to all of them equally.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    if mask is not None:
        if mask.dtype == torch.bool:
            # Not -inf, which gives NaN for a row without any key.
            lowest = torch.finfo(scores.dtype).min
            mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, lowest)
        scores = scores.add_(mask) if mask.shape[-2] in (1, scores.shape[-2]) else scores + mask
    return dropout(scores.softmax(-1), probability).to(value.dtype) @ value


def dropout(values: Tensor, probability: float) -> Tensor:
    """Set each value to 0 with a probability below 1 and scale the others to keep the mean."""
    num_dropped = round(probability * _STEPS)
    if num_dropped == 0:
        return values
    bits = torch.from_numpy(_random_bits(values.numel())).view(values.shape)
    kept = torch.empty(values.shape, dtype=values.dtype)
    torch.ge(bits, num_dropped - _STEPS // 2, out=kept)
    return values * kept.mul_(_STEPS / (_STEPS - num_dropped))


def _random_bits(size: int) -> Any:
    """Uniform random int16 numbers, (size,)."""
    seed = int(torch.randint(1 << 62, ()))
    drawn = np.random.SFC64(seed).random_raw(-(-size // 4))
    return drawn.view(np.int16)[:size]


def _dropped(
    values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor | None:
    """Result of a fast implementation; None to use torch's."""
    if not training or inplace or not 0 < p < 1 or values.device.type != "cpu":
        return None
    return dropout(values, p)


def _attended(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor | None:
    """Result of a fast implementation; None to use torch's."""
    if is_causal or enable_gqa or not 0 < dropout_p < 1 or query.device.type != "cpu":
        return None
    return attention(query, key, value, attn_mask, dropout_p, scale)
