"""ALP-KD: every layer of the student learns from a mixture of the teacher's, found by attention.

For the first token's vectors s_j of the student's layers and t_i of the teacher's:

    a_ji  = softmax over i of <s_j, t_i>
    z_j   = sum over i of a_ji t_i
    layers = sum over j of the mean over rows and width of (s_j - z_j)^2

Source: Passban et al. 2021, "ALP-KD: Attention-Based Layer Projection for Knowledge Distillation".
Differs from the paper: intermediate layers alone take part unless `include_last` is set, as where
RAIL-KD compares itself with ALP-KD. Where the widths differ, one linear map a network brings all
its layers to `projection_size`, as RAIL-KD does it, and attention and loss are computed there. The
teacher's map is frozen unless told otherwise: lengths count here, and two trained maps could shrink
both sides to nothing.
The authors published no code; scale, reduction and weights are those of GLMKD (third party).

`attention_J_I` among the measures is the mean weight of the teacher's layer I for the student's J.
Raw products of wide vectors make it close to one-hot; `scale: sqrt_d` divides them by the root of
the width.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from raykd.models.encoder import Encoder
from raykd.models.pooling import pooled_layers
from raykd.objectives.base import MethodConfig, Models
from raykd.objectives.losses.descriptions import of_layers
from raykd.objectives.losses.layer_maps import layers_taking_part
from raykd.objectives.losses.projections import Projection, TeacherProjection
from raykd.objectives.shared.layer_matching import (
    LayerMatching,
    LayerMatchingConfig,
    TaskWeight,
    Temperature,
    Weight,
)

Scale = Literal["none", "sqrt_d"]


class AlpKdConfig(LayerMatchingConfig):
    """Settings of ALP-KD; projections are used where teacher and student differ in width."""

    name: Literal["alp_kd"] = Field(
        "alp_kd",
        description="ALP-KD (Passban et al. 2021): match every student layer to an "
        "attention-weighted mixture of teacher layers.",
    )
    task_weight: TaskWeight = Field(
        0.1,
        description="Weight of the task loss on gold labels (cross-entropy; squared error for "
        "regression); 0 for unlabeled text; 0.1 is GLMKD's (third-party code).",
    )
    logit_weight: Weight = Field(
        0.7,
        description="Weight of the logit loss, T^2 KL(teacher || student) (squared error for "
        "regression); 0.7 is GLMKD's.",
    )
    layer_weight: Weight = Field(0.2, description="Weight of the layer loss; 0.2 is GLMKD's.")
    temperature: Temperature = Field(
        20.0,
        description="Temperature T of the logit loss; without effect for regression; 20 is "
        "GLMKD's.",
    )
    scale: Scale = Field(
        "none",
        description="Scale of the attention products: none (GLMKD) or sqrt_d (divide by the "
        "square root of the width, which spreads the attention over more layers).",
    )
    include_last: bool = Field(
        False,
        description="Let the last layers take part; false as in RAIL-KD's comparison with ALP-KD.",
    )
    projection_size: int = Field(
        128,
        ge=1,
        description="Width in which teacher and student are compared where their own widths "
        "differ.",
    )
    teacher_projection: TeacherProjection = Field(
        "frozen_orthogonal",
        description="Teacher's map to projection_size: frozen_orthogonal (random, not trained) or "
        "trainable.",
    )


def attention_over_layers(student: Tensor, teacher: Tensor, scale: Scale) -> Tensor:
    """Weights (B, m, n) of the teacher's layers for each of the student's; they sum to 1 over n.

    Args:
        student: (B, m, d).
        teacher: (B, n, d).
        scale: "none" for the plain products, "sqrt_d" divides them by the root of d.
    """
    scores = student @ teacher.transpose(1, 2)
    if scale == "sqrt_d":
        scores = scores / student.size(-1) ** 0.5
    return scores.softmax(dim=-1)


def mixture_loss(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """Mean squared distance to the weighted sum of the teacher's layers, summed over the student's.

    Args:
        student: (B, m, d).
        teacher: (B, n, d).
        weights: (B, m, n).
    """
    return (student - weights @ teacher).square().mean((0, 2)).sum()


class AlpKd(LayerMatching):
    """Train the student on mixtures of the teacher's layers, on its logits and on labels."""

    config: AlpKdConfig

    @classmethod
    def check(cls, config: MethodConfig, student: Encoder, teacher: Encoder) -> None:
        """There must be layers that take part."""
        assert isinstance(config, AlpKdConfig)
        super().check(config, student, teacher)
        for role, encoder in (("student", student), ("teacher", teacher)):
            layers_taking_part(config.name, role, encoder, include_last=config.include_last)

    def __init__(self, config: AlpKdConfig, models: Models) -> None:
        super().__init__(config, models)
        student, teacher = models.student, models.teacher
        assert teacher is not None
        self.student_layers, self.teacher_layers = (
            layers_taking_part(config.name, role, encoder, include_last=config.include_last)
            for role, encoder in (("student", student), ("teacher", teacher))
        )
        self.student_projection: Projection | None = None
        self.teacher_projection: Projection | None = None
        if student.hidden_size != teacher.hidden_size:
            self.student_projection = Projection(student.hidden_size, config.projection_size)
            self.teacher_projection = Projection(
                teacher.hidden_size,
                config.projection_size,
                frozen=config.teacher_projection == "frozen_orthogonal",
            )

    def describe_layers(self) -> str:
        """See `LayerMatching`."""
        return (
            f"first token's vectors, student's layers {of_layers(self.student_layers)} <- mixtures "
            f"of the teacher's {of_layers(self.teacher_layers)}"
        )

    def layer_loss(
        self,
        student: Mapping[int, Tensor],
        teacher: Mapping[int, Tensor],
        batch: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the mixtures, and the mean weights in them."""
        mask = batch["attention_mask"]
        wanted = pooled_layers(teacher, self.teacher_layers, mask, self.config.layer_pooling)
        given = pooled_layers(student, self.student_layers, mask, self.config.layer_pooling)
        if self.student_projection is not None and self.teacher_projection is not None:
            wanted, given = self.teacher_projection(wanted), self.student_projection(given)
        weights = attention_over_layers(given, wanted, self.config.scale)
        means = weights.mean(0)
        measures = {
            f"attention_{of_student}_{of_teacher}": means[row, column]
            for row, of_student in enumerate(self.student_layers)
            for column, of_teacher in enumerate(self.teacher_layers)
        }
        return mixture_loss(given, wanted, weights), measures
