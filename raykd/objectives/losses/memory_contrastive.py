"""Contrastive losses between student and teacher whose negatives come from a memory.

Shapes: N rows of the text, B rows of the batch, K negatives of a row, u width. Vectors have
length 1, so that inner products are cosines. All is computed in the vectors' precision.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raykd.objectives.base import Epoch
from raykd.objectives.losses.gather import rows_of_all_workers
from raykd.objectives.losses.memory_bank import Bank, OtherRows, Queue

# What the authors' code of CRD and CoDIR adds to its denominators.
_GUARD = 1e-7


def infonce_loss(cosines: Tensor, temperature: float) -> Tensor:
    """`-log softmax(cosines / temperature)` of the positive, mean over rows.

    Source: Sun et al. 2020 (CoDIR), section 3.

    Args:
        cosines: (B, 1 + K), the positive first; -inf for what is no candidate.
        temperature: tau > 0.
    """
    return -F.log_softmax(cosines / temperature, dim=-1)[:, 0].mean()


def nce_loss(cosines: Tensor, normaliser: Tensor, num_rows: int, temperature: float) -> Tensor:
    """Tell the positive from K draws out of N equally likely rows; sum over K, mean over rows.

    Source: the authors' code of CoDIR; Tian et al. 2020 (CRD), equation 18.

    Args:
        cosines: (B, 1 + K), the positive first.
        normaliser: Z > 0, a scalar.
        num_rows: N.
        temperature: tau > 0.
    """
    noise = (cosines.size(1) - 1) / num_rows
    # P / (P + noise) is the sigmoid of this.
    log_ratio = cosines / temperature - normaliser.log() - math.log(noise + _GUARD)
    positive = F.softplus(-log_ratio[:, 0])
    negatives = F.softplus(log_ratio[:, 1:]) + math.log1p(_GUARD / noise)
    return (positive + negatives.sum(1)).mean()


class Contrast(nn.Module, ABC):
    """A contrastive loss and its memory, which holds the vectors of the batches so far."""

    def start_epoch(self, epoch: Epoch) -> None:
        """Called before the first step of every epoch."""

    @abstractmethod
    def forward(self, student: Tensor, teacher: Tensor, row_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch, whose vectors then enter the memory.

        Args:
            student: (B, u).
            teacher: (B, u).
            row_ids: (B,).

        Returns:
            The mean loss, and how many different candidates a row had on average.
        """


class QueueContrast(Contrast):
    """InfoNCE: the teacher's vector tells the student's from those in a queue.

    A row's own older vectors in the queue are passed over.
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
    """InfoNCE: the teacher's vector tells the student's from those of other rows in a bank."""

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
    """NCE: either network's vector tells the other's of the same row, in a bank, from others'.

    Two such losses are averaged. Their normalisers Z are set by the first batch of all workers.
    """

    normalisers: Tensor

    def __init__(self, student: Bank, teacher: Bank, others: OtherRows, temperature: float) -> None:
        super().__init__(student, others, temperature)
        self.teacher = teacher
        # With the student and with the teacher as anchor; 0 until the first batch.
        self.register_buffer("normalisers", torch.zeros(2))

    def forward(self, student: Tensor, teacher: Tensor, row_ids: Tensor) -> tuple[Tensor, Tensor]:
        """See `Contrast`."""
        all_row_ids, vectors = rows_of_all_workers(
            row_ids, torch.cat([student, teacher], 1).detach()
        )
        all_students, all_teachers = vectors.chunk(2, dim=1)
        num_rows, temperature = self._others.num_rows, self._temperature
        if not self.normalisers.all():
            cosines = torch.stack(self._cosines(all_students, all_teachers, all_row_ids))
            self.normalisers = (cosines / temperature).exp().mean((1, 2)) * num_rows
        of_students, of_teachers = (
            nce_loss(cosines, normaliser, num_rows, temperature)
            for cosines, normaliser in zip(
                self._cosines(student, teacher, row_ids), self.normalisers, strict=True
            )
        )
        self.student.update(all_row_ids, all_students)
        self.teacher.update(all_row_ids, all_teachers)
        num_candidates = 1 + self._others.num_different(row_ids).float().mean()
        return (of_students + of_teachers) / 2, num_candidates

    def _cosines(self, student: Tensor, teacher: Tensor, row_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Of each network's vectors with the other's memory, twice (B, 1 + K)."""
        candidates = torch.cat([row_ids[:, None], self._others.draw(row_ids)], dim=1)
        return (
            self.teacher.cosines(student, candidates),
            self.student.cosines(teacher, candidates),
        )


def _with_positive(student: Tensor, teacher: Tensor, negatives: Tensor) -> Tensor:
    """The cosines (B, K) behind that of the row's own two vectors."""
    return torch.cat([(teacher * student).sum(-1, keepdim=True), negatives], dim=1)
