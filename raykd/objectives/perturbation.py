"""Projected gradient ascent on word embeddings: how the perturbation of a text starts and moves.

Shapes: B rows, L tokens, e width of the word embeddings. A perturbation is (B, L, e) float32 and 0
on padding; no row's depends on another's.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Norm = Literal["row_l2", "token_l2", "token_linf"]
Initialisation = Literal["zeros", "uniform", "gaussian"]


class Ascent(NamedTuple):
    """How a perturbation is found.

    Attributes:
        steps: steps of ascent.
        epsilon: the largest size of a perturbation, in `norm`.
        step_size: the size of a step, in `norm`.
        norm: L2 of all of a row's tokens together, or L2 or the largest entry of each token.
        initialisation: where it starts.
        initial_size: of a uniform start, the largest size that it can have in `norm`; of a
            gaussian one, the standard deviation of each entry.
    """

    steps: int
    epsilon: float
    step_size: float
    norm: Norm
    initialisation: Initialisation
    initial_size: float


def perturbation(
    word_embeddings: Tensor,
    attention_mask: Tensor,
    ascent: Ascent,
    loss_of: Callable[[Tensor], Tensor],
    first_gradient: Tensor | None = None,
) -> Tensor:
    """The perturbation after all steps; nothing but it is differentiated by.

    Args:
        word_embeddings: (B, L, e); they stay as they are.
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        ascent: how to find it.
        loss_of: the loss that is to grow, of perturbed word embeddings: a sum over the rows, which
            keeps a row's gradient the same in batches of any size.
        first_gradient: (B, L, e), where the loss's gradient at the start is known already.
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
    """The perturbation before the first step.

    Source of the uniform start: Zhu et al. 2020, "FreeLB"; of the gaussian one: Jiang et al. 2020,
    "SMART"; both as in their code.

    Args:
        word_embeddings: (B, L, e), for their shape.
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        ascent: initialisation, initial_size and norm are read.
    """
    start = torch.zeros_like(word_embeddings, dtype=torch.float32)
    if ascent.initialisation == "zeros":
        return start
    is_token = attention_mask[..., None].to(start.dtype)
    if ascent.initialisation == "gaussian":
        return torch.randn_like(start) * is_token * ascent.initial_size
    largest = norms(torch.ones_like(start) * is_token, ascent.norm).clamp(min=1)
    return (2 * torch.rand_like(start) - 1) * is_token / largest * ascent.initial_size


def ascended(delta: Tensor, gradient: Tensor, attention_mask: Tensor, ascent: Ascent) -> Tensor:
    """One step along the normalised gradient, then back into the ball of size epsilon.

    What lies outside of the ball is scaled down, which keeps its direction. Where the gradient is
    0 there is no step.

    Args:
        delta: (B, L, e), 0 on padding.
        gradient: (B, L, e), of what is to grow.
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        ascent: step_size, epsilon and norm are read.
    """
    gradient = gradient.float().masked_fill(attention_mask[..., None] == 0, 0)
    smallest = torch.finfo(gradient.dtype).tiny
    direction = gradient / norms(gradient, ascent.norm).clamp(min=smallest)
    moved = delta + ascent.step_size * direction
    return moved * (ascent.epsilon / norms(moved, ascent.norm).clamp(min=ascent.epsilon))


def norms(vectors: Tensor, norm: Norm) -> Tensor:
    """Sizes of (B, L, e): (B, 1, 1) of the rows, or (B, L, 1) of the tokens."""
    order = torch.inf if norm == "token_linf" else 2
    over = (1, 2) if norm == "row_l2" else (2,)
    sizes: Tensor = torch.linalg.vector_norm(vectors, ord=order, dim=over, keepdim=True)
    return sizes
