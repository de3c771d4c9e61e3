"""Contrastive losses between student and teacher with negatives from a memory.

Shapes: N rows of the text, B rows of the batch, K negatives per row, u width. Vectors are unit
vectors, so that inner products are cosines. Losses are computed in the vectors' precision.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raykd.objectives.base import Epoch
from raykd.objectives.losses.gather import rows_of_all_workers
from raykd.objectives.losses.memory_bank import Bank, OtherRows, Queue

# Added to denominators in the authors' code of CRD and CoDIR.
_GUARD = 1e-7


def infonce_loss(cosines: Tensor, temperature: float) -> Tensor:
    """`-log softmax(cosines / temperature)` of the positive, mean over rows.

    Source: CoDIR, section 3.

    Args:
        cosines: (B, 1 + K), the positive first; -inf for entries that are no candidates.
        temperature: tau > 0.
    """
    return -F.log_softmax(cosines / temperature, dim=-1)[:, 0].mean()


def nce_loss(cosines: Tensor, normalizer: Tensor, num_rows: int, temperature: float) -> Tensor:
    """NCE of the positive against K draws from N equally likely rows; sum over K, mean over rows.

    Source: the authors' code of CoDIR; CRD, equation 18.

    Args:
        cosines: (B, 1 + K), the positive first.
        normalizer: Z > 0, a scalar.
        num_rows: N.
        temperature: tau > 0.
    """
    noise = (cosines.size(1) - 1) / num_rows
    # P / (P + noise) is the sigmoid of this.
    log_ratio = cosines / temperature - normalizer.log() - math.log(noise + _GUARD)
    positive = F.softplus(-log_ratio[:, 0])
    negatives = F.softplus(log_ratio[:, 1:]) + math.log1p(_GUARD / noise)
    return (positive + negatives.sum(1)).mean()


class Contrast(nn.Module, ABC):
    """Contrastive loss and its memory of the vectors of earlier batches."""

    def start_epoch(self, epoch: Epoch) -> None:
        """Prepare an epoch; called before its first step."""

    @abstractmethod
    def forward(self, student: Tensor, teacher: Tensor, row_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of a batch, whose vectors are then stored in the memory.

        Args:
            student: vectors (B, u).
            teacher: vectors (B, u).
            row_ids: (B,) rows of the vectors.

        Returns:
            The mean loss, and the mean number of different candidates per row.
        """


class QueueContrast(Contrast):
    """InfoNCE with the teacher's vector as anchor and negatives from a queue.

    A row's own older vectors in the queue are skipped.
    """

    def __init__(self, student: Queue, temperature: float) -> None:
        super().__init__()
        self.student = student
        self._temperature = temperature

    def forward(self, student: Tensor, teacher: Tensor, row_ids: Tensor) -> tuple[Tensor, Tensor]:
        """See `Contrast`."""
        is_own = row_ids[:, None] == self.student.row_ids
        negatives = (teacher @ self.student.vectors.T).masked_fill(is_own, -math.inf)
        loss = infonce_loss(_with_positive(student, teacher, negatives), self._temperature)
        self.student.push(*rows_of_all_workers(row_ids, student.detach()))
        return loss, 1 + (~is_own).sum(1).float().mean()


class BankContrast(Contrast):
    """InfoNCE with the teacher's vector as anchor and other rows of a memory bank as negatives."""

    def __init__(self, student: Bank, others: OtherRows, temperature: float) -> None:
        super().__init__()
        self.student = student
        self._others = others
        self._temperature = temperature

    def start_epoch(self, epoch: Epoch) -> None:
        """Draw the epoch's negatives."""
        self._others.start_epoch(epoch)

    def forward(self, student: Tensor, teacher: Tensor, row_ids: Tensor) -> tuple[Tensor, Tensor]:
        """See `Contrast`."""
        negatives = self.student.cosines(teacher, self._others.draw(row_ids))
        loss = infonce_loss(_with_positive(student, teacher, negatives), self._temperature)
        self.student.update(*rows_of_all_workers(row_ids, student.detach()))
        return loss, 1 + self._others.num_different(row_ids).float().mean()


class NceContrast(BankContrast):
    """NCE of each network's vector with the other network's memory bank.

    The two losses are averaged. The first batch of all workers sets their normalizers Z.
    """

    normalizers: Tensor

    def __init__(self, student: Bank, teacher: Bank, others: OtherRows, temperature: float) -> None:
        super().__init__(student, others, temperature)
        self.teacher = teacher
        # For the student and for the teacher as anchor; 0 until the first batch.
        self.register_buffer("normalizers", torch.zeros(2))

    def forward(self, student: Tensor, teacher: Tensor, row_ids: Tensor) -> tuple[Tensor, Tensor]:
        """See `Contrast`."""
        all_row_ids, vectors = rows_of_all_workers(
            row_ids, torch.cat([student, teacher], 1).detach()
        )
        all_students, all_teachers = vectors.chunk(2, dim=1)
        num_rows, temperature = self._others.num_rows, self._temperature
        if not self.normalizers.all():
            cosines = torch.stack(self._cosines(all_students, all_teachers, all_row_ids))
            self.normalizers = (cosines / temperature).exp().mean((1, 2)) * num_rows
        of_students, of_teachers = (
            nce_loss(cosines, normalizer, num_rows, temperature)
            for cosines, normalizer in zip(
                self._cosines(student, teacher, row_ids), self.normalizers, strict=True
            )
        )
        self.student.update(all_row_ids, all_students)
        self.teacher.update(all_row_ids, all_teachers)
        num_candidates = 1 + self._others.num_different(row_ids).float().mean()
        return (of_students + of_teachers) / 2, num_candidates

    def _cosines(self, student: Tensor, teacher: Tensor, row_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines of each network's vectors with the other's memory, twice (B, 1 + K)."""
        candidates = torch.cat([row_ids[:, None], self._others.draw(row_ids)], dim=1)
        return (
            self.teacher.cosines(student, candidates),
            self.student.cosines(teacher, candidates),
        )


def _with_positive(student: Tensor, teacher: Tensor, negatives: Tensor) -> Tensor:
    """Cosines (B, 1 + K): that of the row's own two vectors, then the negatives' (B, K)."""
    return torch.cat([(teacher * student).sum(-1, keepdim=True), negatives], dim=1)
