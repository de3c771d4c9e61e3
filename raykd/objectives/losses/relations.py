"""Relation loss of MiniLMv2, with an explicit gradient that needs little memory.

For row r with n tokens, of B rows, and relation head a of A, S and T are the head's columns of the
row's vectors, of widths k_S = d_S / A and k_T = d_T / A:

    P = softmax(T T^T / sqrt(k_T)),    Q = softmax(S S^T / sqrt(k_S))
    loss = sum over r, a of w sum over tokens i of KL(P[i] || Q[i]),    w = 1 / (B A n)
    dloss/dS = w (G + G^T) S / sqrt(k_S),    G = Q - P

Source: MiniLMv2 (see `minilmv2`), equations 3 to 6, and their derivative.

P, Q and intermediate results are (B, A, L, L). Autograd would write ten such tensors to memory and
keep some for the backward pass. Here the gradient, of the size of S, is computed together with the
loss, for as many matrices at once as fit the CPU's cache, each cut to its row's length.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from raykd.objectives.losses.logits import wide

# Maximum bytes of the score matrices processed at once (at least one matrix). On a CPU, four times
# this stays in its cache: with 3 MB a number takes twice the time (LOG.md).
_CPU_BYTES = 2**18
# On a GPU, few large kernels are faster.
_GPU_BYTES = 2**28


def relation_loss(
    student_vectors: Tensor, teacher_vectors: Tensor, attention_mask: Tensor, num_heads: int
) -> Tensor:
    """KL between the self-relations of teacher and student, which may differ in width.

    Padding is excluded. The divergence is averaged over a row's tokens and heads, then over rows,
    in float32 even under autocast. It cannot be differentiated twice, nor with respect to the
    teacher.

    Args:
        student_vectors: (B, L, d_S), d_S divisible by A.
        teacher_vectors: (B, L, d_T), d_T divisible by A.
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        num_heads: number of relation heads A.
    """
    with torch.autocast(student_vectors.device.type, enabled=False):
        student = wide(student_vectors)
        teacher = teacher_vectors.detach().to(student.dtype)
        arguments = student, teacher, attention_mask, num_heads
        loss: Tensor = _RelationLoss.apply(*arguments)  # type: ignore[no-untyped-call]  # untyped in torch
        return loss


class _RelationLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, mask: Tensor, num_heads: int) -> Tensor:
        loss, gradient = student.new_zeros(()), torch.zeros_like(student)
        weights = _token_weights(mask, num_heads).to(student.dtype)
        for rows, width in _parts(mask, num_heads):
            part_mask = mask[:, :width][rows]
            # Rows of equal length have no padding. Not checked on a GPU, since the check would
            # wait for it.
            is_full = mask.device.type == "cpu" and bool(part_mask.all())
            part_loss, part_gradient = _loss_and_gradient(
                student[:, :width][rows],
                teacher[:, :width][rows],
                None if is_full else part_mask == 0,
                weights[:, :width][rows],
                num_heads,
            )
            loss += part_loss
            gradient[:, :width][rows] = part_gradient
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None, None


def _token_weights(mask: Tensor, num_heads: int) -> Tensor:
    """Weights `w` (B, L) of the tokens, 0 for padding."""
    is_token = mask != 0
    return is_token / (len(mask) * num_heads * is_token.sum(1, keepdim=True).clamp(min=1))


def _parts(mask: Tensor, num_heads: int) -> Iterator[tuple[Tensor | slice, int]]:
    """Rows to process at once, and the length to cut them to.

    On a CPU they have similar lengths. On a GPU they are not cut, since reading their lengths would
    wait for the GPU.
    """
    num_rows, num_tokens = mask.shape
    if mask.device.type != "cpu":
        size = max(1, _GPU_BYTES // _bytes_of(num_heads, num_tokens))
        for first in range(0, num_rows, size):
            yield slice(first, first + size), num_tokens
        return
    positions = torch.arange(1, num_tokens + 1)
    widths, order = ((mask != 0) * positions).amax(1).clamp(min=1).sort(descending=True)
    first = 0
    while first < num_rows:
        width = int(widths[first])
        size = max(1, _CPU_BYTES // _bytes_of(num_heads, width))
        yield order[first : first + size], width
        first += size


def _bytes_of(num_matrices: int, num_tokens: int) -> int:
    return 4 * num_matrices * num_tokens**2


def _loss_and_gradient(
    student: Tensor, teacher: Tensor, padding: Tensor | None, weights: Tensor, num_heads: int
) -> tuple[Tensor, Tensor]:
    """Loss of the rows, and its gradient with respect to the student's vectors.

    Args:
        student: (R, n, d_S).
        teacher: (R, n, d_T).
        padding: mask (R, n); None for no padding.
        weights: token weights (R, n).
        num_heads: number of relation heads A.
    """
    num_rows, num_tokens, width = student.shape
    limit = _CPU_BYTES if student.device.type == "cpu" else _GPU_BYTES
    size = max(1, limit // _bytes_of(1, num_tokens))
    by_head = [_scaled_heads(vectors, num_heads) for vectors in (student, teacher)]
    weights = _for_heads(weights, num_heads)
    paddings = None if padding is None else _for_heads(padding, num_heads)
    loss, gradients = student.new_zeros(()), []
    for first in range(0, num_rows * num_heads, size):
        matrices = slice(first, first + size)
        of_student, of_teacher = (heads[matrices] for heads in by_head)
        hidden = None if paddings is None else paddings[matrices, None, :]
        scores, other_scores = _scores(of_student, hidden), _scores(of_teacher, hidden)
        log_q, log_p = scores.log_softmax(-1), other_scores.log_softmax(-1)
        q, p = torch.exp(log_q, out=scores), torch.exp(log_p, out=other_scores)
        weight = weights[matrices]
        loss += log_p.sub_(log_q).mul_(p).sum(-1).mul_(weight).sum()
        slopes = q.sub_(p)
        weight = weight[..., None]
        one_side = torch.bmm(slopes, of_student).mul_(weight)
        gradients.append(one_side.baddbmm_(slopes.transpose(1, 2), of_student * weight))
    gradient = torch.cat(gradients).view(num_rows, num_heads, num_tokens, -1)
    return loss, (gradient * _scale(width // num_heads)).transpose(1, 2).reshape(student.shape)


def _scaled_heads(vectors: Tensor, num_heads: int) -> Tensor:
    """Scaled vectors (R * A, n, k) whose products are the scores."""
    num_rows, num_tokens, width = vectors.shape
    assert width % num_heads == 0, (width, num_heads)
    heads = vectors.reshape(num_rows, num_tokens, num_heads, -1).transpose(1, 2)
    return (heads * _scale(heads.size(-1))).reshape(num_rows * num_heads, num_tokens, -1)


def _scale(width: int) -> float:
    """Factor for both sides of a product, which divides it by the square root of the width."""
    return float(width**-0.25)


def _for_heads(values: Tensor, num_heads: int) -> Tensor:
    """Repeat values of rows (R, n) for each head, (R * A, n)."""
    return values.repeat_interleave(num_heads, dim=0)


def _scores(heads: Tensor, padding: Tensor | None) -> Tensor:
    """Scaled products of the tokens, (M, n, n); padding columns have the lowest finite number.

    It is finite, so that the divergence of a padding column is 0 * 0 and not 0 * (inf - inf).
    """
    scores = torch.bmm(heads, heads.transpose(1, 2))
    if padding is None:
        return scores
    return scores.masked_fill_(padding, torch.finfo(scores.dtype).min)
