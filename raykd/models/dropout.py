"""Dropout whose masks cost little on a CPU.

torch draws its masks there element after element: 7 ns each, an eighth of a student's step
(experiments/LOG.md). Sixteen bits of a fast generator take 0.5 ns; a probability is rounded to
1 / 65,536, and what is kept is scaled by the rounded one.
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
    """While it is entered, dropout and attention with dropout draw their masks as said above.

    Masks depend on torch's generator alone, as always. Other devices, and calls that drop nothing,
    are left to torch.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What torch calls in place of each of its functions."""
        given = dict(kwargs or {})
        if func is functional.dropout and (found := _dropped(*args, **given)) is not None:
            return found
        if func is functional.scaled_dot_product_attention:
            found = _attended(*args, **given)
            if found is not None:
                return found
        return func(*args, **given)


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
        mask: None, or broadcasts to (B, heads, L, M): what is attended to, or numbers to be added.
        probability: of a weight's being dropped.
        scale: of the products; None: 1 / sqrt(d).

    Returns:
        (B, heads, L, d); what attends to nothing attends to everything alike, not to nothing.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    if mask is not None:
        if mask.dtype == torch.bool:
            # Not -inf, which makes NaN of a row without any key.
            lowest = torch.finfo(scores.dtype).min
            mask = torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, lowest)
        scores = scores.add_(mask) if mask.shape[-2] in (1, scores.shape[-2]) else scores + mask
    return dropout(scores.softmax(-1), probability).to(value.dtype) @ value


def dropout(values: Tensor, probability: float) -> Tensor:
    """The values, each of them 0 with a probability below 1, else scaled up by what that takes."""
    num_dropped = round(probability * _STEPS)
    if num_dropped == 0:
        return values
    bits = torch.from_numpy(_random_bits(values.numel())).view(values.shape)
    kept = torch.empty(values.shape, dtype=values.dtype)
    torch.ge(bits, num_dropped - _STEPS // 2, out=kept)
    return values * kept.mul_(_STEPS / (_STEPS - num_dropped))


def _random_bits(size: int) -> Any:
    """(size,) int16, all of them equally likely."""
    seed = int(torch.randint(1 << 62, ()))
    drawn = np.random.SFC64(seed).random_raw(-(-size // 4))
    return drawn.view(np.int16)[:size]


def _dropped(
    values: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor | None:
    """None where torch shall do it."""
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
    """None where torch shall do it."""
    if is_causal or enable_gqa or not 0 < dropout_p < 1 or query.device.type != "cpu":
        return None
    return attention(query, key, value, attn_mask, dropout_p, scale)
