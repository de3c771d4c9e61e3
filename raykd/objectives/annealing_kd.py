"""Annealing-KD, phase 1: match the teacher's logits, scaled by a factor that grows over the epochs.

    loss = mean over rows and classes of (x_S - phi x_T)^2,    phi = 1/M, 2/M, ..., 1

with M = `max_temperature` and each phi used for an equal number of epochs (up to rounding). No
labels are needed.

In a recipe, the paper's two phases are the variant `task`: `injection` with this objective on
the task's rows (the authors' defaults: 14 epochs, M = 7, learning rate 2e-5, no warm-up), then
`adaptation` with `fine_tune` (4 epochs), with a new optimizer and schedule.

Source: Jafari et al. 2021, "Annealing Knowledge Distillation" (arXiv:2104.07163), and its code.
Differs from the paper: adaptation starts from the last student of the first phase, not from the one
that was best on the dev set, whose phi may have been below 1.
Differs from the authors' code: phi never exceeds 1 and ends there if the number of epochs is not a
multiple of M (theirs exceeds it); with fewer epochs than M, M is lowered to their number (theirs
divides by zero). Regression scores are compared per row (theirs broadcasts them to all pairs of
rows).
"""

import logging
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from raykd.models.forward import run
from raykd.objectives.base import Epoch, LossTerms, Models, Objective, ObjectiveConfig, TeacherPart

_LOG = logging.getLogger(__name__)


class AnnealingKdConfig(ObjectiveConfig):
    """Settings of the first phase of Annealing-KD."""

    name: Literal["annealing_kd"] = Field(
        "annealing_kd",
        description="Annealing-KD (Jafari et al. 2021), phase 1: match the teacher's logits, "
        "scaled up from epoch to epoch; reads no labels.",
    )
    max_temperature: int = Field(
        7,
        ge=1,
        description="Number of scales M: the teacher's logits are multiplied by 1/M, 2/M, ..., 1, "
        "each for an equal share of the epochs; 7 is the authors' code's.",
    )

    @property
    def needs_labels(self) -> bool:
        """False."""
        return False

    @property
    def needs_teacher(self) -> frozenset[TeacherPart]:
        """Logits."""
        return frozenset({"logits"})


class AnnealingKd(Objective):
    """Training on scaled logits of the teacher."""

    trains_classifier = True
    config: AnnealingKdConfig

    def __init__(self, config: AnnealingKdConfig, models: Models) -> None:
        super().__init__(config, models)
        self._scale: float | None = None

    def start_epoch(self, epoch: Epoch) -> None:
        """Set phi."""
        num_scales = self.config.max_temperature
        if epoch.number == 1 and epoch.total < num_scales:
            _LOG.warning(
                "annealing_kd: max_temperature %d is lowered to the number of epochs, %d",
                num_scales,
                epoch.total,
            )
        self._scale = scale_of_epoch(epoch, num_scales)

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        scales = f"times 1/{self.config.max_temperature} at first, 1 at last"
        return {"logits": f"student's logits, teacher's logits cached, {scales}"}

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Loss of a batch with teacher_logits."""
        assert self._scale is not None, "start_epoch comes first"
        logits = run(self.student, batch).logits
        loss = annealing_loss(logits, batch["teacher_logits"], self._scale)
        return LossTerms.weighted(logits=(1.0, loss)).measuring(phi=logits.new_tensor(self._scale))


def scale_of_epoch(epoch: Epoch, max_temperature: int) -> float:
    """Scale phi in (0, 1], non-decreasing and 1 in the last epoch.

    Args:
        epoch: epoch number and number of epochs.
        max_temperature: number of scales, lowered to the number of epochs if that is smaller.
    """
    num_scales = min(max_temperature, epoch.total)
    return (1 + (epoch.number - 1) * num_scales // epoch.total) / num_scales


def annealing_loss(student_logits: Tensor, teacher_logits: Tensor, scale: float) -> Tensor:
    """Squared error to the scaled teacher logits, mean over rows and classes.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C), or (B,) if C is 1.
        scale: phi.
    """
    if student_logits.size(-1) == 1:
        teacher_logits = teacher_logits.reshape(-1, 1)
    assert student_logits.shape == teacher_logits.shape, (
        student_logits.shape,
        teacher_logits.shape,
    )
    with torch.autocast(student_logits.device.type, enabled=False):
        return (student_logits - scale * teacher_logits).square().mean()
