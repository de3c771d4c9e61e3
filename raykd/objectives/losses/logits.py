"""Task and logit losses, computed in float32 even under autocast.

Shapes: B rows, C classes (1: regression). In a multi-label task, whose rows have any number of
classes, each class is a binary decision: softmax and cross-entropy over classes become the sigmoid
and the binary cross-entropy of each class, means over rows and classes.

Published code scales the logit divergence differently, by factors that can be set as a weight: PKD
averages over classes as well (1 / C), and so does TinyBERT's second stage, with a cross-entropy
instead of the divergence; TextBrewer omits T^2; CoDIR sums over rows, and its trainer divides by B.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class GoldLabels(NamedTuple):
    """Weighting of gold labels in the cross-entropy of classes.

    Attributes:
        class_weights: (C,) weight of each class; None: all classes have the same.
        smoothing: share of the target that is spread evenly over all classes, in [0, 1).
    """

    class_weights: Tensor | None = None
    smoothing: float = 0.0


PLAIN = GoldLabels()


def task_loss(
    logits: Tensor, labels: Tensor, gold: GoldLabels = PLAIN, scale: Tensor | None = None
) -> Tensor:
    """Cross-entropy with gold labels, or squared error for regression; mean over rows.

    For a multi-label task it is the binary cross-entropy, mean over rows and classes.

    Class weights and smoothing are those of `torch.nn.functional.cross_entropy`: with weights the
    mean is a weighted one, the sum over rows divided by the sum of the weights of their classes.

    Args:
        logits: (B, C).
        labels: (B,) int64 classes; (B,) or (B, 1) scores if C is 1; or, of a multi-label task,
            (B, C) float32, 1 for the row's classes and 0 for all others.
        gold: class weights and smoothing; only for classes, of which a row has one.
        scale: (B,) number of rows of the whole batch, divided by the sum of their classes' weights,
            where these rows are a part of a batch. None: they are the whole batch.
    """
    if logits.size(-1) == 1:
        return _squared_error(logits, labels)
    with _float32(logits):
        student = wide(logits)
        if labels.ndim == 2:
            is_plain = gold.class_weights is None and not gold.smoothing
            assert is_plain, "class weights and smoothing are of rows with one class"
            return F.binary_cross_entropy_with_logits(student, labels.to(student))
        weights = None if gold.class_weights is None else gold.class_weights.to(student)
        targets = labels.flatten()
        if scale is None:
            return F.cross_entropy(student, targets, weights, label_smoothing=gold.smoothing)
        by_row = F.cross_entropy(
            student, targets, weights, reduction="none", label_smoothing=gold.smoothing
        )
        return (by_row * scale).mean()


def kd_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, *, multi_label: bool = False
) -> Tensor:
    """`T^2 * KL(softmax(teacher / T) || softmax(student / T))`, summed over C, mean over rows.

    With C = 1 (regression) it is the squared error of the scores, without temperature. With
    `multi_label` it is `T^2` times the KL divergence of each class's two outcomes, with the
    probabilities `sigmoid(logit / T)`, mean over rows and classes.
    Source: Hinton et al. 2015, section 2; see `vanilla_kd`.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C), or (B,) if C is 1.
        temperature: T > 0.
        multi_label: whether rows have any number of classes.
    """
    if student_logits.size(-1) == 1:
        return _squared_error(student_logits, teacher_logits)
    assert student_logits.shape == teacher_logits.shape, (
        student_logits.shape,
        teacher_logits.shape,
    )
    if multi_label:
        with _float32(student_logits):
            student, teacher = (
                wide(student_logits) / temperature,
                wide(teacher_logits) / temperature,
            )
            return _binary_divergence(student, teacher) * temperature**2
    with _float32(student_logits):
        student = F.log_softmax(wide(student_logits) / temperature, dim=-1)
        teacher = F.log_softmax(wide(teacher_logits) / temperature, dim=-1)
        return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Binary cross-entropy of the teacher's probabilities, mean over rows and classes.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C).
    """
    with _float32(student_logits):
        student, teacher = wide(student_logits), wide(teacher_logits)
        return F.binary_cross_entropy_with_logits(student, teacher.sigmoid())


def _binary_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of each class's two outcomes, mean over rows and classes."""
    yes = teacher.sigmoid() * (F.logsigmoid(teacher) - F.logsigmoid(student))
    no = (-teacher).sigmoid() * (F.logsigmoid(-teacher) - F.logsigmoid(-student))
    return (yes + no).mean()


def wide(tensor: Tensor) -> Tensor:
    """Cast to at least float32."""
    return tensor if tensor.element_size() >= 4 else tensor.float()


def _squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of scores with shape (B,) or (B, 1)."""
    assert predictions.numel() == targets.numel(), (predictions.shape, targets.shape)
    with _float32(predictions):
        predicted = wide(predictions).flatten()
        return F.mse_loss(predicted, targets.to(predicted.dtype).flatten())


def _float32(tensor: Tensor) -> torch.autocast:
    """Switch autocast off for the tensor's device."""
    return torch.autocast(tensor.device.type, enabled=False)
