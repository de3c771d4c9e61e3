"""RAIL-KD: match student layers to teacher layers drawn at random per epoch.

Every epoch draws m - 1 of the teacher's intermediate layers 1 to n - 1 without replacement, and
pairs them in order with the student's. Vectors are token means, mapped linearly and normalized:

    layer_wise    layers = mean over rows of the sum over pairs i of alpha_i |t_i - s_i|^2
    concatenated  layers = mean over rows of |t - s|^2, the pairs' vectors concatenated first

`matching: contrastive` replaces the squared distance by the contrastive loss that section 3.2 names
as an alternative: `-log softmax_j(cos(t_k, s_j) / T)[k]` over the rows j of the batch, as in CILDA
by the same authors. Its minimum is not a single direction for all texts.

Source: Haidar et al. 2022, "RAIL-KD: RAndom Intermediate Layer Mapping for Knowledge Distillation"
(arXiv:2109.10164).
Differs from the paper: sums over rows are means, and padding is excluded from the mean over tokens.
The paper does not say whether layers share a map: `projections: shared` has one per network,
`per_slot` one per pair, whose teacher layer changes. Maps have no bias.
The authors published no code.

Since both maps are trained, mapping all texts to one direction minimizes the loss. The measure
`teacher_cosine`, the mean cosine of two rows' projected teacher vectors, is then 1.
`teacher_projection: frozen_orthogonal` and `matching: contrastive` exclude this minimum. Two
independent maps lead a pretrained student there, since even equal vectors are far from each other
at first; so the student's map begins as the teacher's where it can (`first_maps: equal`).
The measure `teacher_layer_J` is the layer drawn for student layer J in the epoch.
"""

from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from raykd.errors import InputError
from raykd.models.encoder import Encoder
from raykd.models.pooling import Pooling, pooled_layers
from raykd.objectives.base import Epoch, Models, ObjectiveConfig
from raykd.objectives.losses.descriptions import of_layers, of_pooling
from raykd.objectives.losses.in_batch_contrastive import in_batch_loss
from raykd.objectives.losses.layer_maps import layers_taking_part
from raykd.objectives.losses.projections import FirstMaps, Projection, TeacherProjection
from raykd.objectives.losses.similarity import mean_cosine
from raykd.objectives.shared.layer_matching import LayerMatching, LayerMatchingConfig, Weight


class RailKdConfig(LayerMatchingConfig):
    """Settings of RAIL-KD; equal weights and width 128 are the paper's, the temperature is not."""

    name: Literal["rail_kd"] = Field(
        "rail_kd",
        description="RAIL-KD (Haidar et al. 2022): match intermediate layers to teacher layers "
        "drawn at random every epoch.",
    )
    total_weight: float | None = Field(
        None,
        gt=0,
        description="Sum that task_weight, logit_weight and layer_weight must have (1 in the "
        "paper); not checked where not student_vectors.",
    )
    pair_weights: tuple[Weight, ...] | None = Field(
        None,
        description="Weight alpha of each pair of layers, lowest first, one per intermediate "
        "layer of the student. Default: 1 each, as in the paper.",
    )
    pooling: Pooling = Field(
        "mean",
        description="Vector of a row per layer: mean over its tokens (paper) or cls (first token).",
    )
    matching: Literal["squared", "contrastive"] = Field(
        "squared",
        description="Loss of matched vectors: squared distance (the paper's main loss) or "
        "contrastive (section 3.2's alternative).",
    )
    contrastive_temperature: float = Field(
        2.0, gt=0, description="Temperature of the contrastive matching; 2 is CILDA's."
    )
    gather_negatives: bool = Field(
        True,
        description="Contrast each row with the rows of all workers; false: with those of its own "
        "worker only.",
    )
    variant: Literal["layer_wise", "concatenated"] = Field(
        "layer_wise",
        description="layer_wise: compare each pair of layers; concatenated: concatenate the "
        "layers of each network and compare once (both in the paper).",
    )
    projections: Literal["shared", "per_slot"] = Field(
        "shared",
        description="Linear maps of the layer_wise variant: shared (one per network) or per_slot "
        "(one per pair); the paper leaves it open.",
    )
    projection_size: int = Field(
        128, ge=1, description="Width u of the compared vectors; 128 in the paper."
    )
    teacher_projection: TeacherProjection = Field(
        "trainable",
        description="Teacher's map: trainable (paper) or frozen_orthogonal (random, not trained), "
        "which rules out mapping every text to one direction.",
    )
    first_maps: FirstMaps = Field(
        "equal",
        description="First weights of the maps: equal (the student's are the teacher's, where the "
        "vectors of both have one width) or random (independent); the paper leaves it open.",
    )

    @property
    def layer_pooling(self) -> Pooling:
        """Pooling of the setting `pooling`."""
        return self.pooling

    @property
    def mixes_examples(self) -> bool:
        """True for contrastive matching, whose negatives are the batch's other rows."""
        return self.matching == "contrastive"

    @model_validator(mode="after")
    def _weights_have_their_total(self) -> Self:
        total = self.task_weight + self.logit_weight + self.layer_weight
        if self.total_weight is not None and abs(total - self.total_weight) > 1e-6:
            raise ValueError(
                f"task_weight, logit_weight and layer_weight sum to {total:g}, but total_weight is "
                f"{self.total_weight:g}; change the weights or total_weight"
            )
        return self

    @model_validator(mode="after")
    def _projections_have_slots(self) -> Self:
        if self.variant == "concatenated" and self.pair_weights is not None:
            raise ValueError(
                "pair_weights have no effect with variant: concatenated, which has one term; "
                "remove them, or set variant: layer_wise"
            )
        if self.variant == "concatenated" and self.projections == "per_slot":
            raise ValueError(
                "projections has no effect with variant: concatenated, which has one map per "
                "network; remove it, or set variant: layer_wise"
            )
        return self


def draw_layers(epoch: Epoch, num_drawn: int, num_layers: int) -> list[int]:
    """Draw distinct layers from 1 to `num_layers`, ascending; a function of seed and epoch."""
    generator = np.random.default_rng([epoch.seed, epoch.number])
    drawn = generator.choice(num_layers, num_drawn, replace=False)
    return sorted((drawn + 1).tolist())


def rail_loss(student: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """Squared distance of unit vectors, weighted sum over slots, mean over rows: 0 to 4 per slot.

    The concatenated variant has a single slot.

    Args:
        student: (B, slots, u).
        teacher: (B, slots, u).
        weights: (slots,) weights alpha.
    """
    assert student.shape == teacher.shape, (student.shape, teacher.shape)
    difference = F.normalize(student, dim=-1) - F.normalize(teacher, dim=-1)
    return (difference.square().sum(2) @ weights).mean()


class RailKd(LayerMatching):
    """Training on teacher layers drawn per epoch, on logits and on labels."""

    config: RailKdConfig

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse a student without, or with more, intermediate layers than the teacher."""
        super().check(config, student, teacher)
        num_slots = len(layers_taking_part(config.name, "student", student, include_last=False))
        if teacher.num_layers - 1 < num_slots:
            raise InputError(
                f"rail_kd: the student has {num_slots} intermediate layers, the teacher only "
                f"{teacher.num_layers - 1}; choose a teacher with at least {num_slots + 1} layers, "
                f"or a student with at most {teacher.num_layers}"
            )
        assert isinstance(config, RailKdConfig)
        if config.pair_weights is not None and len(config.pair_weights) != num_slots:
            raise InputError(
                f"rail_kd: pair_weights has {len(config.pair_weights)} values, the student has "
                f"{num_slots} intermediate layers; give one value per layer"
            )

    def __init__(self, config: RailKdConfig, models: Models) -> None:
        super().__init__(config, models)
        student, teacher = models.student, models.teacher
        assert teacher is not None
        self.student_layers = layers_taking_part(
            config.name, "student", student, include_last=False
        )
        num_slots = len(self.student_layers)
        joined = num_slots if config.variant == "concatenated" else 1
        num_maps = num_slots if config.projections == "per_slot" else 1
        self.student_projection = Projection(
            joined * student.hidden_size, config.projection_size, num_maps=num_maps
        )
        self.teacher_projection = Projection(
            joined * teacher.hidden_size,
            config.projection_size,
            num_maps=num_maps,
            frozen=config.teacher_projection == "frozen_orthogonal",
        )
        if config.first_maps == "equal":
            self.student_projection.copy(self.teacher_projection)

    def start_epoch(self, epoch: Epoch) -> None:
        """Draw the epoch's teacher layers, the same on every worker."""
        assert self.teacher is not None
        num_slots, num_layers = len(self.student_layers), self.teacher.num_layers - 1
        self.teacher_layers = draw_layers(epoch, num_slots, num_layers)

    def describe_layers(self) -> str:
        """See `LayerMatching`."""
        assert self.teacher is not None
        num_slots, last = len(self.student_layers), self.teacher.num_layers - 1
        return (
            f"{of_pooling(self.config.pooling)}, student's layers "
            f"{of_layers(self.student_layers)} <- {num_slots} of the teacher's 1 to {last}, drawn "
            "every epoch"
        )

    def layer_loss(
        self,
        student: Mapping[int, Tensor],
        teacher: Mapping[int, Tensor],
        batch: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of the epoch's pairs, and measures of the pairs and of collapse."""
        pooling, attention_mask = self.config.layer_pooling, batch["attention_mask"]
        teacher_vectors = pooled_layers(teacher, self.teacher_layers, attention_mask, pooling)
        student_vectors = pooled_layers(student, self.student_layers, attention_mask, pooling)
        if self.config.variant == "concatenated":
            teacher_vectors, student_vectors = (
                teacher_vectors.flatten(1)[:, None],
                student_vectors.flatten(1)[:, None],
            )
        teacher_vectors, student_vectors = (
            self.teacher_projection(teacher_vectors),
            self.student_projection(student_vectors),
        )
        measures = {"teacher_cosine": mean_cosine(teacher_vectors)}
        for of_student, of_teacher in zip(self.student_layers, self.teacher_layers, strict=True):
            measures[f"teacher_layer_{of_student}"] = teacher_vectors.new_full((), of_teacher)
        weights = teacher_vectors.new_tensor(
            self.config.pair_weights or [1.0] * teacher_vectors.size(1)
        )
        if self.config.matching == "squared":
            return rail_loss(student_vectors, teacher_vectors, weights), measures
        losses = [
            in_batch_loss(
                anchors,
                candidates,
                batch["row_ids"],
                self.config.contrastive_temperature,
                gather=self.config.gather_negatives,
            )
            for anchors, candidates in zip(
                teacher_vectors.unbind(1), student_vectors.unbind(1), strict=True
            )
        ]
        measures["num_candidates"] = losses[0][1]
        return torch.stack([loss for loss, _ in losses]) @ weights, measures
