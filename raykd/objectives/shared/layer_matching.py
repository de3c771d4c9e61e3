"""Base class of objectives that match intermediate layers, logits and gold labels.

    task_weight * task + logit_weight * kd + layer_weight * layers

Subclasses define the last term. Each model runs one forward pass per batch.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from raykd.models.encoder import Encoder
from raykd.models.forward import run
from raykd.models.pooling import Pooling
from raykd.models.probe import Trait
from raykd.objectives.base import LossTerms, Models, Objective, ObjectiveConfig, Role
from raykd.objectives.losses.descriptions import of_labels, of_logits
from raykd.objectives.shared.settings import CachedTeacherConfig, TaskWeightConfig

Weight = Annotated[float, Field(gt=0)]
# 0 is for unlabeled text.
TaskWeight = Annotated[float, Field(ge=0)]
Temperature = Annotated[float, Field(gt=0)]


class LayerMatchingConfig(TaskWeightConfig, CachedTeacherConfig):
    """Weights of task, logit and layer loss, and the temperature of the logit loss."""

    task_weight: TaskWeight = Field(
        1 / 3,
        description="Weight of the task loss on gold labels (cross-entropy; squared error for "
        "regression); 0 for unlabeled text; 1/3 is RAIL-KD's (section 3).",
    )
    logit_weight: Weight = Field(
        1 / 3,
        description="Weight of the logit loss, T^2 KL(teacher || student) (squared error for "
        "regression); 1/3 is RAIL-KD's.",
    )
    layer_weight: Weight = Field(1 / 3, description="Weight of the layer loss; 1/3 is RAIL-KD's.")
    temperature: Temperature = Field(
        1.0,
        description="Temperature T of the logit loss; without effect for regression; the RAIL-KD "
        "paper does not give its value.",
    )

    @property
    def layer_pooling(self) -> Pooling:
        """Pooling of hidden states in the layer loss."""
        return "cls"


class LayerMatching(Objective):
    """Training on the teacher's hidden states and logits, and on gold labels.

    Attributes:
        student_layers: student layers, from 1, whose hidden states `layer_loss` needs.
        teacher_layers: teacher layers likewise.
    """

    trains_classifier = True
    config: LayerMatchingConfig
    student_layers: Sequence[int]
    teacher_layers: Sequence[int]

    @classmethod
    def traits(cls, config: ObjectiveConfig, role: Role) -> frozenset[Trait]:
        """Traits of `Objective`, and that of first tokens if `layer_pooling` is "cls"."""
        assert isinstance(config, LayerMatchingConfig)
        needed = super().traits(config, role)
        return needed | {"first_token"} if config.layer_pooling == "cls" else needed

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse models with unknown layers."""
        for encoder in (student, teacher):
            encoder.blocks()

    def __init__(self, config: LayerMatchingConfig, models: Models) -> None:
        assert models.teacher is not None
        self.check(config, models.student, models.teacher)
        super().__init__(config, models)

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        terms = {
            "layers": self.describe_layers(),
            "logits": of_logits(self.config.temperature, cached=self.config.cached_teacher),
        }
        return terms | ({"task": of_labels()} if self.needs_labels else {})

    @abstractmethod
    def describe_layers(self) -> str:
        """Description of `layer_loss`."""

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Weighted losses of a batch."""
        teacher = self.teacher_output(batch, self.teacher_layers)
        student = run(self.student, batch, layers=self.student_layers)
        # Including projections: differences of unit vectors are small.
        with torch.autocast(student.logits.device.type, enabled=False):
            layers, measures = self.layer_loss(student.hidden_states, teacher.hidden_states, batch)
        config = self.config
        terms = {
            "layers": (config.layer_weight, layers),
            "logits": (
                config.logit_weight,
                self.kd_loss(student.logits, teacher.logits, config.temperature),
            ),
        }
        if self.needs_labels:
            terms["task"] = (config.task_weight, self.task_loss(student.logits, batch))
        return LossTerms.weighted(**terms).measuring(**measures)

    @abstractmethod
    def layer_loss(
        self,
        student: Mapping[int, Tensor],
        teacher: Mapping[int, Tensor],
        batch: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss over the layers, and measures; runs without autocast.

        Args:
            student: hidden states (B, L, d_S) of `student_layers`.
            teacher: hidden states (B, L, d_T) of `teacher_layers`, or pooled ones (B, 1, d_T).
            batch: batch passed to `forward`.
        """
