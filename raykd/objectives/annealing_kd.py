"""Annealing-KD, the first phase: match the teacher's logits, scaled up epoch by epoch.

    loss = mean over rows and classes of (x_S - phi x_T)^2,    phi = 1/M, 2/M, ..., 1

with M `max_temperature`, each phi for as many epochs (as nearly as whole epochs allow). No labels
are read, so any text will do.

A recipe makes the method's two phases with the variant `task`: `injection` with this objective on
the task's rows (the authors' defaults: 14 epochs, M = 7, learning rate 2e-5, no warm-up), then
`adaptation` with `fine_tune` (4 epochs), which has an optimiser and a schedule of its own.

Source: Jafari et al. 2021, "Annealing Knowledge Distillation", and its code.
Differs from the paper: adaptation starts from the last student of the first phase, not from the one
that was best on the dev set, whose phi may have been below 1.
Differs from the authors' code: with epochs that are no multiple of M, phi stays at most 1 and ends
there (theirs goes beyond); with fewer epochs than M, each epoch has a phi of its own, M being
lowered to their number (theirs divides by zero). Scores of regression are compared row by row
(theirs broadcasts them to all pairs of rows).
"""

import logging
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from raykd.models.forward import run
from raykd.objectives.base import Epoch, LossTerms, MethodConfig, Models, Objective, TeacherPart

_LOG = logging.getLogger(__name__)


class AnnealingKdConfig(MethodConfig):
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
        """Any text will do."""
        return False

    @property
    def needs_teacher(self) -> frozenset[TeacherPart]:
        """Its logits."""
        return frozenset({"logits"})


class AnnealingKd(Objective):
    """Train the student on scaled logits of the teacher."""

    trains_classifier = True
    allows_other_tokenizer = True
    config: AnnealingKdConfig

    def __init__(self, config: AnnealingKdConfig, models: Models) -> None:
        super().__init__(config, models)
        self._scale: float | None = None

    def start_epoch(self, epoch: Epoch) -> None:
        """Choose phi."""
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
        """The loss of a batch that carries teacher_logits."""
        assert self._scale is not None, "start_epoch comes first"
        logits = run(self.student, batch).logits
        loss = annealing_loss(logits, batch["teacher_logits"], self._scale)
        return LossTerms.weighted(logits=(1.0, loss)).measuring(phi=logits.new_tensor(self._scale))


def scale_of_epoch(epoch: Epoch, max_temperature: int) -> float:
    """phi, between 0 and 1: it never falls, and is 1 in the last epoch.

    Args:
        epoch: with its number, and how many there are.
        max_temperature: how many scales there are, if there are as many epochs.
    """
    num_scales = min(max_temperature, epoch.total)
    return (1 + (epoch.number - 1) * num_scales // epoch.total) / num_scales


def annealing_loss(student_logits: Tensor, teacher_logits: Tensor, scale: float) -> Tensor:
    """Squared error to the scaled logits of the teacher, mean over rows and classes.

    Source: Jafari et al. 2021, "Annealing Knowledge Distillation", and its code.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C); (B,) will do where C is 1.
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
