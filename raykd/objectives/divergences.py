"""Pure losses, computed in float32 even under autocast.

Shapes: B rows, C classes (1: regression), L tokens, d width, A relation heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with gold classes, or squared error for regression; mean over rows.

    Args:
        logits: (B, C).
        labels: (B,) int64 classes, or (B,) or (B, 1) scores where C is 1.
    """
    if logits.size(-1) == 1:
        return _squared_error(logits, labels)
    with _float32(logits):
        return F.cross_entropy(logits.float(), labels.flatten())


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """`T^2 * KL(softmax(teacher / T) || softmax(student / T))`, summed over C, mean over rows.

    With one class (regression) the squared error of the scores, without temperature.
    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C); (B,) will do where C is 1.
        temperature: T > 0.
    """
    if student_logits.size(-1) == 1:
        return _squared_error(student_logits, teacher_logits)
    assert student_logits.shape == teacher_logits.shape, (
        student_logits.shape,
        teacher_logits.shape,
    )
    with _float32(student_logits):
        student = F.log_softmax(student_logits.float() / temperature, dim=-1)
        teacher = F.log_softmax(teacher_logits.float() / temperature, dim=-1)
        return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def relation_loss(
    student_vectors: Tensor, teacher_vectors: Tensor, attention_mask: Tensor, num_heads: int
) -> Tensor:
    """KL between the self-relations of teacher and student, which may differ in width.

    Vectors are split into A relation heads of d / A columns; a head's relation is
    `softmax(X X^T / sqrt(d / A))` over the tokens that are not padding. The divergence is averaged
    over a row's tokens and heads, then over rows.
    Source: Wang et al. 2021, "MiniLMv2", equations 3 to 6.

    Args:
        student_vectors: (B, L, d_S), d_S divisible by A.
        teacher_vectors: (B, L, d_T), d_T divisible by A.
        attention_mask: (B, L), 1 for tokens and 0 for padding.
        num_heads: A.
    """
    with _float32(student_vectors):
        student = _log_relations(student_vectors, attention_mask, num_heads)
        teacher = _log_relations(teacher_vectors, attention_mask, num_heads)
        by_token = F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)
        mask = attention_mask.to(by_token.dtype)
        by_row = (by_token.mean(1) * mask).sum(-1) / mask.sum(-1).clamp(min=1)
        return by_row.mean()


def _log_relations(vectors: Tensor, attention_mask: Tensor, num_heads: int) -> Tensor:
    """Log of the relations, (B, A, L, L); columns of padding hold the lowest finite number."""
    num_rows, num_tokens, width = vectors.shape
    assert width % num_heads == 0, (width, num_heads)
    heads = vectors.float().view(num_rows, num_tokens, num_heads, -1).transpose(1, 2)
    scores = heads @ heads.transpose(-1, -2) / heads.size(-1) ** 0.5
    # Finite, so that the divergence of a padded column is 0 * 0 and not 0 * (inf - inf).
    lowest = torch.finfo(scores.dtype).min
    scores = scores.masked_fill(attention_mask[:, None, None, :] == 0, lowest)
    return F.log_softmax(scores, dim=-1)


def _squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of equally many scores, whether (B,) or (B, 1)."""
    assert predictions.numel() == targets.numel(), (predictions.shape, targets.shape)
    with _float32(predictions):
        return F.mse_loss(predictions.float().flatten(), targets.float().flatten())


def _float32(tensor: Tensor) -> torch.autocast:
    """Switch autocast off for the tensor's device."""
    return torch.autocast(tensor.device.type, enabled=False)
