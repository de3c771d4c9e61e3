"""BERT-PKD: match the first token's hidden states of student and teacher layers.

    patience = mean over rows, layers and width of (unit(student) - unit(teacher))^2

Student layers 1 to m - 1 are paired with teacher layers by `layer_map`: "skip" (every second layer
for 12 to 6) or "last" (layers 7 to 11), as in the paper, or a custom map.

Encoders that are read by the mean of their tokens, such as sentence-transformers, have nearly the
same first token for all texts in lower layers, and nothing is learned from these: the measure
`teacher_cosine`, over rows, is then 1. `pooling: mean` compares the mean over tokens.

Source: Sun et al. 2019, "Patient Knowledge Distillation for BERT Model Compression"
(arXiv:1908.09355); the layer loss is "PT", the total `(1 - alpha) CE + alpha KD + beta PT`.
Differs from the paper: `reduction: mean` averages over width and layers as in the authors' code,
for which all published weights were chosen; `sum_dim` is the paper's formula, larger by a factor of
layers * width (weight 100 of `mean` equals 0.026 of `sum_dim` for five layers of width 768). If the
widths differ, one linear map per layer projects the student's vectors to the teacher's width.
Differs from the authors' code: the logit divergence is summed over classes, not averaged, so that
their alpha is a `logit_weight` of alpha / classes; rows are shuffled, and the
teacher runs in every step.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from raykd.models.encoder import Encoder
from raykd.models.pooling import Pooling, pooled_layers
from raykd.objectives.base import Models, ObjectiveConfig
from raykd.objectives.losses.descriptions import of_pairs, of_pooling
from raykd.objectives.losses.layer_maps import LayerMap, resolve_layer_map
from raykd.objectives.losses.similarity import mean_cosine
from raykd.objectives.shared.layer_matching import (
    LayerMatching,
    LayerMatchingConfig,
    TaskWeight,
    Temperature,
    Weight,
)

Reduction = Literal["mean", "sum_dim"]


class PkdConfig(LayerMatchingConfig):
    """Settings of BERT-PKD.

    Defaults are the values of the authors' code for a six-layer student (alpha 0.7, beta 500,
    temperature 10, normalized, layers by "skip"). Their code averages the divergence over classes,
    so that alpha 0.7 is a `logit_weight` of 0.35 for two classes, the default.
    """

    name: Literal["pkd"] = Field(
        "pkd",
        description="BERT-PKD (Sun et al. 2019): match the first token's vectors of intermediate "
        "layers.",
    )
    task_weight: TaskWeight = Field(
        0.3,
        description="Weight of the task loss on gold labels (cross-entropy; squared error for "
        "regression); 0 for unlabeled text; the authors' 1 - alpha (alpha 0.7; searched in 0.2, "
        "0.5, 0.7).",
    )
    logit_weight: Weight = Field(
        0.35,
        description="Weight of the logit loss, T^2 KL(teacher || student) (squared error for "
        "regression); the authors' alpha divided by the number of classes, since their code "
        "averages over classes (0.35: alpha 0.7, two classes).",
    )
    layer_weight: Weight = Field(
        500.0,
        description="Weight of the layer loss; the authors' beta (searched in 10, 100, 500, 1000).",
    )
    temperature: Temperature = Field(
        10.0,
        description="Temperature T of the logit loss; without effect for regression; the authors "
        "searched 5, 10, 20.",
    )
    layer_map: LayerMap = Field(
        "skip",
        description="Teacher layer for each student layer 1 to m - 1: skip (every second one for "
        "12 to 6), last (the last ones before the top), or a map {student: teacher}, counted from "
        "1.",
    )
    normalize: bool = Field(
        True,
        description="Give the vectors length 1 before they are compared; the authors decide per "
        "task.",
    )
    reduction: Reduction = Field(
        "mean",
        description="Squared differences: mean over layers and width (the authors' code, for "
        "which their weights were chosen) or sum_dim (sum over both, the paper's formula).",
    )
    pooling: Pooling = Field(
        "cls",
        description="Vector of a row per layer: cls (first token, paper) or mean over its tokens, "
        "for models whose first tokens differ little between texts below the last layer.",
    )

    @property
    def layer_pooling(self) -> Pooling:
        """Pooling of the setting `pooling`."""
        return self.pooling


def patience_loss(
    student: Tensor, teacher: Tensor, *, normalize: bool, reduction: Reduction
) -> Tensor:
    """Squared differences of vectors, normalized to unit length if `normalize` is set.

    Args:
        student: (B, layers, d).
        teacher: (B, layers, d).
        normalize: whether to normalize the vectors.
        reduction: "mean" over rows, layers and width, or "sum_dim" for the sum over layers and
            width, with the mean over rows.
    """
    assert student.shape == teacher.shape, (student.shape, teacher.shape)
    if normalize:
        student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    squared = (student - teacher).square()
    return squared.mean() if reduction == "mean" else squared.sum((1, 2)).mean()


class Pkd(LayerMatching):
    """Training on the first token's vectors of chosen layers, on logits and on labels."""

    config: PkdConfig

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse maps with layers that do not exist."""
        assert isinstance(config, PkdConfig)
        super().check(config, student, teacher)
        resolve_layer_map(config.name, config.layer_map, student, teacher, with_last=False)

    def __init__(self, config: PkdConfig, models: Models) -> None:
        super().__init__(config, models)
        student, teacher = models.student, models.teacher
        assert teacher is not None
        layers = resolve_layer_map(config.name, config.layer_map, student, teacher, with_last=False)
        self.student_layers, self.teacher_layers = list(layers), list(layers.values())
        widths = student.hidden_size, teacher.hidden_size
        self.projections = nn.ModuleList(
            nn.Identity() if widths[0] == widths[1] else nn.Linear(*widths) for _ in layers
        )

    def describe_layers(self) -> str:
        """See `LayerMatching`."""
        pairs = zip(self.student_layers, self.teacher_layers, strict=True)
        return f"{of_pooling(self.config.pooling)}, student <- teacher: {of_pairs(pairs)}"

    def layer_loss(
        self,
        student: Mapping[int, Tensor],
        teacher: Mapping[int, Tensor],
        batch: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Patience loss."""
        mask = batch["attention_mask"]
        teacher_vectors = pooled_layers(
            teacher, self.teacher_layers, mask, self.config.layer_pooling
        )
        student_vectors = pooled_layers(
            student, self.student_layers, mask, self.config.layer_pooling
        )
        mapped = [
            projection(vectors)
            for projection, vectors in zip(self.projections, student_vectors.unbind(1), strict=True)
        ]
        loss = patience_loss(
            torch.stack(mapped, dim=1),
            teacher_vectors,
            normalize=self.config.normalize,
            reduction=self.config.reduction,
        )
        return loss, {"teacher_cosine": mean_cosine(teacher_vectors)}
