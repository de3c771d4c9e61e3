"""MiniLMv2: match the self-attention relations (query, key and value) of one layer.

    loss = sum over X in {Q, K, V} of KL(softmax(teacher's R_X) || softmax(student's R_X)),
    R_X = X X^T / sqrt(width of a relation head); mean over heads, tokens, then rows

Source: Wang et al. 2021, "MiniLMv2: Multi-Head Self-Attention Relation Distillation for
Compressing Pretrained Transformers" (arXiv:2012.15828).
Differs from the paper: the teacher may be fine-tuned on a task first, as AD2 and the
contextualized corpus use it. The authors published no distillation code. Padding is excluded from
both sides of a relation; means are taken over a row's tokens, then over rows.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from raykd.errors import InputError
from raykd.models.encoder import Encoder
from raykd.models.families.layers import RelationVectors
from raykd.models.families.relation_layer import PAPER_LAYER, paper_relation_layer
from raykd.objectives.base import (
    LossTerms,
    Models,
    Objective,
    ObjectiveConfig,
    freeze_beyond,
)
from raykd.objectives.losses.relations import relation_loss
from raykd.objectives.shared.settings import CachedTeacherConfig, LayersOnlyConfig


class MiniLmV2Config(CachedTeacherConfig, LayersOnlyConfig):
    """Settings of MiniLMv2; defaults are the paper's for base-size teachers."""

    name: Literal["minilmv2"] = Field(
        "minilmv2",
        description="MiniLMv2 (Wang et al. 2021): match the query, key and value relations of one "
        "layer; reads neither logits nor labels.",
    )
    relation_heads: int = Field(
        48,
        ge=1,
        description="Relation heads A_r; must divide the widths of teacher and student. The paper "
        "takes 48 for teachers of base size, 64 for large ones.",
    )
    teacher_layer: int | None = Field(
        None,
        ge=1,
        description="Teacher layer to match, counted from 1. Default: 21 for BERT-large, 19 for "
        "RoBERTa-large (as in the paper), else the last layer.",
    )
    cached_teacher: bool = Field(
        False,
        description="Run the teacher once over the text instead of in every step, and keep its "
        "vectors on disk (6 bytes per token and dimension; twice that while they are computed).",
    )

    @property
    def teacher_relations(self) -> int | None:
        """Layer `teacher_layer`, if the teacher is cached."""
        return (self.teacher_layer or PAPER_LAYER) if self.cached_teacher else None


class MiniLmV2(Objective):
    """Training of the student's encoder on the relations of a teacher layer."""

    trains_classifier = False
    # Relations of all pairs of tokens are compared, and pooler and classifier are not trained.
    student_traits = frozenset({"logits", "padding", "first_token", "relations"})
    teacher_traits = student_traits
    config: MiniLmV2Config

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse relation heads that do not divide the widths, and layers that do not exist."""
        assert isinstance(config, MiniLmV2Config)
        for role, encoder in (("student", student), ("teacher", teacher)):
            if encoder.hidden_size % config.relation_heads:
                raise InputError(
                    f"minilmv2: {config.relation_heads} relation_heads do not divide the "
                    f"{role}'s width {encoder.hidden_size}; choose a number that divides the "
                    f"widths of teacher ({teacher.hidden_size}) and student "
                    f"({student.hidden_size})"
                )
        layer = config.teacher_layer or paper_relation_layer(teacher)
        if layer > teacher.num_layers:
            raise InputError(
                f"minilmv2: teacher_layer {layer} of a teacher with {teacher.num_layers} layers; "
                f"choose one from 1 to {teacher.num_layers}"
            )
        teacher.projections(layer)
        student.projections(student.num_layers)

    def __init__(self, config: MiniLmV2Config, models: Models) -> None:
        student, teacher = models.student, models.teacher
        assert teacher is not None
        self.check(config, student, teacher)
        super().__init__(config, models)
        self._teacher_layer = config.teacher_layer or paper_relation_layer(teacher)
        freeze_beyond(student, relation_layers=[student.num_layers])

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        config, student = self.config, self.student.num_layers
        layers = f"student's layer {student}, teacher's {self._teacher_layer}"
        cached = " (cached)" if config.cached_teacher else ""
        what = f"relations in {config.relation_heads} heads of"
        return {
            name: f"{what} {name} vectors: {layers}{cached}" for name in ("query", "key", "value")
        }

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Relation losses of a batch."""
        teacher = self._teacher_relations(batch)
        student = _relations(self.student, batch, self.student.num_layers)
        mask, num_heads = batch["attention_mask"], self.config.relation_heads
        return LossTerms.weighted(
            query=(1.0, relation_loss(student.query, teacher.query, mask, num_heads)),
            key=(1.0, relation_loss(student.key, teacher.key, mask, num_heads)),
            value=(1.0, relation_loss(student.value, teacher.value, mask, num_heads)),
        )

    def _teacher_relations(self, batch: Mapping[str, Tensor]) -> RelationVectors:
        assert self.teacher is not None
        if self.config.cached_teacher:
            return RelationVectors(*batch["teacher_relations"].unbind(2))
        with torch.no_grad():
            return _relations(self.teacher, batch, self._teacher_layer)


def _relations(encoder: Encoder, batch: Mapping[str, Tensor], layer: int) -> RelationVectors:
    types = batch.get("token_type_ids")
    return encoder.relations(batch["input_ids"], batch["attention_mask"], types, layer=layer)
