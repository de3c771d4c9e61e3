"""RAIL-KD: match the student's layers to layers of the teacher that every epoch draws anew.

Of the teacher's intermediate layers 1 to n - 1 every epoch draws as many as the student has,
m - 1, without replacement, and pairs them in order. Mean over tokens, linear map, unit length:

    layer_wise    layers = mean over rows of the sum over pairs of |t - s|^2
    concatenated  layers = mean over rows of |t - s|^2, the pairs' vectors joined before the map

Source: Haidar et al. 2022, "RAIL-KD: RAndom Intermediate Layer Mapping for Knowledge Distillation".
Differs from the paper: sums over rows are read as means, and padding is left out of the mean over
tokens. The paper does not say whether layers share a map: `projections: shared` has one a network,
`per_slot` one for each pair, whose teacher layer changes. Maps have no bias.
The authors published no code.

Both maps being trained, sending all texts to one direction satisfies the loss: watch
`teacher_cosine` among the measures, the mean cosine of two rows' projected teacher vectors, which
is 1 then; `teacher_projection: frozen_orthogonal` rules it out. `teacher_layer_J` is the layer that
the epoch drew for the student's layer J. A training of one epoch has one draw.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from raykd.errors import InputError
from raykd.models.encoder import Encoder
from raykd.models.pooling import Pooling, pooled_layers
from raykd.objectives.base import Epoch, MethodConfig, Models
from raykd.objectives.descriptions import of_layers
from raykd.objectives.layer_maps import layers_taking_part
from raykd.objectives.layer_matching import LayerMatching, LayerMatchingConfig
from raykd.objectives.projections import Projection, TeacherProjection


class RailKdConfig(LayerMatchingConfig):
    """Equal weights and a width of 128 are the paper's; it does not name its temperature."""

    pooling: ClassVar[Pooling] = "mean"

    name: Literal["rail_kd"] = "rail_kd"
    variant: Literal["layer_wise", "concatenated"] = "layer_wise"
    projections: Literal["shared", "per_slot"] = "shared"
    projection_size: int = Field(128, ge=1)
    teacher_projection: TeacherProjection = "trainable"

    @model_validator(mode="after")
    def _projections_have_slots(self) -> Self:
        if self.variant == "concatenated" and self.projections == "per_slot":
            raise ValueError(
                "the concatenated variant has one map a network; leave out 'projections', or set "
                "variant: layer_wise"
            )
        return self


def draw_layers(epoch: Epoch, num_drawn: int, num_layers: int) -> list[int]:
    """Different layers from 1 to `num_layers`, ascending; a function of seed and epoch alone."""
    generator = np.random.default_rng([epoch.seed, epoch.number])
    drawn = generator.choice(num_layers, num_drawn, replace=False)
    return sorted((drawn + 1).tolist())


def rail_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of unit vectors, summed over slots, mean over rows: 0 to 4 a slot.

    Source: Haidar et al. 2022, section 3, layer-wise; concatenated with a single slot.

    Args:
        student: (B, slots, u).
        teacher: (B, slots, u).
    """
    assert student.shape == teacher.shape, (student.shape, teacher.shape)
    difference = F.normalize(student, dim=-1) - F.normalize(teacher, dim=-1)
    return difference.square().sum((1, 2)).mean()


def mean_pairwise_cosine(vectors: Tensor) -> Tensor:
    """Mean cosine of all pairs of different rows of (B, d): 1 where all point the same way.

    A single row has no pair: 0.
    """
    unit = F.normalize(vectors.float(), dim=-1)
    num_rows = len(unit)
    if num_rows < 2:
        return unit.new_zeros(())
    total = unit.sum(0).square().sum() - unit.square().sum()
    return total / (num_rows * (num_rows - 1))


class RailKd(LayerMatching):
    """Train the student on layers of the teacher drawn every epoch, on its logits and on labels."""

    config: RailKdConfig

    @classmethod
    def check(cls, config: MethodConfig, student: Encoder, teacher: Encoder) -> None:
        """The teacher must have as many intermediate layers as the student, which must have one."""
        super().check(config, student, teacher)
        num_slots = len(layers_taking_part(config.name, "student", student, include_last=False))
        if teacher.num_layers - 1 < num_slots:
            raise InputError(
                f"rail_kd: the {num_slots} intermediate layers of the student need as many of the "
                f"teacher, which has {teacher.num_layers - 1}; choose a teacher of at least "
                f"{num_slots + 1} layers, or a student of at most {teacher.num_layers}"
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

    def start_epoch(self, epoch: Epoch) -> None:
        """Draw the epoch's layers of the teacher, the same on every worker."""
        assert self.teacher is not None
        num_slots, num_layers = len(self.student_layers), self.teacher.num_layers - 1
        self.teacher_layers = draw_layers(epoch, num_slots, num_layers)

    def describe_layers(self) -> str:
        """See `LayerMatching`."""
        assert self.teacher is not None
        num_slots, last = len(self.student_layers), self.teacher.num_layers - 1
        return (
            f"tokens' mean vectors, student's layers {of_layers(self.student_layers)} <- "
            f"{num_slots} of the teacher's 1 to {last}, drawn every epoch"
        )

    def layer_loss(
        self, student: Mapping[int, Tensor], teacher: Mapping[int, Tensor], attention_mask: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the epoch's pairs, which they are, and whether the maps collapse."""
        wanted = pooled_layers(teacher, self.teacher_layers, attention_mask, self.config.pooling)
        given = pooled_layers(student, self.student_layers, attention_mask, self.config.pooling)
        if self.config.variant == "concatenated":
            wanted, given = wanted.flatten(1)[:, None], given.flatten(1)[:, None]
        wanted, given = self.teacher_projection(wanted), self.student_projection(given)
        cosines = [mean_pairwise_cosine(vectors) for vectors in wanted.unbind(1)]
        measures = {"teacher_cosine": torch.stack(cosines).mean()}
        for of_student, of_teacher in zip(self.student_layers, self.teacher_layers, strict=True):
            measures[f"teacher_layer_{of_student}"] = wanted.new_full((), of_teacher)
        return rail_loss(given, wanted), measures
