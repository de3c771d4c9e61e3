"""TinyBERT, intermediate stage: match hidden states and attention scores of all layers.

    loss = sum over i = 1..m of MSE(A_S[i], A_T[g(i)])
         + sum over i = 0..m of MSE(W h_S[i], h_T[g(i)]),    g(i) = i n / m

with A the attention scores before the softmax, after their scaling; h[0] the output of the
embeddings; m and n the layers of student and teacher; W a linear map to the teacher's width.

In a recipe this is the injection, on any text. The paper's second stage, on the same text, is an
adaptation with `vanilla_kd`, task_weight 0 and temperature 1 (for regression `fine_tune`, as the
authors train on labels there).

Source: Jiao et al. 2020, "TinyBERT: Distilling BERT for Natural Language Understanding"
(arXiv:1909.10351), equations 7 to 9, and the task-specific part of its code.
Differs from the paper: one W for the embeddings and all layers, as in the authors' code
(`projection: per_layer` has one W each; the paper has one for the embeddings, one for the layers).
Differs from the authors' code: padding is excluded; means are taken over the tokens (or pairs of
tokens) of a row, then over rows; `mask_padding: false` includes padding as they do. Padding is
determined by the attention mask, not by scores below -100.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from raykd.models.encoder import Encoder
from raykd.models.forward import run
from raykd.objectives.base import (
    LossTerms,
    Models,
    Objective,
    ObjectiveConfig,
    freeze_beyond,
)
from raykd.objectives.losses.hidden_and_attention import (
    ProjectionSharing,
    TokenMaps,
    check_token_maps,
)
from raykd.objectives.shared.settings import LayersOnlyConfig


class TinyBertConfig(LayersOnlyConfig):
    """Settings of TinyBERT's intermediate stage."""

    name: Literal["tinybert"] = Field(
        "tinybert",
        description="TinyBERT (Jiao et al. 2020), intermediate stage: match hidden states and "
        "attention scores of all layers; reads no labels.",
    )
    projection: ProjectionSharing = Field(
        "shared",
        description="Linear maps from the student's to the teacher's width: shared (one for "
        "embeddings and all layers, as in the authors' code) or per_layer.",
    )
    mask_padding: bool = Field(
        True,
        description="Leave padding out of the means; false counts it, as the authors' code does.",
    )


class TinyBert(Objective):
    """Training of the student's encoder on the teacher's hidden states and attention scores."""

    trains_classifier = False
    # Relations of all pairs of tokens are compared, and pooler and classifier are not trained.
    student_traits = frozenset({"logits", "padding", "first_token", "relations"})
    teacher_traits = student_traits
    config: TinyBertConfig

    @classmethod
    def check(cls, config: ObjectiveConfig, student: Encoder, teacher: Encoder) -> None:
        """Refuse models whose layers or attention scores cannot be compared."""
        check_token_maps("tinybert", student, teacher, attention=True)

    def __init__(self, config: TinyBertConfig, models: Models) -> None:
        student, teacher = models.student, models.teacher
        assert teacher is not None
        self.check(config, student, teacher)
        super().__init__(config, models)
        self.maps = TokenMaps(
            student, teacher, projection=config.projection, mask_padding=config.mask_padding
        )
        freeze_beyond(student, layers=[student.num_layers])

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        return self.maps.describe()

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Sums of both losses over the layers."""
        assert self.teacher is not None
        with torch.no_grad():
            teacher = run(self.teacher, batch, **self.maps.of_teacher)
        student = run(self.student, batch, **self.maps.of_student)
        losses = self.maps(student, teacher, batch["attention_mask"])
        return LossTerms.weighted(**{name: (1.0, loss) for name, loss in losses.items()})
