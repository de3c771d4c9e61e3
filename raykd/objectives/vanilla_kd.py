"""Vanilla-KD: match the teacher's logits, optionally together with gold labels.

    loss = task_weight * CE(student, label)
         + logit_weight * T^2 * KL(softmax(teacher / T) || softmax(student / T))

Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network" (arXiv:1503.02531).
Differs from the paper, which has classification only: regression uses the squared error of the
scores, without temperature, as AD2, MATE-KD and CoDIR do.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from raykd.models.forward import run
from raykd.objectives.base import LossTerms, Objective, TeacherPart
from raykd.objectives.losses.descriptions import of_labels, of_logits
from raykd.objectives.shared.settings import TaskWeightConfig


class VanillaKdConfig(TaskWeightConfig):
    """Settings of Vanilla-KD; defaults are AD2's baseline (Algorithm 1)."""

    name: Literal["vanilla_kd"] = Field(
        "vanilla_kd",
        description="Vanilla-KD (Hinton et al. 2015): match the teacher's logits, with gold "
        "labels or, on unlabeled text, without.",
    )
    task_weight: float = Field(
        0.5,
        ge=0,
        description="Weight of the task loss on gold labels (cross-entropy; squared error for "
        "regression); 0 for unlabeled text; equal weights as in AD2's baseline (Algorithm 1), "
        "scaled to sum to 1.",
    )
    logit_weight: float = Field(
        0.5,
        gt=0,
        description="Weight of the logit loss, T^2 KL(teacher || student) (squared error for "
        "regression); equal weights as in AD2's baseline (Algorithm 1), scaled to sum to 1.",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="Temperature T of the logit loss; without effect for regression; 1 as in "
        "AD2's baseline (Algorithm 1).",
    )

    @property
    def needs_teacher(self) -> frozenset[TeacherPart]:
        """Logits."""
        return frozenset({"logits"})


class VanillaKd(Objective):
    """Training on the teacher's logits and, if they have a weight, on gold labels."""

    trains_classifier = True
    config: VanillaKdConfig

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        terms = {"logits": of_logits(self.config.temperature, cached=True)}
        return terms | ({"task": of_labels()} if self.needs_labels else {})

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Weighted losses of a batch with teacher_logits."""
        logits = run(self.student, batch).logits
        divergence = self.kd_loss(logits, batch["teacher_logits"], self.config.temperature)
        terms = {"logits": (self.config.logit_weight, divergence)}
        if self.needs_labels:
            terms["task"] = (self.config.task_weight, self.task_loss(logits, batch))
        return LossTerms.weighted(**terms)
