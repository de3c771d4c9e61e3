"""Combine-KD (CKD): a layer of the student learns from a group of the teacher's, side by side.

    layers = sum over groups of the mean over rows, and over a row's tokens, of
             |unit(W_j h_j) - unit(concatenation of the group's layers)|^2

Every layer j of the student has a map W_j of its own, with bias, to the group's joined width.

Source: Wu et al. 2020, "Why Skip If You Can Combine: A Simple Knowledge Distillation Technique for
Intermediate Layers".
Differs from the paper: it translates texts, six layers to two, the last included; here text is
classified and groupings are rules for any numbers of layers (`grouped`) that give the paper's
groups for its numbers. Intermediate layers alone take part unless `include_last` is set, as where
RAIL-KD compares itself with it.
Differs from the authors' code: tokens are averaged within a row, then over rows, instead of summed
and divided by the tokens of the batch; losses of attention matrices are left out.
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
from raykd.objectives.base import MethodConfig, Models, Role
from raykd.objectives.losses.layer_maps import Layer, check_layers, layers_taking_part
from raykd.objectives.shared.layer_matching import (
    LayerMatching,
    LayerMatchingConfig,
    TaskWeight,
    Weight,
)

Strategy = Literal["regular", "overlap", "skip_middle", "cross", "skip_comb"]
Group = Annotated[tuple[Layer, ...], Field(min_length=1)]


class CkdConfig(LayerMatchingConfig):
    """Settings of Combine-KD; the weights are those of the authors' example."""

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

    @model_validator(mode="after")
    def _cache_holds_tokens(self) -> Self:
        if self.cached_teacher and self.tokens == "all":
            raise ValueError(
                "cached_teacher keeps one vector a row, and tokens 'all' compares all tokens'; set "
                "tokens: cls, or leave cached_teacher out"
            )
        return self


def grouped(strategy: Strategy, layers: Sequence[int], num_groups: int) -> list[list[int]]:
    """As many groups of layers, empty ones where there are too few.

    For layers 1 to 6 in two groups:

    - regular, runs as equal as can be, the longer ones first: [1, 2, 3], [4, 5, 6];
    - overlap, those runs and their neighbours on both sides: [1, 2, 3, 4], [3, 4, 5, 6];
    - skip_middle, runs of what is left without the third in the middle: [1, 2], [5, 6];
    - cross, every second layer of each run, from its first: [1, 3], [4, 6];
    - skip_comb, dealt out one by one: [1, 3, 5], [2, 4, 6].

    Args:
        strategy: which.
        layers: consecutive layers of the teacher.
        num_groups: layers of the student.
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

    Source: Wu et al. 2020, section 3; the authors' `_compute_internal_loss`.

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
    """Train the student on groups of the teacher's layers, on its logits and on labels."""

    config: CkdConfig

    @classmethod
    def traits(cls, config: MethodConfig, role: Role) -> frozenset[Trait]:
        """See `Objective`; all tokens are compared where `tokens` is "all"."""
        assert isinstance(config, CkdConfig)
        needed = super().traits(config, role)
        return needed - {"first_token"} if config.tokens == "all" else needed

    @classmethod
    def check(cls, config: MethodConfig, student: Encoder, teacher: Encoder) -> None:
        """Every layer of the student that takes part must get a layer of the teacher."""
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

    def describe_layers(self) -> str:
        """See `LayerMatching`."""
        whose = "first token's" if self.config.tokens == "cls" else "tokens'"
        return f"{whose} vectors, student <- teacher: " + ", ".join(
            f"{layer} <- {'+'.join(map(str, group))}" for layer, group in self._groups.items()
        )

    def layer_loss(
        self,
        student: Mapping[int, Tensor],
        teacher: Mapping[int, Tensor],
        batch: Mapping[str, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses of all groups."""
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
    """The teacher's layers for each of the student's that takes part, in order."""
    wanted = config.grouping
    if isinstance(wanted, Mapping):
        pairs = [(layer, one) for layer, group in wanted.items() for one in group]
        check_layers(config.name, "grouping", pairs, student, teacher)
        return {layer: list(wanted[layer]) for layer in sorted(wanted)}
    layers = [
        layers_taking_part(config.name, role, encoder, include_last=config.include_last)
        for role, encoder in (("student", student), ("teacher", teacher))
    ]
    groups = grouped(wanted, layers[1], len(layers[0]))
    if not all(groups):
        raise InputError(
            f"ckd: grouping {wanted!r} cannot give each of {len(layers[0])} layers of the student "
            f"one of the teacher's {len(layers[1])}; choose another, a student of fewer layers, or "
            "give the groups themselves, student: [teacher, ...]"
        )
    return dict(zip(layers[0], groups, strict=True))
