"""ALP-KD: match each student layer to an attention-weighted mixture of teacher layers.

For the first token's vectors s_j of the student's layers and t_i of the teacher's:

    a_ji  = softmax over i of <s_j, t_i>
    z_j   = sum over i of a_ji t_i
    layers = sum over j of the mean over rows and width of (s_j - z_j)^2

Source: Passban et al. 2021, "ALP-KD: Attention-Based Layer Projection for Knowledge Distillation"
(arXiv:2012.14022).
Differs from the paper: only intermediate layers are used unless `include_last` is set, as in
RAIL-KD's comparison with ALP-KD. If the widths differ, one linear map per network projects all its
layers to `projection_size`, as in RAIL-KD, and attention and loss are computed there. The teacher's
map is frozen by default: the loss depends on vector lengths, and two trained maps could shrink both
sides to zero.
The authors published no code; scale, reduction and weights are those of GLMKD (third party).

`pooling: mean` compares means over tokens, for encoders with nearly the same first tokens for all
texts in lower layers; the measure `teacher_cosine`, over rows, is then 1.

The measure `attention_J_I` is the mean weight of teacher layer I for student layer J. Unscaled
products of wide vectors make the weights almost one-hot; `scale: sqrt_d` divides the products by
the square root of the width.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from torch import Tensor

from raykd.models.encoder import Encoder
from raykd.models.pooling import Pooling, pooled_layers
from raykd.objectives.base import Models, ObjectiveConfig
from raykd.objectives.losses.descriptions import of_layers, of_pooling
from raykd.objectives.losses.layer_maps import layers_taking_part
from raykd.objectives.losses.projections import Projection, TeacherProjection
from raykd.objectives.losses.similarity import mean_cosine
from raykd.objectives.shared.layer_matching import (
    LayerMatching,
    LayerMatchingConfig,
    TaskWeight,
    Temperature,
    Weight,
)

Scale = Literal["none", "sqrt_d"]


class AlpKdConfig(LayerMatchingConfig):
    """Settings of ALP-KD; projections are used if teacher and student differ in width."""

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
    pooling: Pooling = Field(
        "cls",
        description="Vector of a row per layer: cls (first token, paper) or mean over its tokens, "
        "for models whose first tokens differ little between texts below the last layer.",
    )
    teacher_projection: TeacherProjection = Field(
        "frozen_orthogonal",
        description="Teacher's map to projection_size: frozen_orthogonal (random, not trained) or "
        "trainable.",
    )

    @property
    def layer_pooling(self) -> Pooling:
        """Pooling of the setting `pooling`."""
        return self.pooling


def attention_over_layers(student: Tensor, teacher: Tensor, scale: Scale) -> Tensor:
    """Weights (B, m, n) of the teacher's layers per student layer; they sum to 1 over n.

    Args:
        student: vectors (B, m, d).
        teacher: vectors (B, n, d).
        scale: "none" for unscaled products, "sqrt_d" to divide them by the square root of d.
    """
    scores = student @ teacher.transpose(1, 2)
    if scale == "sqrt_d":
        scores = scores / student.size(-1) ** 0.5
    return scores.softmax(dim=-1)


def mixture_loss(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """Mean squared distance to the weighted sum of teacher layers, summed over student layers.

    Args:
        student: vectors (B, m, d).
        teacher: vectors (B, n, d).
        weights: attention weights (B, m, n).
    """
    return (student - weights @ teacher).square().mean((0, 2)).sum()


class AlpKd(LayerMatching):
    """Training on mixtures of teacher layers, on logits and on labels."""

    config: AlpKdConfig

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse models without layers to compare."""
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
            f"{of_pooling(self.config.pooling)}, student's layers "
            f"{of_layers(self.student_layers)} <- mixtures of the teacher's "
            f"{of_layers(self.teacher_layers)}"
        )

    def layer_loss(
        self,
        student: Mapping[int, Tensor],
        teacher: Mapping[int, Tensor],
        batch: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the mixtures, and their mean weights."""
        mask = batch["attention_mask"]
        teacher_vectors = pooled_layers(
            teacher, self.teacher_layers, mask, self.config.layer_pooling
        )
        student_vectors = pooled_layers(
            student, self.student_layers, mask, self.config.layer_pooling
        )
        if self.student_projection is not None and self.teacher_projection is not None:
            teacher_vectors, student_vectors = (
                self.teacher_projection(teacher_vectors),
                self.student_projection(student_vectors),
            )
        weights = attention_over_layers(student_vectors, teacher_vectors, self.config.scale)
        means = weights.mean(0)
        measures = {
            f"attention_{of_student}_{of_teacher}": means[row, column]
            for row, of_student in enumerate(self.student_layers)
            for column, of_teacher in enumerate(self.teacher_layers)
        }
        measures["teacher_cosine"] = mean_cosine(teacher_vectors)
        return mixture_loss(student_vectors, teacher_vectors, weights), measures
