"""Projected gradient ascent on word embeddings: how the perturbation of a text starts and moves.

Shapes: B rows, L tokens, e width of the word embeddings. A perturbation is (B, L, e) float32 and 0
on padding; no row's depends on another's.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Norm = Literal["row_l2", "row_linf", "token_l2", "token_linf"]
Normalized = Literal["gradient", "perturbation"]
Initialisation = Literal["zeros", "uniform", "gaussian"]


class Ascent(NamedTuple):
    """How a perturbation is found.

    Attributes:
        steps: steps of ascent.
        epsilon: the largest size of a perturbation, in `norm`.
        step_size: the size of a step, in `norm`.
        norm: L2 norm or largest entry (linf), of all of a row's tokens together or of each token.
        initialisation: where it starts.
        initial_size: of a uniform start, the largest size that it can have in `norm`; of a
            gaussian one, the standard deviation of each entry.
        normalized: what has the size of a step or of epsilon. `gradient`: a step has `step_size`,
            then the perturbation is brought back into the ball. `perturbation`: `step_size` times
            the gradient itself is added, then the perturbation is scaled to `epsilon`, up or down.
    """

    steps: int
    epsilon: float
    step_size: float
    norm: Norm
    initialisation: Initialisation
    initial_size: float
    normalized: Normalized = "gradient"


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
    """One step of ascent, and the perturbation's size bounded by epsilon.

    Outside of an L2 ball a perturbation is scaled down, outside of a linf ball each entry is cut,
    as FreeLB's code does (zhuchen03/FreeLB, eb237016). Where the gradient is 0 there is no step.
    `normalized: gradient` is the step of FreeLB and of SMART's first code (namisan/mt-dnn,
    0d6201e2, which keeps no perturbation between steps and has no ball); `perturbation` that of
    SMART's later code (676b48b1).

    Args:
        delta: (B, L, e), 0 on padding.
        gradient: (B, L, e), of what is to grow.
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        ascent: step_size, epsilon, norm and normalized are read.
    """
    gradient = gradient.float().masked_fill(attention_mask[..., None] == 0, 0)
    if ascent.normalized == "perturbation":
        return ascent.epsilon * _unit(delta + ascent.step_size * gradient, ascent.norm)
    moved = delta + ascent.step_size * _unit(gradient, ascent.norm)
    if ascent.norm.endswith("linf"):
        return moved.clamp(-ascent.epsilon, ascent.epsilon)
    return moved * (ascent.epsilon / norms(moved, ascent.norm).clamp(min=ascent.epsilon))


def _unit(vectors: Tensor, norm: Norm) -> Tensor:
    """Scaled to size 1; what is 0 stays 0."""
    return vectors / norms(vectors, norm).clamp(min=torch.finfo(vectors.dtype).tiny)


def norms(vectors: Tensor, norm: Norm) -> Tensor:
    """Sizes of (B, L, e): (B, 1, 1) of the rows, or (B, L, 1) of the tokens."""
    order = torch.inf if norm.endswith("linf") else 2
    over = (1, 2) if norm.startswith("row") else (2,)
    sizes: Tensor = torch.linalg.vector_norm(vectors, ord=order, dim=over, keepdim=True)
    return sizes
