"""Combine-KD (CKD): match each student layer to a group of concatenated teacher layers.

    layers = sum over groups of the mean over rows, and over a row's tokens, of
             |unit(W_j h_j) - unit(concatenation of the group's layers)|^2

Each student layer j has a linear map W_j with bias to the group's concatenated width. Where the
widths of both models agree, it begins as the identity for each layer of the group (`first_maps`).

Source: Wu et al. 2020, "Why Skip If You Can Combine: A Simple Knowledge Distillation Technique for
Intermediate Layers" (arXiv:2010.03034).
Differs from the paper: the paper distils translation models from six layers to two, including the
last; here models classify, and groupings are rules for any number of layers (`grouped`) that give
the paper's groups for its numbers. Only intermediate layers are used unless `include_last` is set,
as in RAIL-KD's comparison with CKD.
Differs from the authors' code: the mean is taken over a row's tokens, then over rows, instead of
over all tokens of the batch; there are no losses of attention matrices.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from raykd.errors import InputError
from raykd.models.encoder import Encoder
from raykd.models.probe import Trait
from raykd.objectives.base import Models, ObjectiveConfig, Role
from raykd.objectives.losses.layer_maps import Layer, check_layers, layers_taking_part
from raykd.objectives.losses.projections import FirstMaps
from raykd.objectives.shared.layer_matching import (
    LayerMatching,
    LayerMatchingConfig,
    TaskWeight,
    Weight,
)

Strategy = Literal["regular", "overlap", "skip_middle", "cross", "skip_comb"]
Group = Annotated[tuple[Layer, ...], Field(min_length=1)]


class CkdConfig(LayerMatchingConfig):
    """Settings of Combine-KD; default weights are those of the authors' example."""

    name: Literal["ckd"] = Field(
        "ckd",
        description="Combine-KD, CKD (Wu et al. 2020): match every student layer to the "
        "concatenation of a group of teacher layers.",
    )
    task_weight: TaskWeight = Field(
        0.1,
        description="Weight of the task loss on gold labels (cross-entropy; squared error for "
        "regression); 0 for unlabeled text; 0.1 = 1 - alpha - beta in the authors' example.",
    )
    logit_weight: Weight = Field(
        0.2,
        description="Weight of the logit loss, T^2 KL(teacher || student) (squared error for "
        "regression); the authors' example alpha, 0.2.",
    )
    layer_weight: Weight = Field(
        0.7, description="Weight of the layer loss; the authors' example beta, 0.7."
    )
    grouping: Strategy | dict[Layer, Group] = Field(
        "regular",
        description="Teacher layers for each student layer: the paper's regular, overlap, "
        "skip_middle, cross or skip_comb, or the groups themselves, {student: [teacher, ...]}, "
        "counted from 1.",
    )
    include_last: bool = Field(
        False,
        description="Let the last layers take part in the named groupings; false as in RAIL-KD's "
        "comparison with CKD.",
    )
    tokens: Literal["all", "cls"] = Field(
        "all", description="Tokens compared: all, or cls (the first one only)."
    )
    first_maps: FirstMaps = Field(
        "equal",
        description="First weights of the student's maps: equal (each part is the student's vector "
        "itself, where both models have one width) or random.",
    )

    @model_validator(mode="after")
    def _cache_holds_tokens(self) -> Self:
        if self.cached_teacher and self.tokens == "all":
            raise ValueError(
                "cached_teacher stores one vector per row, but tokens 'all' compares all tokens; "
                "set tokens: cls, or remove cached_teacher"
            )
        return self


def grouped(strategy: Strategy, layers: Sequence[int], num_groups: int) -> list[list[int]]:
    """Split layers into `num_groups` groups; some are empty if there are too few layers.

    For layers 1 to 6 in two groups:

    - regular, runs of about equal length, longer ones first: [1, 2, 3], [4, 5, 6];
    - overlap, these runs with the adjacent layers on both sides: [1, 2, 3, 4], [3, 4, 5, 6];
    - skip_middle, runs of the layers without the middle third: [1, 2], [5, 6];
    - cross, every second layer of each run, from its first: [1, 3], [4, 6];
    - skip_comb, layers assigned to the groups in rotation: [1, 3, 5], [2, 4, 6].

    Args:
        strategy: grouping rule.
        layers: consecutive teacher layers.
        num_groups: number of student layers.
    """
    if strategy == "skip_comb":
        return [list(layers[first::num_groups]) for first in range(num_groups)]
    kept = list(layers)
    if strategy == "skip_middle":
        num_left_out = len(kept) // 3
        start = (len(kept) - num_left_out) // 2
        del kept[start : start + num_left_out]
    runs = [run.tolist() for run in np.array_split(np.array(kept, dtype=np.int64), num_groups)]
    if strategy == "cross":
        return [run[::2] for run in runs]
    if strategy == "overlap":
        return [
            [layer for layer in layers if run[0] - 1 <= layer <= run[-1] + 1] if run else []
            for run in runs
        ]
    return runs


def combined_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> Tensor:
    """Squared distance of unit vectors, mean over a row's tokens, then over rows.

    Args:
        student: (B, L, w).
        teacher: (B, L, w).
        attention_mask: (B, L), 1 for tokens and 0 for padding.
    """
    assert student.shape == teacher.shape, (student.shape, teacher.shape)
    difference = F.normalize(student, dim=-1) - F.normalize(teacher, dim=-1)
    by_token = difference.square().sum(-1)
    mask = attention_mask.to(by_token.dtype)
    return ((by_token * mask).sum(1) / mask.sum(1).clamp(min=1)).mean()


class Ckd(LayerMatching):
    """Training on groups of teacher layers, on logits and on labels."""

    config: CkdConfig

    @classmethod
    def traits(cls, config: ObjectiveConfig, role: Role) -> frozenset[Trait]:
        """Traits of `Objective`, and those of all tokens if `tokens` is "all"."""
        assert isinstance(config, CkdConfig)
        needed = super().traits(config, role)
        return needed - {"first_token"} if config.tokens == "all" else needed

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse models for which a student layer would get no teacher layer."""
        assert isinstance(config, CkdConfig)
        super().check(config, student, teacher)
        _groups(config, student, teacher)

    def __init__(self, config: CkdConfig, models: Models) -> None:
        super().__init__(config, models)
        student, teacher = models.student, models.teacher
        assert teacher is not None
        self._groups = _groups(config, student, teacher)
        self.student_layers = list(self._groups)
        self.teacher_layers = sorted({layer for group in self._groups.values() for layer in group})
        self.projections = nn.ModuleList(
            nn.Linear(student.hidden_size, len(group) * teacher.hidden_size)
            for group in self._groups.values()
        )
        if config.first_maps == "equal" and student.hidden_size == teacher.hidden_size:
            for projection, group in zip(self.projections, self._groups.values(), strict=True):
                assert isinstance(projection, nn.Linear)
                nn.init.zeros_(projection.bias)
                with torch.no_grad():
                    projection.weight.copy_(torch.eye(student.hidden_size).repeat(len(group), 1))

    def describe_layers(self) -> str:
        """See `LayerMatching`."""
        kind = "first token's" if self.config.tokens == "cls" else "tokens'"
        return f"{kind} vectors, student <- teacher: " + ", ".join(
            f"{layer} <- {'+'.join(map(str, group))}" for layer, group in self._groups.items()
        )

    def layer_loss(
        self,
        student: Mapping[int, Tensor],
        teacher: Mapping[int, Tensor],
        batch: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum of the groups' losses."""
        attention_mask = batch["attention_mask"]
        num_tokens = 1 if self.config.tokens == "cls" else attention_mask.size(1)
        losses = [
            combined_loss(
                projection(student[layer][:, :num_tokens].float()),
                torch.cat([teacher[one][:, :num_tokens].float() for one in group], dim=-1),
                attention_mask[:, :num_tokens],
            )
            for projection, (layer, group) in zip(
                self.projections, self._groups.items(), strict=True
            )
        ]
        return torch.stack(losses).sum(), {}


def _groups(config: CkdConfig, student: Encoder, teacher: Encoder) -> dict[int, list[int]]:
    """Teacher layers per student layer, in order."""
    grouping = config.grouping
    if isinstance(grouping, Mapping):
        pairs = [(layer, one) for layer, group in grouping.items() for one in group]
        check_layers(config.name, "grouping", pairs, student, teacher)
        return {layer: list(grouping[layer]) for layer in sorted(grouping)}
    layers = [
        layers_taking_part(config.name, role, encoder, include_last=config.include_last)
        for role, encoder in (("student", student), ("teacher", teacher))
    ]
    groups = grouped(grouping, layers[1], len(layers[0]))
    if not all(groups):
        raise InputError(
            f"ckd: grouping {grouping!r} cannot give each of {len(layers[0])} student layers one "
            f"of {len(layers[1])} teacher layers; choose another grouping, a student with fewer "
            "layers, or list the groups, student: [teacher, ...]"
        )
    return dict(zip(layers[0], groups, strict=True))
