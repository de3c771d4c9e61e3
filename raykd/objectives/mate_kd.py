"""MATE-KD: match the teacher's logits on the text and on adversarially generated text.

With x the text, x' its version rewritten by the generator (see `generation`) and D the divergence
of student and teacher: generator steps minimize -D(x'), student steps
`1/3 CE(x) + 1/3 D(x) + 1/3 D(x')`.

Source: Rashid et al. 2021, "MATE-KD: Masked Adversarial TExt, a Companion to Knowledge
Distillation" (arXiv:2105.05912), equations 2 to 9.
Differs from the authors' code: D is the KL divergence; `divergence: soft_ce` selects their
cross-entropy, with which the generator also maximizes the teacher's entropy. The student uses AdamW
without a fixed number of warm-up steps. See also `generation`.
"""

from collections.abc import Mapping
from typing import Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from raykd.models.forward import run
from raykd.objectives.base import LossTerms
from raykd.objectives.losses.descriptions import of_labels, of_logits
from raykd.objectives.losses.logits import kd_loss, soft_cross_entropy
from raykd.objectives.shared.generation import GENERATOR, GeneratorConfig, GeneratorObjective

Divergence = Literal["kl", "soft_ce"]


class MateKdConfig(GeneratorConfig):
    """Settings of MATE-KD; D has temperature 1."""

    name: Literal["mate_kd"] = Field(
        "mate_kd",
        description="MATE-KD (Rashid et al. 2021): match the teacher's logits also on text that a "
        "generator writes to widen their gap.",
    )
    aug_logit_weight: float = Field(
        1 / 3,
        gt=0,
        description="Weight of the divergence of teacher and student on generated text; 1/3 in "
        "the paper.",
    )
    divergence: Divergence = Field(
        "kl",
        description="kl: KL(teacher || student); soft_ce: cross-entropy, as in the authors' code, "
        "by which the generator also seeks text that the teacher is uncertain about.",
    )


class MateKd(GeneratorObjective):
    """Training on labels and the teacher's logits, on original and generated text."""

    config: MateKdConfig

    def describe(self) -> dict[str, str]:
        """See `Objective`."""
        terms = {
            "logits": of_logits(1.0, cached=True),
            "aug_logits": of_logits(1.0, cached=False) + ", on generated text",
        }
        return terms | ({"task": of_labels()} if self.needs_labels else {})

    def forward(self, batch: Mapping[str, Tensor]) -> LossTerms:
        """Losses of a batch with teacher_logits, for the active player."""
        assert self.teacher is not None
        config, text = self.config, self._generate(batch)
        student = run(self.student, batch, word_embeddings=text.word_embeddings(self.student))
        teacher = run(self.teacher, batch, word_embeddings=text.word_embeddings(self.teacher))
        gap = self._divergence(student.logits, teacher.logits)
        if self._player == GENERATOR:
            return LossTerms.weighted(aug_logits=(-1.0, gap))
        logits = run(self.student, batch).logits
        known_gap = self._divergence(logits, batch["teacher_logits"])
        terms = {
            "logits": (config.logit_weight, known_gap),
            "aug_logits": (config.aug_logit_weight, gap),
        }
        if self.needs_labels:
            terms["task"] = (config.task_weight, self.task_loss(logits, batch))
        return LossTerms.weighted(**terms)

    def _divergence(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        kind, multi_label = self.config.divergence, self.student.is_multi_label
        return divergence(logits, teacher_logits, kind, multi_label=multi_label)


def divergence(
    student_logits: Tensor, teacher_logits: Tensor, kind: Divergence, *, multi_label: bool = False
) -> Tensor:
    """KL divergence or cross-entropy between teacher and student, mean over rows.

    `soft_ce` is `-sum_c softmax(teacher)_c log softmax(student)_c`, KL plus the teacher's entropy,
    whose gradient differs for the generator only. With one class both are the squared error. With
    `multi_label` both are those of each class's two outcomes, mean over rows and classes.

    Args:
        student_logits: (B, C).
        teacher_logits: (B, C), or (B,) if C is 1.
        kind: kind of divergence.
        multi_label: whether rows have any number of classes.
    """
    if kind == "kl" or student_logits.size(-1) == 1:
        return kd_loss(student_logits, teacher_logits, temperature=1.0, multi_label=multi_label)
    if multi_label:
        return soft_cross_entropy(student_logits, teacher_logits)
    return F.cross_entropy(student_logits, teacher_logits.softmax(-1))
