"""Adversarial perturbation of word embeddings by projected gradient ascent.

Shapes: B rows, L tokens, e width of the word embeddings. A perturbation is (B, L, e) float32 and 0
on padding; rows are independent of each other.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Norm = Literal["row_l2", "row_linf", "token_l2", "token_linf"]
Normalized = Literal["gradient", "perturbation"]
Initialization = Literal["zeros", "uniform", "gaussian"]


class Ascent(NamedTuple):
    """Settings of the gradient ascent.

    Attributes:
        steps: number of steps.
        epsilon: maximum size of a perturbation, in `norm`.
        step_size: size of a step, in `norm`.
        norm: L2 norm or largest entry (linf), over all tokens of a row or per token.
        initialization: distribution of the start.
        initial_size: maximum size in `norm` of a uniform start, or standard deviation of each entry
            of a gaussian start.
        normalized: `gradient`: each step has `step_size`, then the perturbation is projected into
            the ball of size `epsilon`. `perturbation`: `step_size` times the raw gradient is added,
            then the perturbation is scaled to `epsilon`, up or down.
    """

    steps: int
    epsilon: float
    step_size: float
    norm: Norm
    initialization: Initialization
    initial_size: float
    normalized: Normalized = "gradient"


def perturbation(
    word_embeddings: Tensor,
    attention_mask: Tensor,
    ascent: Ascent,
    loss_of: Callable[[Tensor], Tensor],
    first_gradient: Tensor | None = None,
) -> Tensor:
    """Perturbation after all steps; gradients with respect to parameters are not computed.

    Args:
        word_embeddings: (B, L, e), unchanged.
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        ascent: settings of the ascent.
        loss_of: function from perturbed word embeddings to the loss to maximize, summed over rows,
            so that a row's gradient does not depend on the batch size.
        first_gradient: (B, L, e) gradient of the loss at the start, if known.
    """
    fixed = word_embeddings.detach()
    delta, gradient = initial(fixed, attention_mask, ascent), first_gradient
    for _ in range(ascent.steps):
        if gradient is None:
            delta.requires_grad_()
            (gradient,) = torch.autograd.grad(loss_of(fixed + delta), delta)
        delta = ascended(delta.detach(), gradient, attention_mask, ascent)
        gradient = None
    return delta


def initial(word_embeddings: Tensor, attention_mask: Tensor, ascent: Ascent) -> Tensor:
    """Perturbation before the first step.

    The uniform start is that of FreeLB's code, the gaussian one that of SMART's code.

    Args:
        word_embeddings: (B, L, e), for its shape.
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        ascent: settings; initialization, initial_size and norm are used.
    """
    start = torch.zeros_like(word_embeddings, dtype=torch.float32)
    if ascent.initialization == "zeros":
        return start
    is_token = attention_mask[..., None].to(start.dtype)
    if ascent.initialization == "gaussian":
        return torch.randn_like(start) * is_token * ascent.initial_size
    largest = norms(torch.ones_like(start) * is_token, ascent.norm).clamp(min=1)
    return (2 * torch.rand_like(start) - 1) * is_token / largest * ascent.initial_size


def ascended(delta: Tensor, gradient: Tensor, attention_mask: Tensor, ascent: Ascent) -> Tensor:
    """Perturbation after one step of ascent and the projection to size epsilon.

    Outside an L2 ball the perturbation is scaled down, outside a linf ball entries are clipped, as
    in FreeLB's code (zhuchen03/FreeLB, eb237016). A zero gradient makes no step.
    `normalized: gradient` is the step of FreeLB and of SMART's first code (namisan/mt-dnn,
    0d6201e2, which keeps no perturbation between steps and has no ball); `perturbation` that of
    SMART's later code (676b48b1).

    Args:
        delta: perturbation (B, L, e), 0 on padding.
        gradient: (B, L, e) gradient of the loss to maximize.
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        ascent: settings; step_size, epsilon, norm and normalized are used.
    """
    gradient = gradient.float().masked_fill(attention_mask[..., None] == 0, 0)
    if ascent.normalized == "perturbation":
        return ascent.epsilon * _unit(delta + ascent.step_size * gradient, ascent.norm)
    moved = delta + ascent.step_size * _unit(gradient, ascent.norm)
    if ascent.norm.endswith("linf"):
        return moved.clamp(-ascent.epsilon, ascent.epsilon)
    return moved * (ascent.epsilon / norms(moved, ascent.norm).clamp(min=ascent.epsilon))


def _unit(vectors: Tensor, norm: Norm) -> Tensor:
    """Scale to size 1; zeros stay 0."""
    return vectors / norms(vectors, norm).clamp(min=torch.finfo(vectors.dtype).tiny)


def norms(vectors: Tensor, norm: Norm) -> Tensor:
    """Sizes of (B, L, e): (B, 1, 1) per row, or (B, L, 1) per token."""
    order = torch.inf if norm.endswith("linf") else 2
    over = (1, 2) if norm.startswith("row") else (2,)
    sizes: Tensor = torch.linalg.vector_norm(vectors, ord=order, dim=over, keepdim=True)
    return sizes
